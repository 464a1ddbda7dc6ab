"""Debug of guests: by themselves, and by user space (arch/arm64/kvm/debug.c).

Until a guest uses its debug registers, MDCR_EL2.TDA traps them; from the first access on they are
its own. User space that debugs a guest, and a guest that sets the OS lock, take them away again
for the time of a run: MDSCR_EL1 is KVM's then, and the guest sees what is kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import TYPE_CHECKING, Final

from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.debug import (
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDCCINT_EL1,
    MDSCR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.exceptions import FAR_EL2, SPSR_EL2
from emu.arch.registers.identification import ID_AA64DFR0_EL1
from emu.arch.registers.virtualization import MDCR_EL2
from hyp.errors import Errno, KvmError
from hyp.exits import Debug

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU

COMPARATORS: Final[tuple[type[SystemRegister], ...]] = (
    *DBGBVR_EL1,
    *DBGBCR_EL1,
    *DBGWVR_EL1,
    *DBGWCR_EL1,
)
"""KVM keeps 16 breakpoints and 16 watchpoints, however many the CPU has."""

_TDA: Final = MDCR_EL2.TDA.in_place
_TDE: Final = MDCR_EL2.TDE.in_place
_SS: Final = SPSR_EL2.SS.in_place
_EC_SHIFT: Final = 26
_MASK64: Final = (1 << 64) - 1
_MASK32: Final = (1 << 32) - 1


class GuestDebug(IntFlag):
    """What user space wants of KVM_SET_GUEST_DEBUG: KVM_GUESTDBG_*."""

    ENABLE = 1
    SINGLESTEP = 2
    USE_SW_BP = 1 << 16
    USE_HW = 1 << 17


_VALID: Final = GuestDebug.ENABLE | GuestDebug.SINGLESTEP | GuestDebug.USE_SW_BP | GuestDebug.USE_HW


@dataclass(frozen=True, slots=True)
class GuestDebugArch:
    """The breakpoints and watchpoints of user space (``struct kvm_guest_debug_arch``)."""

    dbg_bcr: tuple[int, ...] = ()
    dbg_bvr: tuple[int, ...] = ()
    dbg_wcr: tuple[int, ...] = ()
    dbg_wvr: tuple[int, ...] = ()

    def registers(self) -> dict[type[SystemRegister], int]:
        """Return the values of all registers; those not given are 0."""
        values = dict.fromkeys(COMPARATORS, 0)
        for registers, given in (
            (DBGBCR_EL1, self.dbg_bcr),
            (DBGBVR_EL1, self.dbg_bvr),
            (DBGWCR_EL1, self.dbg_wcr),
            (DBGWVR_EL1, self.dbg_wvr),
        ):
            if len(given) > len(registers) or any(not 0 <= value <= _MASK64 for value in given):
                raise KvmError(
                    Errno.EINVAL,
                    f"{registers[0].__name__} and so on are at most {len(registers)} values of "
                    f"64 bits, not {given!r}",
                )
            values.update(zip(registers, given, strict=False))
        return values


class DebugOwner(Enum):
    """Whose the breakpoint and watchpoint registers of the PE are."""

    FREE = "nobody's"
    GUEST = "the guest's"
    HOST = "KVM's"


class VcpuDebug:
    """The debug state of one vCPU.

    Attributes
    ----------
    owner
        Whose the PE's registers are while the vCPU is loaded.
    os_lock
        Whether the guest has set its OS lock.
    control
        What user space asked for.
    """

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self.control = GuestDebug(0)
        self._external: dict[type[SystemRegister], int] = {}
        self._host_step_pending = False
        self._guest_ss = 0
        self.reset()

    def reset(self) -> None:
        """Clear the guest's registers; what user space asked for stays."""
        self.owner = DebugOwner.FREE
        self.os_lock = False
        self._registers = dict.fromkeys(COMPARATORS, 0)
        self._mdscr = 0

    # --- the world switch ----------------------------------------------------------------

    def load(self) -> None:
        """Give a PE that has just been given MDSCR_EL1 the rest (``kvm_vcpu_load_debug``)."""
        mdscr = self._vcpu.pe.read(MDSCR_EL1)
        self._set_owner(DebugOwner.GUEST if mdscr.KDE or mdscr.MDE else DebugOwner.FREE)

    def put(self) -> None:
        """Take the guest's registers from the PE, if it has them (``__debug_save_state``)."""
        self._set_owner(DebugOwner.FREE)

    def _set_owner(self, owner: DebugOwner) -> None:
        """Move the comparators to or from the PE, and trap accesses to them or not."""
        if self.owner is DebugOwner.GUEST and owner is not self.owner:
            self._registers |= self._of_pe()
        if owner is DebugOwner.GUEST and owner is not self.owner:
            self._give(self._registers)
        self.owner = owner
        pe = self._vcpu.pe
        mdcr = pe.read(MDCR_EL2)
        wanted = mdcr & ~(_TDA | _TDE)
        if owner is not DebugOwner.GUEST:
            wanted |= _TDA
        if owner is DebugOwner.HOST and self.control:
            wanted |= _TDE
        if wanted != mdcr:
            pe.write(MDCR_EL2(wanted))

    def _implemented(self) -> tuple[type[SystemRegister], ...]:
        dfr0 = self._vcpu.pe.read(ID_AA64DFR0_EL1)
        brps, wrps = dfr0.BRPs + 1, dfr0.WRPs + 1
        return (*DBGBVR_EL1[:brps], *DBGBCR_EL1[:brps], *DBGWVR_EL1[:wrps], *DBGWCR_EL1[:wrps])

    def _of_pe(self) -> dict[type[SystemRegister], int]:
        registers = self._implemented()
        return dict(zip(registers, self._vcpu.pe.read_list(registers), strict=True))

    def _give(self, values: dict[type[SystemRegister], int]) -> None:
        registers = self._implemented()
        self._vcpu.pe.write_list(registers, [values[register] for register in registers])

    # --- a run ---------------------------------------------------------------------------

    def enter(self) -> None:
        """Take the registers for user space, or for the OS lock, until :meth:`leave`."""
        if not self.control and not self.os_lock:
            return
        vcpu, pe = self._vcpu, self._vcpu.pe
        mdscr = pe.read(MDSCR_EL1)
        self._set_owner(DebugOwner.HOST)
        self._mdscr = int(mdscr)
        steps = bool(self.control & GuestDebug.SINGLESTEP)
        hardware = bool(self.control & GuestDebug.USE_HW)
        if hardware:
            self._give(self._external)
        pe.write(mdscr.replace(SS=steps, MDE=hardware, KDE=hardware))
        if steps:
            self._guest_ss = vcpu.pstate & _SS
            vcpu.write(vcpu.pstate.replace(SS=not self._host_step_pending))

    def leave(self) -> None:
        """Give them back."""
        if self.owner is not DebugOwner.HOST:
            return
        vcpu = self._vcpu
        if self.control & GuestDebug.SINGLESTEP:
            self._host_step_pending = not vcpu.pstate.SS
            vcpu.write(vcpu.pstate.replace(SS=bool(self._guest_ss)))
        vcpu.pe.write(MDSCR_EL1(self._mdscr))
        self.load()

    def set_guest_debug(
        self, control: GuestDebug | int, arch: GuestDebugArch | None = None
    ) -> None:
        """Do what :meth:`hyp.vcpu.VCPU.set_guest_debug` says."""
        if int(control) & ~int(_VALID):
            raise KvmError(
                Errno.EINVAL,
                f"guest debug has no bits {int(control) & ~int(_VALID):#x}; use ENABLE, "
                "SINGLESTEP, USE_SW_BP and USE_HW of GuestDebug",
            )
        flags = GuestDebug(control)
        if not flags & GuestDebug.ENABLE:
            self.control = GuestDebug(0)
            self._host_step_pending = False
            return
        if flags & GuestDebug.USE_HW:
            self._external = (GuestDebugArch() if arch is None else arch).registers()
        self.control = flags

    # --- trapped accesses ----------------------------------------------------------------

    def access(self) -> None:
        """Let the guest have the registers from now on (``kvm_debug_set_guest_ownership``)."""
        if self.owner is DebugOwner.FREE:
            self._set_owner(DebugOwner.GUEST)

    def read(self, register: type[SystemRegister]) -> int:
        """Read a debug register as the guest has it, wherever it is."""
        if register is MDCCINT_EL1:
            return self._vcpu.read(MDCCINT_EL1)
        if register is MDSCR_EL1:
            return self._mdscr if self.owner is DebugOwner.HOST else self._vcpu.read(MDSCR_EL1)
        if self.owner is DebugOwner.GUEST and register in self._implemented():
            return int(self._vcpu.pe.read(register))
        return self._registers[register]

    def write(self, value: SystemRegister) -> None:
        """Write a debug register for the guest, wherever it is."""
        register = type(value)
        if register is MDCCINT_EL1:
            self._vcpu.write(value)
        elif register is MDSCR_EL1:
            if self.owner is DebugOwner.HOST:
                self._mdscr = int(value)
            else:
                self._vcpu.write(value)
            if self.owner is DebugOwner.FREE and self._vcpu.loaded_on is not None:
                self.load()
        elif self.owner is DebugOwner.GUEST and register in self._implemented():
            self._vcpu.pe.write(value)
        else:
            self._registers[register] = int(value)

    @property
    def oslsr(self) -> OSLSR_EL1:
        """The guest's OSLSR_EL1."""
        return OSLSR_EL1.build(OSLM1=1, OSLK=self.os_lock)

    def set_os_lock(self, locked: bool) -> None:
        """Set or clear the guest's OS lock while it runs (``kvm_debug_handle_oslar``)."""
        self.leave()
        self.os_lock = locked
        self.enter()


def kvm_handle_guest_debug(vcpu: VCPU, esr: int) -> Debug:
    """Tell user space of a debug exception, which is taken to EL2 only for its sake."""
    far = 0
    ec = esr >> _EC_SHIFT & 0x3F
    if ec == ExceptionClass.WATCHPT_LOW:
        far = int(vcpu.pe.read(FAR_EL2))
    elif ec == ExceptionClass.SOFTSTP_LOW:
        vcpu.pe.write(vcpu.pstate.replace(SS=1))
    return Debug(esr & _MASK32, esr >> 32, far)
