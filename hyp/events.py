"""The kinds of events: KVM's tracepoints as typed values, and a few of our own.

Names, fields and texts are those of trace_arm.h, trace_handle_exit.h and
trace/events/kvm.h. How they are given out is in :mod:`hyp.event_stream`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, ClassVar

from emu.arch.esr.classes import ExceptionClass
from hyp.errors import Errno

if TYPE_CHECKING:
    from emu.arch.address import IPA, PA, VA
    from emu.arch.fields import Encoding
    from hyp.exits import ExitReason
    from hyp.host import HVA
    from hyp.pte import Prot
    from hyp.stats import Resolution


class ExceptionType(IntEnum):
    """Why EL2 was entered: the ret field of kvm_exit."""

    IRQ = 0
    SERROR = 1
    TRAP = 2
    IL = 3


class MmioType(IntEnum):
    """The KVM_TRACE_MMIO_* numbers."""

    READ_UNSATISFIED = 0
    READ = 1
    WRITE = 2

    @property
    def text(self) -> str:
        """The name that the trace prints."""
        return ("unsatisfied-read", "read", "write")[self]


class IrqLineType(IntEnum):
    """The KVM_ARM_IRQ_TYPE_* numbers."""

    CPU = 0
    SPI = 1
    PPI = 2

    @property
    def text(self) -> str:
        """The name that the trace prints."""
        return ("CPU", "VGIC SPI", "VGIC PPI")[self]


def _hex(value: int, width: int) -> str:
    """Format as the kernel's ``%#0<width>lx`` does: the prefix counts, and zero has one too."""
    return format(value, f"#0{width}x")


def _on_off(state: bool) -> str:
    return "on" if state else "off"


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Parameters
    ----------
    vcpu
        The index of the vCPU it happened on; -1 for the VM as a whole.
    time
        Instructions that this vCPU's PE had retired.
    """

    name: ClassVar[str] = ""

    vcpu: int
    time: int

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, int | str | list[int]]:
        """Return the event as what JSON can hold, the name under ``event``."""
        shown: dict[str, int | str | list[int]] = {"event": self.name}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Enum):
                value = value.name
            elif isinstance(value, tuple):
                value = list(value)
            shown[field.name] = value
        return shown

    def __str__(self) -> str:
        return f"{self.name}: {self.text()}"


@dataclass(frozen=True, slots=True)
class KvmEntry(Event):
    """The guest is about to run."""

    vcpu_pc: VA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"PC: 0x{self.vcpu_pc:016x}"


@dataclass(frozen=True, slots=True)
class KvmExit(Event):
    """EL2 was entered. ``esr_ec`` is 0 unless by a trap."""

    ret: ExceptionType
    esr_ec: int
    vcpu_pc: VA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        try:
            ec = ExceptionClass(self.esr_ec).name
        except ValueError:
            ec = f"0x{self.esr_ec:x}"
        return f"{self.ret.name}: HSR_EC: 0x{self.esr_ec:04x} ({ec}), PC: 0x{self.vcpu_pc:016x}"


@dataclass(frozen=True, slots=True)
class KvmGuestFault(Event):
    """The guest took a stage-2 abort."""

    vcpu_pc: VA
    hsr: int
    hxfar: VA
    ipa: IPA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return (
            f"ipa {self.ipa:#x}, hsr {_hex(self.hsr, 8)}, hxfar {_hex(self.hxfar, 8)}, "
            f"pc {_hex(self.vcpu_pc, 16)}"
        )


@dataclass(frozen=True, slots=True)
class KvmAccessFault(Event):
    """An access flag fault was resolved."""

    ipa: IPA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"IPA: {self.ipa:x}"


@dataclass(frozen=True, slots=True)
class KvmMmio(Event):
    """One step of an MMIO access. ``len`` is in bytes."""

    type: MmioType
    len: int
    gpa: IPA
    val: int

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"mmio {self.type.text} len {self.len} gpa 0x{self.gpa:x} val 0x{self.val:x}"


@dataclass(frozen=True, slots=True)
class KvmMmioNisv(Event):
    """An access outside the slots came without a valid syndrome."""

    vcpu_pc: VA
    esr: int
    far: VA
    ipa: IPA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return (
            f"ipa {_hex(self.ipa, 16)}, esr {_hex(self.esr, 16)}, far {_hex(self.far, 16)}, "
            f"pc {_hex(self.vcpu_pc, 16)}"
        )


@dataclass(frozen=True, slots=True)
class KvmIrqLine(Event):
    """User space moved an interrupt line. A type that KVM lacks is a number."""

    type: IrqLineType | int
    vcpu_idx: int
    irq_num: int
    level: int

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        name = self.type.text if isinstance(self.type, IrqLineType) else "UNKNOWN"
        return (
            f"Inject {name} interrupt ({self.type:d}), vcpu->idx: {self.vcpu_idx}, "
            f"num: {self.irq_num}, level: {self.level}"
        )


@dataclass(frozen=True, slots=True)
class VgicUpdateIrqPending(Event):
    """The input of an interrupt was moved. An SPI is reported for vCPU 0."""

    vcpu_id: int
    irq: int
    level: bool

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"VCPU: {self.vcpu_id}, IRQ {self.irq}, level: {self.level:d}"


@dataclass(frozen=True, slots=True)
class KvmTimerUpdateIrq(Event):
    """The output of a timer has changed."""

    vcpu_id: int
    irq: int
    level: bool

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"VCPU: {self.vcpu_id}, IRQ {self.irq}, level {self.level:d}"


@dataclass(frozen=True, slots=True)
class KvmSetWayFlush(Event):
    """The guest used cache maintenance by set and way."""

    vcpu_pc: VA
    cache: bool

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"S/W flush at 0x{self.vcpu_pc:016x} (cache {_on_off(self.cache)})"


@dataclass(frozen=True, slots=True)
class KvmToggleCache(Event):
    """The guest wrote a register that can turn its caches on or off."""

    vcpu_pc: VA
    was: bool
    now: bool

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return (
            f"VM op at 0x{self.vcpu_pc:016x} "
            f"(cache was {_on_off(self.was)}, now {_on_off(self.now)})"
        )


@dataclass(frozen=True, slots=True)
class KvmWfxArm64(Event):
    """The guest executed WFI or WFE."""

    vcpu_pc: VA
    is_wfe: bool

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"guest executed wf{'e' if self.is_wfe else 'i'} at: 0x{self.vcpu_pc:016x}"


@dataclass(frozen=True, slots=True)
class KvmHvcArm64(Event):
    """The guest executed HVC."""

    vcpu_pc: VA
    r0: int
    imm: int

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"HVC at 0x{self.vcpu_pc:016x} (r0: 0x{self.r0:016x}, imm: 0x{self.imm:x})"


@dataclass(frozen=True, slots=True)
class KvmHandleSysReg(Event):
    """A system register access trapped."""

    hsr: int

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"HSR 0x{self.hsr:08x}"


@dataclass(frozen=True, slots=True)
class KvmSysAccess(Event):
    """A trapped system register access was looked up. ``reg`` is UNKN for an unknown one."""

    vcpu_pc: VA
    reg: str
    encoding: Encoding
    is_write: bool

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        ops = ",".join(str(op) for op in self.encoding)
        return f"PC: {self.vcpu_pc:x} {self.reg} ({ops}) {'write' if self.is_write else 'read'}"


@dataclass(frozen=True, slots=True)
class KvmUserspaceExit(Event):
    """A run returned to user space: with a reason, or with a negative errno."""

    reason: ExitReason
    errno: int

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        if self.errno < 0:
            name = "restart" if self.errno == -Errno.EINTR else "error"
            return f"reason {name} ({-self.errno})"
        return f"reason KVM_EXIT_{self.reason.name} ({self.reason:d})"


@dataclass(frozen=True, slots=True)
class KvmUnmapHvaRange(Event):
    """The host is about to change a range of its address space."""

    start: HVA
    end: HVA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"mmu notifier unmap range: {_hex(self.start, 16)} -- {_hex(self.end, 16)}"


@dataclass(frozen=True, slots=True)
class KvmSetSpteHva(Event):
    """The host has put another page in the place of one (until v6.10)."""

    hva: HVA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"mmu notifier set pte hva: {_hex(self.hva, 16)}"


@dataclass(frozen=True, slots=True)
class KvmAgeHva(Event):
    """The host asks whether a range was used, and starts afresh."""

    start: HVA
    end: HVA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"mmu notifier age hva: {_hex(self.start, 16)} -- {_hex(self.end, 16)}"


@dataclass(frozen=True, slots=True)
class KvmTestAgeHva(Event):
    """The host asks whether a page was used."""

    hva: HVA

    def text(self) -> str:
        """Return what ftrace prints after the event's name."""
        return f"mmu notifier test age hva: {_hex(self.hva, 16)}"


@dataclass(frozen=True, slots=True)
class CacheMaintenanceOp(Event):
    """The hypervisor maintained a cache. This is no tracepoint of KVM's.

    Parameters
    ----------
    operation
        As in the instruction: ``IVAU``, ``IALLUIS``, ``CIVAC``.
    pa, size
        What it was done for; ``None`` and 0 for everything.
    """

    operation: str
    pa: PA | None
    size: int

    def text(self) -> str:
        """Return the operation and its range."""
        if self.pa is None:
            return f"{self.operation} all"
        return f"{self.operation} pa {self.pa:#x}, size {self.size:#x}"


@dataclass(frozen=True, slots=True)
class MemcacheTopup(Event):
    """A vCPU's cache of spare tables was filled. Ours, not KVM's: see ``VM.mmu_events``."""

    pages: int
    objects: int

    def text(self) -> str:
        """Return the event as a line of a trace."""
        return f"{self.pages} pages, now {self.objects}"


@dataclass(frozen=True, slots=True)
class Stage2Install(Event):
    """A fault was answered with a mapping. Ours, not KVM's: see ``VM.mmu_events``.

    ``granule`` is the size of the entry that the fault met, ``size`` that of the mapping,
    ``tables`` how many spare tables were used.
    """

    ipa: IPA
    granule: int
    size: int
    prot: Prot
    resolution: Resolution
    tables: int
    error: Errno

    def text(self) -> str:
        """Return the event as a line of a trace."""
        return (
            f"ipa {self.ipa:#x}, granule {self.granule:#x}, size {self.size:#x}, "
            f"prot {self.prot!r}, {self.resolution}, {self.tables} tables, {self.error.name}"
        )
