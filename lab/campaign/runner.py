"""Runs experiments: from a snapshot of the golden run, with faults, until the outcome is known.

A runner has one machine. It runs the guest without faults once, and takes snapshots on the way.
A run starts at the last one before its first fault. It ends early where its state is that of the
golden run again: from there on both are the same.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.cpu.blocks import INSTRUCTION_BYTES
from lab.campaign.escape import EscapeWatch
from lab.campaign.facts import check_golden, facts_of
from lab.campaign.outcome import classify
from lab.campaign.row import Row, lost
from lab.disk import open_drives
from lab.errors import UserError
from lab.faults.injector import Injector
from lab.monitor import End, EndReason
from lab.snapshot import Snapshot, is_equal, restore, take
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.campaign.outcome import RunFacts, Verdict
    from lab.campaign.plan import Experiment
    from lab.campaign.prepare import Prepared
    from lab.faults.planned import FaultRecord

SNAPSHOTS: Final = 32
"""Of a golden run, its start included."""
FIRST_LOOK: Final = 2
"""Snapshots behind the start of a run: at that one its state is compared first."""


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
    injector : Injector
        Of its VM.
    golden : RunFacts
        The run without faults.
    limit : int
        Instructions after which a run hangs.

    Raises
    ------
    UserError
        If the guest does not end by itself.
    """

    vmm: Vmm
    injector: Injector
    golden: RunFacts
    limit: int

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._files = ExitStack()
        self._build()

    def run(self, experiment: Experiment) -> Row:
        """Run one experiment. What comes of it depends on nothing that ran before.

        Raises
        ------
        UserError
            If the campaign asks for what there is not: a predicate, a symbol, a vCPU.
        """
        try:
            return self._run(experiment)
        except UserError:
            raise
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
        self._files.close()
        disks = self._files.enter_context(open_drives(prepared.config.drives))
        self.vmm = Vmm(prepared.config, prepared.image, disks=disks)
        self.injector = Injector(self.vmm.vm, (), prepared.symbols)
        self._escapes = EscapeWatch(self.vmm.vm)
        self._marks = [Mark(0, take(self.vmm))]
        limits = prepared.campaign.limits
        self.golden = self._facts(self.vmm.monitor.run(limits.max_insns))
        check_golden(prepared.campaign, self.golden)
        length = self.golden.instructions
        self.limit = limits.hang_limit(length)
        self._golden_exceptions = self._exceptions()
        self._exception_limit = limits.exception_limit(self._golden_exceptions)
        restore(self.vmm, self._marks[0].snapshot)
        for number in range(1, SNAPSHOTS):
            time = length * number // SNAPSHOTS
            if time > self._marks[-1].time and self._reaches_block_at(time):
                self._marks.append(Mark(self.vmm.retired, take(self.vmm)))
        self._times = [mark.time for mark in self._marks]
        gc.freeze()  # what is here stays: the garbage collector need not look at it in each run

    def _reaches_block_at(self, time: int) -> bool:
        """Run on to where the engine enters a block, at some time or soon after it.

        To stop there costs nothing; a block in which it stops is translated anew, twice.
        Return whether the guest is under way then.
        """
        monitor, vmm = self.vmm.monitor, self.vmm
        end = monitor.run(time)
        first, behind = vmm.pe.blocks.block
        if first < vmm.vcpu.pc < behind:
            end = monitor.run(time + (behind - vmm.vcpu.pc) // INSTRUCTION_BYTES)
        return _is_under_way(end)

    def _run(self, experiment: Experiment) -> Row:
        started_at = self.start_before(experiment)
        self._escapes.clear()
        with self._escapes:
            self.injector.arm(experiment.faults)
            try:
                end, met_at = self._until_end(started_at + FIRST_LOOK)
                records = self.injector.records
            finally:
                self.injector.disarm()
        facts = self.golden if end is None else self._facts(end)
        verdict = classify(self._prepared.campaign.outcome, self.golden, facts)
        return _row(experiment, records, facts, verdict, met_at)

    def _until_end(self, following: int) -> tuple[End | None, int | None]:
        """Run to the end, or to where the state is that of the golden run again.

        Parameters
        ----------
        following : int
            The number of the first mark to look at.
        """
        monitor, injector = self.vmm.monitor, self.injector
        step = FIRST_LOOK
        while following < len(self._marks):
            mark = self._marks[following]
            end = monitor.run(mark.time)
            if not _is_under_way(end):
                return end, None
            if injector.is_over and not self._escapes.found:
                injector.disarm()
                if is_equal(self.vmm, mark.snapshot):
                    return None, mark.time
                # Where states differ they mostly stay different: look less and less often.
                step *= 2
            following += step
        return self._run_on(), None

    def _run_on(self) -> End:
        """Run to the end, or until the guest hangs."""
        monitor, vmm, limit = self.vmm.monitor, self.vmm, self._exception_limit
        before, pause = -1, 0
        while True:
            taken = self._exceptions()
            if taken > limit:
                golden = f"the golden run {self._golden_exceptions:,}"
                return End(EndReason.BUDGET, f"it took {taken:,} exceptions, {golden}")
            # The fewer exceptions are left to it, the sooner it is asked again; if it takes none,
            # less and less often.
            share = 1 + self.golden.instructions * (limit - taken) // (2 * limit)
            pause = 2 * pause if taken == before else share
            before = taken
            end = monitor.run(min(self.limit, vmm.retired + pause))
            if not _is_under_way(end) or vmm.retired >= self.limit:
                return end

    def _exceptions(self) -> int:
        return sum(pe.progress.exceptions for pe in self.vmm.machine.pes)

    def _facts(self, end: End) -> RunFacts:
        return facts_of(self.vmm, end, self._escapes.found)


def _is_under_way(end: End) -> bool:
    return end.reason is EndReason.BUDGET


def _row(
    experiment: Experiment,
    records: Sequence[FaultRecord],
    facts: RunFacts,
    verdict: Verdict,
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
        outcome=verdict.outcome,
        why=verdict.why,
        end=facts.reason.value,
        instructions=facts.instructions,
        met_at=met_at,
        console=facts.console_digest,
    )
