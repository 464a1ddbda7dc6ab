from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emu.arch.profiles import profile
from lab.conformance import run
from lab.conformance.deviations import Deviation
from lab.conformance.execute import execute
from lab.conformance.parse import parse
from lab.conformance.run import ProfileResult, Verdict, run_profile
from tests.lab.conformance.conftest import HVC_0

if TYPE_CHECKING:
    import pytest

    from lab.conformance.cases import Case
    from lab.conformance.execute import Run
    from lab.conformance.setup import Bench

A72 = profile("cortex-a72")
MAX = profile("max")
LDG = "0xd9600020"
WRONG_SPSR = Deviation("made/*", "spsr", "a rule", "a reason")


def _run(*contents: dict[str, Any], deviations: tuple[Deviation, ...] = ()) -> ProfileResult:
    return run_profile([parse(each, "") for each in contents], A72, deviations)


def _verdicts(result: ProfileResult) -> list[Verdict]:
    return [each.verdict for each in result.cases]


def test_equal_and_different_cases_are_told_apart(
    content: dict[str, Any], faulting: dict[str, Any]
) -> None:
    wrong = faulting | {"name": "made/wrong", "expect": [dict(faulting["expect"][0])]}
    wrong["expect"][0]["steps"] = [faulting["expect"][0]["steps"][0] | {"spsr": "0x3c4"}]
    result = _run(content, wrong)
    assert _verdicts(result) == [Verdict.EQUAL, Verdict.DIFFERENT]
    assert [each.field for each in result.cases[1].differences] == ["spsr"]


def test_a_case_without_an_answer_is_counted_apart(content: dict[str, Any]) -> None:
    content["expect"][0]["profiles"] = ["max"]
    assert _verdicts(_run(content)) == [Verdict.OTHER_PROFILE]


def test_a_listed_deviation_is_no_difference(faulting: dict[str, Any]) -> None:
    faulting["expect"][0]["steps"][0]["spsr"] = "0x3c4"
    result = _run(faulting, deviations=(WRONG_SPSR,))
    assert _verdicts(result) == [Verdict.LISTED]
    assert result.deviations() == {WRONG_SPSR: 1}


def test_a_deviation_covers_its_field_only(faulting: dict[str, Any]) -> None:
    faulting["expect"][0]["steps"][0] |= {"spsr": "0x3c4", "elr": "0x0"}
    assert _verdicts(_run(faulting, deviations=(WRONG_SPSR,))) == [Verdict.DIFFERENT]


def _unknown(content: dict[str, Any]) -> dict[str, Any]:
    content["code"][0]["words"] = [LDG, HVC_0]
    content["requires"] = "MTE2"
    content["expect"][0]["profiles"] = ["max"]
    return content


def test_an_instruction_that_the_emulation_lacks_is_skipped(content: dict[str, Any]) -> None:
    result = run_profile([parse(_unknown(content), "")], MAX, ())
    assert _verdicts(result) == [Verdict.SKIPPED]


def test_an_instruction_of_no_named_feature_is_not_skipped(content: dict[str, Any]) -> None:
    _unknown(content)["requires"] = None
    assert _verdicts(run_profile([parse(content, "")], MAX, ())) == [Verdict.DIFFERENT]


def test_an_undefined_instruction_that_the_emulation_knows_is_not_skipped(
    content: dict[str, Any],
) -> None:
    content["requires"] = "LSE"
    content["entry"]["spsr"] = "0x3c0"
    content["code"][0]["words"] = ["0xd5381000", HVC_0]  # mrs x0, sctlr_el1 at EL0
    assert _verdicts(_run(content)) == [Verdict.DIFFERENT]


def test_an_expected_undefined_instruction_is_equal(content: dict[str, Any]) -> None:
    _unknown(content)["expect"] = [
        {
            "profiles": ["cortex-a72"],
            "steps": [
                {
                    "outcome": "exception",
                    "taken_to": 1,
                    "el1_vector": "0x200",
                    "esr": "0x2000000",
                    "elr": "0x4e000000",
                    "spsr": "0x3c5",
                    "gpr_changed": {},
                }
            ],
        }
    ]
    assert _verdicts(_run(content)) == [Verdict.EQUAL]


def test_a_machine_that_fails_is_a_difference_and_the_rest_runs(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(bench: Bench, case: Case, *rest: Any) -> Run:  # noqa: ANN401  # as they come
        if case.name == "made/fails":
            raise RuntimeError("out of order")
        return execute(bench, case, *rest)

    monkeypatch.setattr(run, "execute", fails_once)
    result = _run(content | {"name": "made/fails"}, content)
    assert _verdicts(result) == [Verdict.DIFFERENT, Verdict.EQUAL]
    assert result.cases[0].differences[0].here == "RuntimeError: out of order"


def test_an_impossible_entry_state_is_a_difference_and_the_rest_runs(
    content: dict[str, Any],
) -> None:
    aarch32 = content | {"name": "made/aarch32", "entry": content["entry"] | {"spsr": "0x1d3"}}
    assert _verdicts(_run(aarch32, content)) == [Verdict.DIFFERENT, Verdict.EQUAL]


def test_families_are_counted_in_order(content: dict[str, Any]) -> None:
    contents = [content | {"family": family} for family in ("b", "a", "b")]
    families = _run(*contents).families()
    assert {name: counts.total() for name, counts in families.items()} == {"b": 2, "a": 1}
    assert list(families) == ["b", "a"]


def test_progress_is_told_after_each_case(case: Case) -> None:
    calls: list[None] = []
    run_profile([case, case], A72, (), lambda: calls.append(None))
    assert len(calls) == 2
