"""The registers of one PE, wherever they are kept.

EL1 registers that guest code reaches natively live in the engine. EL2 registers live here,
since the engine has no EL2. Identification registers are constants of the CPU, the timer's
registers are its unit's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from unicorn import arm64_const as uc_reg

from emu.arch.address import VA
from emu.arch.exceptions import ExceptionKind, entry_to_el1
from emu.arch.fields import SystemRegister
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    FAR_EL2,
    HPFAR_EL2,
    PSTATE,
    SP_EL0,
    SP_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
    VSESR_EL2,
)
from emu.arch.registers.identification import MPIDR_EL1
from emu.arch.registers.translation import (
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from emu.arch.registers.virtualization import HCR_EL2, SCTLR_EL2, VTCR_EL2, VTTBR_EL2
from emu.cpu.engine import X_IDS
from emu.cpu.interrupts import serror_syndrome
from emu.mmu.regime import ControlRegisters

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.cpu.engine import Engine
    from emu.cpu.exception import ArmException
    from emu.cpu.interrupts import VirtualInterrupt
    from emu.units.timer import GenericTimer

R = TypeVar("R", bound=SystemRegister)

TRANSLATION_CONTROLS: Final = frozenset(
    {
        SCTLR_EL1,
        TCR_EL1,
        TTBR0_EL1,
        TTBR1_EL1,
        MAIR_EL1,
        HCR_EL2,
        VTCR_EL2,
        VTTBR_EL2,
        SCTLR_EL2,
    }
)
"""Registers from which the translation regime is decoded."""

ZERO_REGISTER: Final = 31
_EL2_OP1: Final = 4
_SPSEL: Final = 1
_MODE: Final = PSTATE.M.in_place


class RegisterFile:
    """General and system registers of one PE.

    Attributes
    ----------
    written
        Set whenever a general register is written from outside the guest.
    """

    def __init__(
        self, engine: Engine, features: CpuFeatures, timer: GenericTimer, index: int
    ) -> None:
        self._engine = engine
        self._features = features
        self._timer = timer
        self._el2: dict[type[SystemRegister], int] = {}
        self._constants = {type(value): value for value in features.id_registers}
        self._constants[MPIDR_EL1] = MPIDR_EL1.build(RES1=1, Aff0=index)
        self.written = False

    # General registers

    def x(self, number: int) -> int:
        """Read X0 to X30; 31 reads as zero."""
        return 0 if number == ZERO_REGISTER else self._engine.read(X_IDS[number])

    def set_x(self, number: int, value: int) -> None:
        """Write X0 to X30; writes to 31 are ignored."""
        if number != ZERO_REGISTER:
            self.written = True
            self._engine.write(X_IDS[number], value & (1 << 64) - 1)

    def q(self, number: int) -> int:
        """Read Q0 to Q31, 128 bits."""
        return self._engine.read_vector(number)

    def set_q(self, number: int, value: int) -> None:
        """Write Q0 to Q31."""
        self.written = True
        self._engine.write_vector(number, value)

    def sp(self) -> VA:
        """Return the current stack pointer."""
        return VA(self._engine.read(uc_reg.UC_ARM64_REG_SP))

    # System registers

    def read(self, register: type[R]) -> R:
        """Read a system register as EL2 software would."""
        if register in self._el2:
            return register(self._el2[register])
        if register is SP_EL0 or register is SP_EL1:
            return register(self._engine.read(self._bank(register)))
        if register in self._constants:
            return register(self._constants[register])
        if self._timer.handles(register):
            return register(self._timer.read(register))
        if register.encoding.op1 == _EL2_OP1:
            return register(self._el2.get(register, 0))
        return register(self._engine.read_system(register.encoding))

    def write(self, value: SystemRegister) -> None:
        """Write a system register as EL2 software would."""
        register = type(value)
        if register is SP_EL0 or register is SP_EL1:
            self._engine.write(self._bank(register), value)
        elif self._timer.handles(register):
            self._timer.write(register, value)
        elif register is HCR_EL2:
            self._el2[register] = value & ~self._features.hcr_res0
        elif register.encoding.op1 == _EL2_OP1:
            self._el2[register] = int(value)
        else:
            self._engine.write_system(register.encoding, value)

    def el2(self, register: type[SystemRegister]) -> int:
        """Return an EL2 register's plain value, quickly."""
        return self._el2.get(register, 0)

    def _bank(self, register: type[SystemRegister]) -> int:
        """Return where a banked stack pointer is: the one in use is in SP itself."""
        in_use = SP_EL1 if self._engine.state()[1] & _SPSEL else SP_EL0
        if register is in_use:
            return uc_reg.UC_ARM64_REG_SP
        return _STACK_BANKS[register]

    def controls(self) -> ControlRegisters:
        """Return the registers that the translation regime is decoded from."""
        read = self._engine.read_system
        return ControlRegisters(
            read(SCTLR_EL1.encoding),
            read(TCR_EL1.encoding),
            read(TTBR0_EL1.encoding),
            read(TTBR1_EL1.encoding),
            self._el2.get(HCR_EL2, 0),
            self._el2.get(VTCR_EL2, 0),
            self._el2.get(VTTBR_EL2, 0),
            read(MAIR_EL1.encoding),
            self._el2.get(SCTLR_EL2, 0),
        )

    # Exceptions

    def enter_el1(self, exception: ArmException, pstate: int) -> VA:
        """Take a synchronous exception to EL1; return the PC of its vector."""
        if exception.far is not None:
            self._engine.write_system(FAR_EL1.encoding, exception.far)
        return self._vector(ExceptionKind.SYNCHRONOUS, exception.pc, pstate, exception.esr)

    def take_interrupt(self, interrupt: VirtualInterrupt, pc: VA, pstate: int) -> VA:
        """Take a virtual interrupt to EL1 before the instruction at ``pc``."""
        esr = None
        if interrupt.kind is ExceptionKind.SERROR:
            esr = serror_syndrome(self._el2.get(VSESR_EL2, 0), ras=self._features.ras)
        return self._vector(interrupt.kind, pc, pstate, esr)

    def _vector(self, kind: ExceptionKind, pc: VA, pstate: int, esr: int | None) -> VA:
        engine = self._engine
        entry = entry_to_el1(
            PSTATE(pstate),
            SCTLR_EL1(engine.read_system(SCTLR_EL1.encoding)),
            VBAR_EL1(engine.read_system(VBAR_EL1.encoding)),
            kind,
            self._features.pstate,
        )
        engine.write_system(ELR_EL1.encoding, pc)
        if esr is not None:
            engine.write_system(ESR_EL1.encoding, esr)
        self.set_pstate(entry.pstate, pstate)
        engine.write_system(SPSR_EL1.encoding, pstate)
        return entry.pc

    def enter_el2(self, exception: ArmException, pstate: int) -> None:
        """Record a synchronous exception taken to EL2."""
        el2 = self._el2
        el2[ESR_EL2] = exception.esr
        el2[ELR_EL2] = exception.pc
        el2[SPSR_EL2] = pstate
        if exception.far is not None:
            el2[FAR_EL2] = exception.far
        if exception.hpfar is not None:
            el2[HPFAR_EL2] = exception.hpfar

    def set_pstate(self, new: int, old: int) -> None:
        """Change PSTATE, with the stack pointer that goes with its mode."""
        engine = self._engine
        if (new ^ old) & _MODE:
            banks = (SP_EL0, SP_EL1)
            engine.write(_STACK_BANKS[banks[old & _SPSEL]], engine.read(uc_reg.UC_ARM64_REG_SP))
            engine.write(uc_reg.UC_ARM64_REG_PSTATE, new)
            engine.write(uc_reg.UC_ARM64_REG_SP, engine.read(_STACK_BANKS[banks[new & _SPSEL]]))
        else:
            engine.write(uc_reg.UC_ARM64_REG_PSTATE, new)
        # Writing any system register makes the engine notice the new Exception level.
        engine.write_system(SPSR_EL1.encoding, engine.read_system(SPSR_EL1.encoding))


_STACK_BANKS: Final[dict[type[SystemRegister], int]] = {
    SP_EL0: uc_reg.UC_ARM64_REG_SP_EL0,
    SP_EL1: uc_reg.UC_ARM64_REG_SP_EL1,
}
