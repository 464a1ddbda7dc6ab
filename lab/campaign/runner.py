"""Runs experiments: from a snapshot of the golden run, with faults, until the outcome is known.

A runner has one machine. It runs the guest without faults once, and keeps snapshots on the way. A
run starts at the last one before its first fault. It ends early where its state is that of the
golden run again: from there on both are the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from lab.campaign.outcome import Facts, classify
from lab.campaign.row import Row
from lab.errors import UserError
from lab.faults.fault import Status
from lab.faults.injector import Injector
from lab.faults.triggers.retired import AtInstruction
from lab.monitor import End, EndReason
from lab.snapshot import difference, restore, take
from lab.vmm import Vmm

if TYPE_CHECKING:
    from lab.campaign.plan import Experiment
    from lab.campaign.prepare import Prepared
    from lab.faults.planned import FaultRecord
    from lab.snapshot import Snapshot

SNAPSHOTS: Final = 32
"""Of a golden run, its start included."""
LOST: Final = "lost"
"""The outcome of an experiment that the tool could not bring to its end."""


class Mark(NamedTuple):
    """The golden run after some instructions."""

    time: int
    snapshot: Snapshot


class CampaignRunner:
    """Runs the experiments of one campaign.

    Parameters
    ----------
    prepared : Prepared
        The campaign, with its guest.

    Attributes
    ----------
    golden : Facts
        The run without faults.

    Raises
    ------
    UserError
        If the guest does not end by itself.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._build()

    def _build(self) -> None:
        prepared = self._prepared
        self._vmm = Vmm(prepared.config, prepared.image)
        self._injector = Injector(self._vmm.vm, ())
        self._marks = [Mark(0, take(self._vmm))]
        limits = prepared.campaign.limits
        end = self._vmm.monitor.run(limits.max_insns)
        self.golden = self._facts(end)
        if not end.reason.is_normal:
            raise UserError(
                f"the golden run of {prepared.campaign.guest} does not end by itself: it "
                f"{end.reason.value} ({end.detail}); give it more instructions with max-insns in "
                "[golden], or another guest"
            )
        self._limit = limits.hang_limit(self.golden.instructions)
        self._take_snapshots()

    def _take_snapshots(self) -> None:
        """Run the guest again, and stop for snapshots on the way."""
        restore(self._vmm, self._marks[0].snapshot)
        length = self.golden.instructions
        for number in range(1, SNAPSHOTS):
            time = length * number // SNAPSHOTS
            if time > self._marks[-1].time and self._vmm.monitor.run(time).reason is BUDGET:
                self._marks.append(Mark(self._vmm.retired, take(self._vmm)))
        self._times = [mark.time for mark in self._marks]

    def run(self, experiment: Experiment) -> Row:
        """Run one experiment."""
        try:
            return self._run(experiment)
        except Exception as error:  # noqa: BLE001  # whatever a fault leads the machine to
            self._build()
            return _lost(experiment, f"{type(error).__name__}: {error}")

    def _run(self, experiment: Experiment) -> Row:
        first = self._start(experiment)
        restore(self._vmm, self._marks[first].snapshot)
        with self._injector as injector:
            injector.arm(experiment.faults)
            end, met = self._until_end(first + 1)
            records = injector.records
        facts = self.golden if met is not None else self._facts(end)
        outcome, why = classify(self.golden, facts, self._prepared.campaign.outcome)
        return _row(experiment, records, facts, outcome, why, met)

    def _start(self, experiment: Experiment) -> int:
        """Return the last snapshot before a run's first fault."""
        first = min(planned.trigger.not_before for planned in experiment.faults)
        return bisect_right(self._times, first) - 1

    def _until_end(self, following: int) -> tuple[End, int | None]:
        """Run to the end, or to where the state is the golden run's again."""
        monitor = self._vmm.monitor
        step = 1
        while following < len(self._marks):
            mark = self._marks[following]
            end = monitor.run(mark.time)
            if end.reason is not BUDGET:
                return end, None
            if self._injector.is_over:
                if difference(self._vmm, mark.snapshot) is None:
                    return end, mark.time
                # States that differ now mostly do so later, too: look less and less often.
                step *= 2
            following += step
        return monitor.run(self._limit), None
