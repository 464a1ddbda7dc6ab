from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from lab.cli import cli
from lab.conformance import deviations
from lab.conformance.deviations import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LDG = "0xd9600020"


def conformance(*arguments: object) -> Result:
    return CliRunner().invoke(
        cli,
        ["conformance", *map(str, arguments), "--profile", "cortex-a72"],
        catch_exceptions=False,
    )


@pytest.fixture
def wrong(faulting: dict[str, Any]) -> dict[str, Any]:
    """A case whose recorded syndrome is not the machine's."""
    faulting["expect"][0]["steps"][0]["esr"] = "0x93c08045"
    return faulting


def test_equal_cases_exit_with_0(content: dict[str, Any], case_file: Callable[..., Path]) -> None:
    result = conformance(case_file(content, content))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1].split() == ["all", "2", "2", "0", "0", "0", "0"]


def test_a_difference_is_shown_in_two_columns_and_exits_with_1(
    wrong: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    path = case_file(wrong)
    result = conformance(path)
    assert result.exit_code == 1
    shown = [line.split() for line in result.stdout.splitlines()]
    assert ["made/abort", "ldr", "x0,", "[x1]"] in shown
    assert [f"{path}:1"] in shown
    assert ["first", "run", "ESR_EL2", "0x93c08045", "0x93c08005"] in shown
    assert ["WnR", "[6]", "1", "write", "0", "read"] in shown


def test_bad_lines_are_named_and_the_rest_runs(
    content: dict[str, Any], wrong: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    bad = content | {"s2": {"granule": "4k", "descs": [[9, 0, "0x48000000", "0x0"]]}}
    path = case_file(content, bad, wrong)
    result = conformance(path)
    assert result.exit_code == 2
    assert result.stderr == (
        f"stage2: error: {path}:2: case made/load: s2.descs[0]: level 9 does not exist; "
        "with the 4K granule levels are -1 to 3\n"
    )
    assert result.stdout.splitlines()[-1].split()[:5] == ["all", "2", "1", "0", "1"]


def test_a_missing_file_is_named_and_the_others_run(
    content: dict[str, Any], case_file: Callable[..., Path], tmp_path: Path
) -> None:
    result = conformance(case_file(content), tmp_path / "gone.jsonl")
    assert result.exit_code == 2
    assert "gone.jsonl: cannot be read" in result.stderr
    assert result.stdout.splitlines()[-1].split()[:2] == ["all", "1"]


def test_families_and_cases_can_be_chosen(
    content: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    names = ("made/one", "made/two", "other/one")
    path = case_file(*(content | {"name": name, "family": name[:-4]} for name in names))
    for options, count in (
        (("--family", "made"), 2),
        (("--case", "*/one"), 2),
        (("--case", "made/one"), 1),
        (("--family", "other", "--case", "*/one"), 1),
    ):
        last = conformance(path, *options).stdout.splitlines()[-1].split()
        assert last[1] == str(count), options


def test_names_that_match_nothing_are_refused(
    content: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    path = case_file(content)
    family = conformance(path, "--family", "nope")
    assert family.exit_code == 2
    assert family.stderr == "stage2: error: --family nope: no such family; the files have made\n"
    name = conformance(path, "--case", "nope")
    assert name.exit_code == 2
    assert name.stderr == "stage2: error: --case nope: no such case; the files have 1 others\n"


def test_several_profiles_are_run_one_after_the_other(
    content: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    content["expect"][0]["profiles"] = ["neoverse-n1"]
    result = conformance(case_file(content), "--profile", "neoverse-n1", "--json")
    totals = {each["profile"]: each["total"] for each in json.loads(result.stdout)["profiles"]}
    assert totals["neoverse-n1"]["equal"] == 1
    assert totals["cortex-a72"]["other_profile"] == 1


def test_a_profile_of_ones_own_answers_for_its_name(
    content: dict[str, Any], case_file: Callable[..., Path], tmp_path: Path
) -> None:
    content["expect"][0]["profiles"] = ["mine"]
    profile = tmp_path / "mine.toml"
    profile.write_text('name = "mine"\nbase = "cortex-a72"\n')
    result = CliRunner().invoke(
        cli, ["conformance", str(case_file(content)), "--profile", str(profile)]
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].split()[:3] == ["all", "1", "1"]


def test_an_unknown_profile_is_refused_in_one_line(
    content: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    result = conformance(case_file(content), "--profile", "cortex-a99")
    assert result.exit_code == 2
    assert result.stderr == (
        "stage2: error: --profile: no profile and no file is called 'cortex-a99'; "
        "the profiles are max, cortex-a72, neoverse-n1\n"
    )


def test_json_holds_counts_and_differences(
    content: dict[str, Any], wrong: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    good = content | {"name": "made/load", "regs": {"x1": "0x4e200128"}, "expect": []}
    path = case_file(wrong, good)
    result = conformance(path, "--json")
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)["profiles"]
    assert found["total"] == {
        "cases": 2,
        "equal": 0,
        "listed": 0,
        "different": 1,
        "skipped": 0,
        "other_profile": 1,
    }
    (case,) = found["different"]
    assert (case["name"], case["place"]) == ("made/abort", f"{path}:1")
    assert case["differences"] == [
        {
            "step": 0,
            "field": "esr",
            "item": "",
            "recorded": 0x93C0_8045,
            "here": 0x93C0_8005,
            "fields": [{"name": "WnR [6]", "recorded": "1 write", "here": "0 read"}],
        }
    ]


def test_listed_deviations_are_printed_with_their_rule_and_exit_with_0(
    wrong: dict[str, Any], case_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Deviation("made/*", "esr", "Arm ARM D8: any", "the machine reads")
    monkeypatch.setattr(deviations, "listed", lambda: (entry,))
    result = conformance(case_file(wrong))
    assert result.exit_code == 0
    assert "listed deviation: made/*, esr: 1 case\n  the machine reads\n  Arm ARM D8: any" in (
        result.stdout
    )


def test_skipped_instructions_are_named(
    content: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    content["code"][0]["words"][0] = LDG
    content["insn"] |= {"asm": "ldg x0, [x1]", "encoding": LDG}
    content["requires"] = "MTE2"
    result = conformance(case_file(content))
    assert result.exit_code == 0
    expected = "skipped: made/load: the CPU emulation does not know ldg x0, [x1] (MTE2)"
    assert expected in result.stdout


def test_details_are_limited(wrong: dict[str, Any], case_file: Callable[..., Path]) -> None:
    path = case_file(*(wrong | {"name": f"made/{n}"} for n in range(5)))
    few = conformance(path, "--limit", 2).stdout
    assert few.count("ldr x0, [x1]") == 2
    assert "3 more differ" in few
    assert ["3", "made", "esr"] in [line.split() for line in few.splitlines()]
    assert conformance(path, "--limit", 0).stdout.count("ldr x0, [x1]") == 5


def test_the_same_files_give_the_same_output(
    content: dict[str, Any], wrong: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    path = case_file(content, wrong)
    assert conformance(path).stdout == conformance(path).stdout
