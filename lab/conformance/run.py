"""Runs many cases and judges each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from lab.conformance.cases import StepResult
from lab.conformance.compare import Difference, compare
from lab.conformance.deviations import covering
from lab.conformance.execute import (
    Run,
    execute,
    is_undefined,
    knows_instruction,
    second_seen,
)
from lab.conformance.setup import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from emu.arch.features import CpuFeatures
    from lab.conformance.cases import Case, Expectation
    from lab.conformance.deviations import Deviation


class Verdict(Enum):
    """What became of a case. The value is how people read it."""

    EQUAL = "equal"
    LISTED = "listed deviation"
    DIFFERENT = "different"
    SKIPPED = "skipped"
    """The CPU emulation lacks the instruction."""
    OTHER_PROFILE = "not for this profile"
    """Nothing was recorded for it."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case and its verdict.

    Attributes
    ----------
    case, verdict
        Which case, and what became of it.
    differences
        Every value that is not as recorded.
    deviations
        The listed deviations that allow them, for LISTED.
    recorded, here
        The steps as recorded and as the machine took them, where they are not equal.
    """

    case: Case
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    recorded: tuple[StepResult, ...] = ()
    here: tuple[StepResult, ...] = ()


@dataclass(slots=True)
class ProfileResult:
    """All cases on one CPU."""

    profile: str
    cases: list[CaseResult] = field(default_factory=list)

    def with_verdict(self, verdict: Verdict) -> list[CaseResult]:
        """Return the cases of one verdict."""
        return [each for each in self.cases if each.verdict is verdict]

    def families(self) -> dict[str, Counter[Verdict]]:
        """Return the counts of verdicts by family, in the order of the families' first cases."""
        counts: dict[str, Counter[Verdict]] = {}
        for each in self.cases:
            counts.setdefault(each.case.family, Counter())[each.verdict] += 1
        return counts

    def deviations(self) -> Counter[Deviation]:
        """Return how many cases needed each listed deviation."""
        return Counter(entry for each in self.cases for entry in each.deviations)


def run_profile(
    cases: Iterable[Case],
    features: CpuFeatures,
    deviations: Sequence[Deviation],
    progress: Callable[[], None] = lambda: None,
) -> ProfileResult:
    """Run cases on one CPU.

    Parameters
    ----------
    cases
        The cases.
    features
        The CPU. Its name says which of the recorded answers count.
    deviations
        Differences that are allowed.
    progress
        Called after each case.
    """
    result = ProfileResult(features.name)
    for each in _judge_all(cases, features, deviations):
        result.cases.append(each)
        progress()
    return result


def _judge_all(
    cases: Iterable[Case], features: CpuFeatures, deviations: Sequence[Deviation]
) -> Iterator[CaseResult]:
    bench = Bench(features)
    for case in cases:
        expectation = case.expectation(features.name)
        if expectation is None:
            yield CaseResult(case, Verdict.OTHER_PROFILE)
            continue
        try:
            yield _judge(bench, case, expectation, deviations)
        except Exception as error:  # noqa: BLE001  # a bug of the machine is this case's result
            yield _failed(case, expectation, error)
            bench = Bench(features)  # the old one is in an unknown state


def _judge(
    bench: Bench, case: Case, expectation: Expectation, deviations: Sequence[Deviation]
) -> CaseResult:
    run = execute(bench, case, frozenset(expectation.memory or ()))
    seen = None
    if expectation.second_seen is not None and case.steps:
        seen = second_seen(bench, case, run)
    differences = tuple(compare(case, expectation, run, seen, bench.features))
    if not differences:
        return CaseResult(case, Verdict.EQUAL)
    verdict, entries = Verdict.DIFFERENT, covering(deviations, case, differences)
    if entries is not None:
        verdict = Verdict.LISTED
    elif _lacks_instruction(bench, case, expectation, run):
        verdict = Verdict.SKIPPED
    return CaseResult(
        case, verdict, differences, entries or (), recorded=expectation.steps, here=run.steps
    )


def _lacks_instruction(bench: Bench, case: Case, expectation: Expectation, run: Run) -> bool:
    """Whether the case fails because the CPU emulation does not know its instruction.

    Only for instructions of a named feature, where the recording executed them. The
    instruction is tried on its own, so that a wrong trap in the machine does not pass for it.
    """
    if not case.requires:
        return False
    for recorded, here in zip(expectation.steps, run.steps, strict=True):
        if is_undefined(here) and not is_undefined(recorded):
            word = next((w for va, w in case.code.items() if va == here.elr), None)
            return word is not None and not knows_instruction(bench, case, word)
    return False


def _failed(case: Case, expectation: Expectation, error: Exception) -> CaseResult:
    """Describe a case in which the machine itself failed."""
    here = f"{type(error).__name__}: {error}"
    recorded = expectation.steps[0].outcome
    return CaseResult(
        case,
        Verdict.DIFFERENT,
        (Difference(0, "outcome", "", recorded, here),),
        recorded=expectation.steps[:1],
        here=(StepResult(here),),
    )
