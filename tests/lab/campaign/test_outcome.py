from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from lab.campaign.escape import Escape
from lab.campaign.outcome import Outcome, RunFacts, classify, load_predicate
from lab.campaign.spec import Outcomes
from lab.errors import UserError
from lab.monitor import EndReason

GOLDEN = RunFacts(EndReason.POWER_OFF, "PSCI SYSTEM_OFF", 0, "sum 5\ndone\n", 100, ("aa",))
ESCAPE = Escape(0x8_0000_1000, "which is a stage-2 table", "VA 0x4000_0000", 7)
RULES = Outcomes(
    detected_words=("mismatch",), detected_codes=(9,), panic_words=("PANIC",), panic_codes=(13,)
)

CASES: list[tuple[dict[str, Any], Outcome, str]] = [
    ({}, Outcome.MASKED, "its output is that of the golden run"),
    ({"instructions": 130}, Outcome.MASKED, "its output is that of the golden run"),
    ({"console": "sum 6\ndone\n"}, Outcome.SILENT, "line 1 of the console is 'sum 6'"),
    ({"console": "sum 5\n"}, Outcome.SILENT, "the console has 6 characters, not 11"),
    ({"exit_code": 2}, Outcome.SILENT, "exit code 2, not 0"),
    ({"disks": ("bb",)}, Outcome.SILENT, "disk 0 holds something else"),
    ({"reason": EndReason.EXITED}, Outcome.SILENT, "it exited, where the golden run powered off"),
    ({"console": "mismatch\n"}, Outcome.DETECTED, "the console says 'mismatch'"),
    ({"exit_code": 9}, Outcome.DETECTED, "exit code 9"),
    ({"console": "mismatch\nPANIC\n"}, Outcome.CRASH, "the console says 'PANIC'"),
    ({"exit_code": 13}, Outcome.CRASH, "exit code 13"),
    ({"reason": EndReason.CRASHED, "detail": "x"}, Outcome.CRASH, "x"),
    ({"reason": EndReason.RESET, "detail": "x"}, Outcome.CRASH, "x"),
    ({"reason": EndReason.BUDGET, "detail": "x"}, Outcome.HANG, "x"),
    ({"reason": EndReason.IDLE, "detail": "x"}, Outcome.HANG, "x"),
    ({"reason": EndReason.STUCK, "detail": "x"}, Outcome.HANG, "x"),
    (
        {"reason": EndReason.CRASHED, "escapes": (ESCAPE,)},
        Outcome.ESCAPE,
        "VA 0x4000_0000 reaches PA 0x8_0000_1000, which is a stage-2 table",
    ),
]


@pytest.mark.parametrize(("changed", "outcome", "why"), CASES)
def test_a_run_has_the_worst_outcome_that_applies(
    changed: dict[str, Any], outcome: Outcome, why: str
) -> None:
    verdict = classify(RULES, GOLDEN, GOLDEN._replace(**changed))
    assert verdict == (outcome.value, why)


def test_a_word_that_the_golden_run_prints_too_says_nothing() -> None:
    golden = GOLDEN._replace(console="no PANIC today\n")
    assert classify(RULES, golden, golden).outcome == Outcome.MASKED.value
    twice = golden._replace(console="no PANIC today\nPANIC\n")
    assert classify(RULES, golden, twice).outcome == Outcome.CRASH.value


@pytest.fixture(name="module")
def module_fixture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    load_predicate.cache_clear()
    module = ModuleType("some_checks")
    monkeypatch.setitem(sys.modules, "some_checks", module)
    return module


def test_a_predicate_may_name_an_outcome_of_its_own(module: ModuleType) -> None:
    def slow(golden: RunFacts, run: RunFacts) -> str | None:
        return "slow" if run.instructions > 2 * golden.instructions else None

    module.slow = slow  # type: ignore[attr-defined]  # a module made on the spot
    rules = Outcomes(predicates=("some_checks:slow",))
    late = GOLDEN._replace(instructions=300, exit_code=1)
    assert classify(rules, GOLDEN, late) == ("slow", "some_checks:slow says so")
    assert classify(rules, GOLDEN, GOLDEN).outcome == Outcome.MASKED.value
    escaped = late._replace(escapes=(ESCAPE,))
    assert classify(rules, GOLDEN, escaped).outcome == Outcome.ESCAPE.value


def test_predicates_that_cannot_be_asked_are_refused(module: ModuleType) -> None:
    module.wrong = lambda _golden, _run: 5  # type: ignore[attr-defined]  # likewise
    for name, message in (
        ("no_such_module:x", "the predicate no_such_module:x: cannot import no_such_module"),
        ("some_checks:nothing", "some_checks has no function nothing"),
        ("some_checks:wrong", "the predicate some_checks:wrong returns a name or None, not 5"),
    ):
        with pytest.raises(UserError, match=message):
            classify(Outcomes(predicates=(name,)), GOLDEN, GOLDEN)
