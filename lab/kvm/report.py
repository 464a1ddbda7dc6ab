"""What a run reports: the same values from real KVM and from here."""

from __future__ import annotations

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

_MARK: Final = "tracing_mark_write: "


@dataclass(slots=True)
class Report:
    """One run.

    Attributes
    ----------
    events
        Name and text of each event, as ftrace prints them; what was dirtied until user space
        asked is one, too.
    dirty
        The pages that the dirty log holds at the end: (slot, page).
    nanoseconds, exits
        How long KVM ran the guest, with the VMM's work for each exit, and how often it
        returned; None where that was not measured.
    lacks
        The capability without which KVM could not run the guest in this way.
    """

    events: list[str] = field(default_factory=list)
    dirty: set[tuple[int, int]] = field(default_factory=set)
    nanoseconds: int | None = None
    exits: int | None = None
    lacks: int | None = None

    def hear(self, event: Event) -> None:
        """Take an event of the hypervisor."""
        if event.name not in EVENTS:
            return
        if isinstance(event, KvmUserspaceExit) and event.reason is ExitReason.MMIO:
            return
        self.events.append(str(event))


def dirty_event(slot: int, first: int, last: int) -> str:
    """Return the event that says that these pages of a slot were dirty."""
    return f"dirty_log: slot {slot}, pages {first}-{last}"


@dataclass(slots=True)
class KvmReport:
    """What the machine with real KVM reported.

    Attributes
    ----------
    release
        Its kernel, as ``uname -r`` prints it.
    runs
        The runs, by the name of the experiment.
    """

    release: str = ""
    runs: dict[str, Report] = field(default_factory=dict)


def parse(console: str) -> KvmReport:
    """Read what the VMM on real KVM printed.

    Raises
    ------
    UserError
        If it did not come to its end.
    """
    whole = KvmReport()
    name, report = "", Report()
    for line in console.splitlines():
        tag, _, rest = line.strip().partition(" ")
        match tag:
            case "@kernel":
                whole.release = rest
            case "@begin":
                name = rest
                report = whole.runs[name] = Report()
            case "@error":
                raise UserError(f"the VMM under KVM failed at {name}: {rest}")
            case "@gave-up":
                raise UserError(f"{name} under KVM does not come to an end")
            case "@lost":
                raise UserError(f"the trace of {name} is not whole: {rest}; run a shorter guest")
            case "@done":
                return whole
            case _:
                _take(report, tag, rest)
    raise UserError("the machine with KVM ended early; its console:", console[-2000:])


def _take(report: Report, tag: str, rest: str) -> None:
    match tag:
        case "@trace":
            event = rest.removeprefix(_MARK)
            if event not in NOT_COMPARED:
                report.events.append(event)
        case "@dirty":
            slot, first, last = (int(number) for number in rest.split())
            report.dirty |= {(slot, page) for page in range(first, last + 1)}
        case "@ran":
            report.nanoseconds, report.exits = (int(number) for number in rest.split())
        case "@lacks":
            report.lacks = int(rest)
