"""What the rows of a campaign say together, for every way of showing it."""

from __future__ import annotations

import heapq
import shlex
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from lab.campaign.estimate import estimate
from lab.campaign.numbers import confidence, counted, interval, percent
from lab.campaign.plan import Experiment, Experiments, Plan
from lab.campaign.provenance import Provenance
from lab.campaign.row import LOST
from lab.campaign.severity import HARMLESS, WORST, severity
from lab.faults.fault import Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.campaign.row import Row
    from lab.campaign.statistics import Interval
    from lab.campaign.store import Store

_BETWEEN: Final = ", "
"""The statuses of the faults of a run."""
_ORDER: Final = tuple(status.value for status in Status)


class OutcomeShare(NamedTuple):
    """How often an outcome came, and what that says of the space."""

    outcome: str
    runs: int
    share: Interval | None
    """Of all faults of the space; None if the runs so far say nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a file of results says.

    Attributes
    ----------
    path : Path
        The file.
    provenance : Provenance
        What its rows follow from.
    runs : int
        How many rows it has.
    outcomes : tuple[OutcomeShare, ...]
        Worst first. Isolation escapes are always there, and so are masked faults.
    statuses : Mapping[str, int]
        What became of the faults of all runs.
    worst : tuple[Row, ...]
        Runs that are not masked, the worst outcomes first, so many of each as were asked for:
        those that stand for most, and one only for each location and time.
    """

    path: Path
    provenance: Provenance
    runs: int
    outcomes: tuple[OutcomeShare, ...]
    statuses: Mapping[str, int]
    worst: tuple[Row, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all experiments of the plan have a row."""
        return self.runs >= self.provenance.total

    @property
    def is_exact(self) -> bool:
        """Whether every class of faults was run, so that shares are not estimated."""
        return self.is_complete and not self.provenance.weighting

    @property
    def has_intervals(self) -> bool:
        """Whether the runs are a sample; a part of all classes in their order is none."""
        return bool(self.provenance.weighting)

    @property
    def escapes(self) -> OutcomeShare:
        """The isolation escapes."""
        return self.outcomes[0]

    @property
    def verdict(self) -> str:
        """Whether isolation held, in a sentence."""
        escapes, share = self.escapes.runs, self.escapes.share
        if escapes:
            text = f"Isolation did not hold in {counted(escapes, 'run')}"
            if share is None or not (self.is_exact or self.has_intervals):
                return f"{text}."
            where = f" ({interval(share)})" if interval(share) else ""
            return f"{text}: {percent(share.estimate)} of the space{where}."
        if not self.runs:
            return "Nothing has run yet."
        lost = next((each.runs for each in self.outcomes if each.outcome == LOST), 0)
        text = (
            "Isolation held in all runs"
            if self.is_complete
            else "Isolation held so far in all runs"
        )
        if lost:
            text += f" but {lost:,} that were lost"
        if self.is_exact:
            return f"{text}. They cover the space."
        if not self.has_intervals or share is None:
            return f"{text}."
        level = confidence(self.provenance.confidence)
        return f"{text}. It fails for at most {percent(share.high)} of the space ({level})."

    def replay(self, number: int | None = None) -> str:
        """Return the command that runs one row again; for people, with ID for any."""
        which = "ID" if number is None else number
        return f"stage2 inject replay {shlex.quote(str(self.path))}#{which}"


def summarize(store: Store, worst: int = 10) -> Summary:
    """Read a file of results once.

    Parameters
    ----------
    store : Store
        The file.
    worst : int
        How many runs of each outcome to keep.
    """
    provenance = Provenance.of(store)
    runs: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    outcomes: dict[int, str] = {}
    weights: dict[int, int] = {}
    harmful: defaultdict[str, _Worst] = defaultdict(lambda: _Worst(worst))
    for row in store.rows():
        runs[row.outcome] += 1
        statuses.update(filter(None, row.status.split(_BETWEEN)))
        outcomes[row.id] = row.outcome
        weights[row.id] = row.weight
        if row.outcome != HARMLESS:
            harmful[row.outcome].add(row)
    shares = estimate(_plan(provenance, weights), outcomes, also=(WORST, HARMLESS))
    return Summary(
        path=store.path,
        provenance=provenance,
        runs=len(outcomes),
        outcomes=tuple(
            OutcomeShare(outcome, runs[outcome], shares.get(outcome))
            for outcome in sorted({WORST, HARMLESS, *runs, *shares}, key=severity)
        ),
        statuses={
            status: statuses[status]
            for status in (*_ORDER, *sorted(statuses))
            if status in statuses
        },
        worst=tuple(
            row for outcome in sorted(harmful, key=severity) for row in harmful[outcome].rows()
        ),
    )


class _Worst:
    """The runs of one outcome that stand for most faults, one for each location and time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: dict[tuple[str, int], Row] = {}

    def add(self, row: Row) -> None:
        place = row.location, row.time
        if place not in self._rows or row.weight > self._rows[place].weight:
            self._rows[place] = row
        if len(self._rows) > 4 * self._count:
            self._rows = {(row.location, row.time): row for row in self.rows()}

    def rows(self) -> list[Row]:
        """Return them, the heaviest first."""
        rows = self._rows.values()
        return heapq.nsmallest(self._count, rows, key=lambda row: (-row.weight, row.id))


def _plan(provenance: Provenance, weights: Mapping[int, int]) -> Plan:
    """Return the plan as far as estimates need it: from the file alone, without the guest."""

    def experiment(number: int) -> Experiment:
        return Experiment(number, (), weights[number], "", None, 0)

    return Plan(
        experiments=Experiments(max(weights, default=-1) + 1, experiment),
        size=provenance.space,
        classes=provenance.classes,
        masked=provenance.masked,
        hash=provenance.plan,
        draws=[int(number) for number in provenance.draws.split()]
        if provenance.weighting
        else None,
        by_lifetime=provenance.weighting != "uniform",
        confidence=provenance.confidence,
    )
