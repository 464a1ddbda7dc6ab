"""What ``VCPU.run()`` returns: KVM's exit reasons as values.

Names, numbers and fields are those of ``struct kvm_run`` (uapi/linux/kvm.h).
A guest that misbehaves ends in one of these, never in a Python exception.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum, IntEnum, IntFlag
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from emu.arch.address import IPA, VA
    from hyp.errors import Errno
    from hyp.host import HVA


class ExitReason(IntEnum):
    """The KVM_EXIT_* numbers used on arm64."""

    UNKNOWN = 0
    HYPERCALL = 3
    DEBUG = 4
    MMIO = 6
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    INTERNAL_ERROR = 17
    SYSTEM_EVENT = 24
    ARM_NISV = 28
    DIRTY_RING_FULL = 31
    MEMORY_FAULT = 39
    ARM_SEA = 41
    ARM_LDST64B = 42


class SystemEventType(IntEnum):
    """The KVM_SYSTEM_EVENT_* numbers."""

    SHUTDOWN = 1
    RESET = 2
    CRASH = 3
    WAKEUP = 4
    SUSPEND = 5


class InternalErrorCode(IntEnum):
    """The suberror of KVM_EXIT_INTERNAL_ERROR."""

    EMULATION = 1
    UNEXPECTED_EXIT_REASON = 4
    NO_PROGRESS = 0x100
    """Ours: the same abort repeats and no instruction retires. KVM would spin."""


class IntrCause(Enum):
    """Why a run was interrupted."""

    BUDGET = "budget"
    IMMEDIATE_EXIT = "immediate_exit"
    STOPPED = "stopped"
    WAITING = "waiting"
    """The guest waits for an interrupt: where KVM's thread would sleep. If the vCPU has the
    machine for itself, nothing is left that could raise one, and that would be for ever."""
    YIELD = "yield"
    """The guest spins (WFE), and other vCPUs could run."""
    USERFAULT = "userfault"
    """A page is missing that user space supplies, and its handler has not yet. KVM would block
    in the kernel; other vCPUs can run until the page is there."""
    SIGNAL = "signal"
    """A signal was sent to the vCPU's thread; the exit says which."""


_HEXADECIMAL: Final = frozenset(
    {"phys_addr", "fault_ipa", "gva", "gpa", "esr", "esr_iss", "si_addr"}
)


class SeaFlags(IntFlag):
    """The flags of KVM_EXIT_ARM_SEA."""

    GPA_VALID = 1


@dataclass(frozen=True, slots=True, repr=False)
class Exit:
    """The common base of all exits."""

    reason: ClassVar[ExitReason]

    def __repr__(self) -> str:
        """Return the exit with its addresses and syndromes in hexadecimal."""
        shown = (f"{field.name}={self._shown(field.name)}" for field in fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        return f"{value:#x}" if name in _HEXADECIMAL else repr(value)


@dataclass(frozen=True, slots=True, repr=False)
class Mmio(Exit):
    """The guest accessed an address that no slot and no device in process claims.

    Parameters
    ----------
    phys_addr
        The IPA of the access, page offset included.
    data
        The bytes written, lowest address first; zeros for a read. The answer
        to a read is given to ``VCPU.set_mmio_data`` before the next run.
    len
        The width of the access in bytes: 1, 2, 4 or 8.
    is_write
        Whether the guest stored.
    """

    reason: ClassVar[ExitReason] = ExitReason.MMIO

    phys_addr: IPA
    data: bytes
    len: int
    is_write: bool

    @property
    def value(self) -> int:
        """The bytes written, as a little-endian number."""
        return int.from_bytes(self.data, "little")


@dataclass(frozen=True, slots=True, repr=False)
class SystemEvent(Exit):
    """The guest asked the firmware to stop or reset the machine."""

    reason: ClassVar[ExitReason] = ExitReason.SYSTEM_EVENT

    type: SystemEventType
    data: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Intr(Exit):
    """The run ended before the guest did: EINTR in KVM."""

    reason: ClassVar[ExitReason] = ExitReason.INTR

    cause: IntrCause = IntrCause.BUDGET


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Sigbus(Intr):
    """The memory behind the guest's access has failed: SIGBUS, code BUS_MCEERR_AR.

    KVM_RUN returns -1 and EINTR once the signal has been handled. The guest repeats the
    access when it runs again.

    Parameters
    ----------
    si_addr
        The host address of the page.
    si_addr_lsb
        log2 of how much is lost.
    """

    cause: IntrCause = IntrCause.SIGNAL
    si_addr: HVA
    si_addr_lsb: int


@dataclass(frozen=True, slots=True, repr=False)
class ArmNisv(Exit):
    """An access outside the slots whose syndrome does not describe the instruction.

    Parameters
    ----------
    esr_iss
        ``ESR_EL2`` reduced to CM, WnR and FSC.
    fault_ipa
        The IPA of the access, page offset included.
    """

    reason: ClassVar[ExitReason] = ExitReason.ARM_NISV

    esr_iss: int
    fault_ipa: IPA


@dataclass(frozen=True, slots=True, repr=False)
class ArmSea(Exit):
    """The guest consumed a synchronous external abort (KVM_CAP_ARM_SEA_TO_USER)."""

    reason: ClassVar[ExitReason] = ExitReason.ARM_SEA

    flags: SeaFlags
    esr: int
    gva: VA
    gpa: IPA


@dataclass(frozen=True, slots=True, repr=False)
class MemoryFault(Exit):
    """The guest_memfd could not provide the page behind ``gpa``: KVM_RUN also returns -1.

    The vCPU's state is unchanged: once the cause is repaired, the next run
    repeats the access.
    """

    reason: ClassVar[ExitReason] = ExitReason.MEMORY_FAULT

    flags: int
    gpa: IPA
    size: int
    errno: Errno


@dataclass(frozen=True, slots=True, repr=False)
class DirtyRingFull(Exit):
    """The vCPU's dirty ring is full: harvest it, reset the rings, and run on."""

    reason: ClassVar[ExitReason] = ExitReason.DIRTY_RING_FULL


@dataclass(frozen=True, slots=True, repr=False)
class FailEntry(Exit):
    """The guest could not be entered."""

    reason: ClassVar[ExitReason] = ExitReason.FAIL_ENTRY

    hardware_entry_failure_reason: int
    cpu: int


@dataclass(frozen=True, slots=True, repr=False)
class InternalError(Exit):
    """The hypervisor met something it cannot go on from."""

    reason: ClassVar[ExitReason] = ExitReason.INTERNAL_ERROR

    suberror: InternalErrorCode
    message: str


@dataclass(frozen=True, slots=True, repr=False)
class Error(Exit):
    """KVM_RUN would have returned -1 with this errno.

    The vCPU's state is unchanged: once the cause is repaired, the next run
    repeats the access.
    """

    reason: ClassVar[ExitReason] = ExitReason.UNKNOWN

    errno: Errno
    message: str
