"""Runs experiments: from a snapshot of the golden run, with faults, until the outcome is known.

A runner has one machine. It runs the guest without faults once, and takes snapshots on the way.
A run starts at the last one before its first fault. It ends early where its state is that of the
golden run again: from there on both are the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from lab.campaign.outcome import Facts, classify
from lab.campaign.row import Row, lost
from lab.disk import open_drives
from lab.errors import UserError
from lab.faults.injector import Injector
from lab.monitor import EndReason
from lab.snapshot import first_difference, restore, take
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.campaign.plan import Experiment
    from lab.campaign.prepare import Prepared
    from lab.faults.planned import FaultRecord
    from lab.monitor import End
    from lab.snapshot import Snapshot

SNAPSHOTS: Final = 32
"""Of a golden run, its start included."""


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
    vmm : Vmm
        The machine.
    golden : Facts
        The run without faults.
    limit : int
        Instructions after which a run hangs.

    Raises
    ------
    UserError
        If the guest does not end by itself.
    """

    vmm: Vmm
    golden: Facts
    limit: int

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._build()

    def run(self, experiment: Experiment) -> Row:
        """Run one experiment. What comes of it depends on nothing that ran before."""
        try:
            return self._run(experiment)
        except Exception as error:  # noqa: BLE001  # whatever a fault leads the engine to
            self._build()
            return lost(experiment, f"{type(error).__name__}: {error}")

    def start_before(self, experiment: Experiment) -> int:
        """Put the machine to the last snapshot before a run's first fault; return its number."""
        first = min(planned.trigger.not_before for planned in experiment.faults)
        number = bisect_right(self._times, first) - 1
        restore(self.vmm, self._marks[number].snapshot)
        return number

    def _build(self) -> None:
        """Build the machine, and make the golden run twice: to its end, and with snapshots."""
        prepared = self._prepared
        with open_drives(prepared.config.drives) as disks:
            self.vmm = Vmm(prepared.config, prepared.image, disks=disks)
        self._injector = Injector(self.vmm.vm, ())
        self._marks = [Mark(0, take(self.vmm))]
        limits = prepared.campaign.limits
        end = self.vmm.monitor.run(limits.max_insns)
        self.golden = self.facts(end)
        if not end.reason.is_normal:
            raise UserError(
                f"the golden run of {prepared.campaign.guest} {end.reason.value}: {end.detail}; "
                "a campaign needs a guest that ends by itself; for a longer one, raise max-insns "
                "in [golden]"
            )
        length = self.golden.instructions
        self.limit = limits.hang_limit(length)
        restore(self.vmm, self._marks[0].snapshot)
        for number in range(1, SNAPSHOTS):
            time = length * number // SNAPSHOTS
            if time > self._marks[-1].time and _is_under_way(self.vmm.monitor.run(time)):
                self._marks.append(Mark(time, take(self.vmm)))
        self._times = [mark.time for mark in self._marks]

    def _run(self, experiment: Experiment) -> Row:
        started_at = self.start_before(experiment)
        self._injector.arm(experiment.faults)
        try:
            end, met_at = self._until_end(started_at + 1)
            records = self._injector.records
        finally:
            self._injector.disarm()
        facts = self.golden if end is None else self.facts(end)
        outcome, why = classify(self.golden, facts, self._prepared.campaign.outcome)
        return _row(experiment, records, facts, outcome, why, met_at)

    def _until_end(self, following: int) -> tuple[End | None, int | None]:
        """Run to the end, or to where the state is that of the golden run again.

        Parameters
        ----------
        following : int
            The number of the first mark behind the start.
        """
        monitor, injector = self.vmm.monitor, self._injector
        step = 1
        while following < len(self._marks):
            mark = self._marks[following]
            end = monitor.run(mark.time)
            if not _is_under_way(end):
                return end, None
            if injector.is_over:
                injector.disarm()
                if first_difference(self.vmm, mark.snapshot) is None:
                    return None, mark.time
                # Where states differ they mostly stay different: look less and less often.
                step *= 2
            following += step
        return monitor.run(self.limit), None

    def facts(self, end: End) -> Facts:
        """Return what is to be known of a run that has ended."""
        vmm = self.vmm
        return Facts(
            end=end, instructions=vmm.retired, console=vmm.console.text, code=vmm.guest_code
        )


def _is_under_way(end: End) -> bool:
    return end.reason is EndReason.BUDGET


def _row(
    experiment: Experiment,
    records: Sequence[FaultRecord],
    facts: Facts,
    outcome: str,
    why: str,
    met_at: int | None,
) -> Row:
    first = min((r for r in records if r.at is not None), key=lambda r: r.at or 0, default=None)
    return Row(
        id=experiment.id,
        location=experiment.location,
        bit=experiment.bit,
        time=experiment.time,
        weight=experiment.weight,
        status=", ".join(record.status.value for record in records),
        injected_at=None if first is None else first.at,
        pc="" if first is None or first.pc is None else f"{first.pc:#x}",
        change="; ".join(record.detail for record in records),
        outcome=outcome,
        why=why,
        end=facts.end.reason.value,
        instructions=facts.instructions,
        met_at=met_at,
        console=hashlib.sha256(facts.console.encode()).hexdigest()[:16],
    )
