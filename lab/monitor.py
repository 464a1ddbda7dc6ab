"""User space's half of a run: what happens each time the hypervisor hands the vCPU back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol

from emu.arch.address import IPA, PAGE_MASK
from hyp.exits import (
    ArmNisv,
    DirtyRingFull,
    Error,
    Exit,
    InternalError,
    InternalErrorCode,
    Intr,
    IntrCause,
    Mmio,
    Sigbus,
    SystemEvent,
    SystemEventType,
)
from lab.testdevice import TestDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.interrupts import Interrupt

SLICE = 5_000_000
"""Instructions between two looks at Ctrl-C."""


class EndReason(Enum):
    """Why a run is over."""

    POWER_OFF = "powered off"
    RESET = "asked for a reset"
    EXITED = "exited"
    CRASHED = "crashed"
    STUCK = "makes no progress"
    IDLE = "waits for ever"
    BUDGET = "never ended"
    INTERRUPTED = "interrupted"
    LEFT = "was left"

    @property
    def is_normal(self) -> bool:
        """Whether the guest itself ended the run, or who works with it."""
        return self in {EndReason.POWER_OFF, EndReason.RESET, EndReason.EXITED, EndReason.LEFT}


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: the reason, and one sentence on it."""

    reason: EndReason
    detail: str


INTERRUPTED = End(EndReason.INTERRUPTED, "interrupted by Ctrl-C")


class Vcpu(Protocol):
    """What the monitor uses of :class:`hyp.vcpu.VCPU`."""

    def run(self, budget: int) -> Exit:
        """Run the guest until user space is needed."""

    def set_mmio_data(self, data: bytes) -> None:
        """Answer an MMIO read."""


class Attendant(Protocol):
    """Somebody who has something to do between two slices of the run."""

    @property
    def due(self) -> int | None:
        """The next turn, in instructions retired."""

    def act(self) -> None:
        """Do what is due once that many instructions have retired."""


class Tracker(Attendant, Protocol):
    """What the monitor uses of :class:`lab.dirtylog.DirtyTracker`."""

    def collect(self) -> None:
        """Empty the dirty ring."""


class Monitor:
    """Runs a vCPU and serves its exits until the guest ends.

    Parameters
    ----------
    vcpu : Vcpu
        The vCPU.
    retired : Callable[[], int]
        The instructions it has retired so far.
    inject_abort : Callable[[], None]
        Makes the access that exited take a synchronous external abort.
    interrupt : Interrupt
        Ctrl-C.
    tracker : Tracker or None
        Collects the dirty log, if there is one.
    attendants : Sequence[Attendant]
        Others who have their turns.
    wait : Callable[[], bool]
        Called when the guest waits and no timer is set; returns whether something came that
        may end that.

    Attributes
    ----------
    device : TestDevice
        The test device, with the exit code that the guest wrote.
    unclaimed : Counter[tuple[IPA, str]]
        MMIO that no device claims, by page and ``read`` or ``write``. Reads give zero.
    nisv : int
        Accesses without a valid syndrome that were answered with an external abort.
    """

    NOT_STATE: ClassVar = frozenset({"_attendants"})

    def __init__(
        self,
        vcpu: Vcpu,
        *,
        retired: Callable[[], int],
        inject_abort: Callable[[], None],
        interrupt: Interrupt,
        tracker: Tracker | None = None,
        attendants: Sequence[Attendant] = (),
        wait: Callable[[], bool] = lambda: False,
    ) -> None:
        self._vcpu, self._retired, self._inject_abort = vcpu, retired, inject_abort
        self._interrupt = interrupt
        self._tracker = tracker
        self._attendants: tuple[Attendant, ...] = (
            tuple(attendants) if tracker is None else (tracker, *attendants)
        )
        self._wait = wait
        self.device = TestDevice()
        self.unclaimed: Counter[tuple[IPA, str]] = Counter()
        self.nisv = 0

    def attend(self, attendant: Attendant) -> None:
        """Give somebody else turns, too, behind all others."""
        self._attendants = (*self._attendants, attendant)

    def run(self, max_insns: int) -> End:
        """Run until the guest ends, or ``max_insns`` instructions have retired in all."""
        while not self._interrupt.requested:
            left = max_insns - self._retired()
            if left <= 0:
                return End(
                    EndReason.BUDGET, f"the guest did not end within {max_insns:,} instructions"
                )
            budget = min(left, self._until_due())
            if self._interrupt.requested:
                break
            end = self._serve(self._vcpu.run(budget))
            if end is not None:
                return end
        return INTERRUPTED

    def _until_due(self) -> int:
        """Give those a turn for whom it is time; return the instructions before the next one."""
        until = SLICE
        for attendant in self._attendants:
            while attendant.due is not None and self._retired() >= attendant.due:
                attendant.act()
            if attendant.due is not None:
                until = min(until, attendant.due - self._retired())
        return until

    def _serve(self, exit_: Exit) -> End | None:
        match exit_:
            case Mmio():
                self._mmio(exit_)
            case ArmNisv():
                self.nisv += 1
                self._inject_abort()
            case DirtyRingFull():
                assert self._tracker is not None, "only a ring can be full"
                self._tracker.collect()
            case Intr(cause=IntrCause.STOPPED):
                return End(EndReason.CRASHED, "every CPU has turned itself off (PSCI CPU_OFF)")
            case Intr(cause=IntrCause.WAITING):
                if self._wait():
                    return None
                return End(
                    EndReason.IDLE,
                    "the guest waits (WFI) and no timer is set: no interrupt can ever come",
                )
            case Sigbus():
                return End(
                    EndReason.CRASHED, f"the memory at hva {exit_.si_addr:#x} has failed (SIGBUS)"
                )
            case Intr():
                pass
            case SystemEvent(type=SystemEventType.SHUTDOWN):
                return End(EndReason.POWER_OFF, "PSCI SYSTEM_OFF")
            case SystemEvent(type=SystemEventType.RESET):
                return End(EndReason.RESET, "PSCI SYSTEM_RESET")
            case SystemEvent():
                return End(EndReason.CRASHED, f"system event {exit_.type.name}, which nothing ends")
            case Error():
                return End(EndReason.CRASHED, f"KVM_RUN: {exit_.errno.name}: {exit_.message}")
            case InternalError(suberror=InternalErrorCode.NO_PROGRESS):
                return End(EndReason.STUCK, exit_.message)
            case _:
                return End(EndReason.CRASHED, f"unexpected exit: {exit_}")
        return None

    def _mmio(self, exit_: Mmio) -> None:
        if exit_.is_write:
            if not self.device.write(exit_.phys_addr, exit_.data):
                self._note_unclaimed(exit_)
            return
        data = self.device.read(exit_.phys_addr, exit_.len)
        if data is None:
            self._note_unclaimed(exit_)
            data = bytes(exit_.len)
        self._vcpu.set_mmio_data(data)

    def _note_unclaimed(self, exit_: Mmio) -> None:
        page = IPA(exit_.phys_addr & ~PAGE_MASK)
        self.unclaimed[page, "write" if exit_.is_write else "read"] += 1
