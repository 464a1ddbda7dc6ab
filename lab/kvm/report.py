"""What a run reports: the same values from real KVM and from here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hyp.events import KvmUserspaceExit
from hyp.exits import ExitReason
from lab.errors import UserError
from lab.kvm.experiment import EVENTS

if TYPE_CHECKING:
    from hyp.events import Event

NOT_COMPARED: Final = (
    # Which devices are served in the process is the VMM's business.
    "kvm_userspace_exit: reason KVM_EXIT_MMIO (6)",
    # The host's scheduler wanted the CPU.
    "kvm_userspace_exit: reason restart (4)",
)

_TRACE: Final = re.compile(r"@trace .*?\s[\d.]+: (kvm_\w+: .*)")
_LOST: Final = re.compile(r"@trace .*\[LOST (\d+) EVENTS\]")


@dataclass(slots=True)
class Report:
    """One run.

    Attributes
    ----------
    who
        What ran the guest.
    events
        Name and text of each event, as ftrace prints them.
    dirty
        The pages that the dirty log holds at the end: (slot, page).
    nanoseconds, exits
        How long KVM ran the guest, with the VMM's work for each exit, and how often it
        returned; None where that was not measured.
    """

    who: str
    events: list[str] = field(default_factory=list)
    dirty: set[tuple[int, int]] = field(default_factory=set)
    nanoseconds: int | None = None
    exits: int | None = None

    def hear(self, event: Event) -> None:
        """Take an event of the hypervisor."""
        if event.name not in EVENTS:
            return
        if isinstance(event, KvmUserspaceExit) and event.reason is ExitReason.MMIO:
            return
        self.events.append(str(event))


def parse(console: str) -> Report:
    """Read what the VMM on real KVM printed.

    Raises
    ------
    UserError
        If it did not come to its end.
    """
    report = Report("KVM")
    done = False
    for line in console.splitlines():
        tag, _, rest = line.strip().partition(" ")
        match tag:
            case "@kernel":
                report.who = f"KVM of Linux {rest}"
            case "@trace":
                _take_trace(report, line)
            case "@dirty":
                slot, page = rest.split()
                report.dirty.add((int(slot), int(page)))
            case "@ran":
                report.nanoseconds, report.exits = (int(number) for number in rest.split())
            case "@error":
                raise UserError(f"the VMM under KVM failed: {rest}")
            case "@gave-up":
                raise UserError("the guest under KVM does not come to an end")
            case "@done":
                done = True
    if not done:
        raise UserError("the machine with KVM ended early; its console:", console[-2000:])
    return report


def _take_trace(report: Report, line: str) -> None:
    lost = _LOST.match(line)
    if lost is not None:
        raise UserError(f"the trace of KVM has lost {lost[1]} events; run a shorter guest")
    event = _TRACE.match(line)
    if event is not None and event[1] not in NOT_COMPARED:
        report.events.append(event[1])
