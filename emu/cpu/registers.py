"""The registers of one PE, wherever they are kept.

EL1 registers that guest code reaches natively live in the engine. EL2 registers live here,
since the engine has no EL2, and so do debug registers, whose effects are not the engine's.
Identification registers are constants of the CPU; the registers of the timer and of the performance
monitors are those units'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, TypeVar

from unicorn import arm64_const as uc_reg

from emu.arch.address import VA
from emu.arch.debug.registers import OP0, OSLSR_RESET, stored
from emu.arch.exceptions import ExceptionKind, entry_to_el1
from emu.arch.fields import SystemRegister
from emu.arch.registers.exceptions import (
    DISR_EL1,
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
from emu.arch.registers.virtualization import HCR_EL2, MDCR_EL2, SCTLR_EL2, VTCR_EL2, VTTBR_EL2
from emu.cpu.engineregisters import Q_IDS
from emu.cpu.interrupts import serror_syndrome
from emu.cpu.places import PLAIN
from emu.mmu.regime import ControlRegisters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.features import CpuFeatures
    from emu.cpu.batch import Batch
    from emu.cpu.engine import Engine
    from emu.cpu.exception import ArmException
    from emu.cpu.interrupts import VirtualInterrupt
    from emu.units.pmu import PerformanceMonitors
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


class _Split(NamedTuple):
    """A list of system registers by where they are kept."""

    native: tuple[type[SystemRegister], ...]
    """In the engine, under their own names."""
    el2: tuple[type[SystemRegister], ...]
    """Here, and whatever is written is kept."""
    others: tuple[type[SystemRegister], ...]
    batch: Batch


class RegisterFile:
    """General and system registers of one PE.

    Attributes
    ----------
    written
        Set whenever a general register is written from outside the guest.
    reconfigured
        Set whenever a system register of EL1 is.
    """

    NOT_STATE: ClassVar = frozenset({"_lists", "_vectors", "_words"})

    def __init__(
        self,
        engine: Engine,
        features: CpuFeatures,
        timer: GenericTimer,
        pmu: PerformanceMonitors,
        index: int,
    ) -> None:
        self._engine = engine
        self._features = features
        self._timer = timer
        self._pmu = pmu
        self._el2: dict[type[SystemRegister], int] = {
            type(OSLSR_RESET): int(OSLSR_RESET),
            MDCR_EL2: pmu.counters,
        }
        self._constants = {type(value): value for value in features.id_registers}
        self._constants[MPIDR_EL1] = MPIDR_EL1.build(RES1=1, Aff0=index)
        self._vectors = engine.batch(*Q_IDS)
        self._words = engine.words
        self._places: dict[type[SystemRegister], int] = {
            register: engine.places[register.encoding] for register in PLAIN
        }
        self._lists: dict[tuple[type[SystemRegister], ...], _Split] = {}
        self.written = False
        self.reconfigured = False

    # General registers

    def x(self, number: int) -> int:
        """Read X0 to X30; 31 reads as zero."""
        return 0 if number == ZERO_REGISTER else self._engine.read_x(number)

    def set_x(self, number: int, value: int) -> None:
        """Write X0 to X30; writes to 31 are ignored."""
        if number != ZERO_REGISTER:
            self.written = True
            self._engine.write_x(number, value & (1 << 64) - 1)

    def q(self, number: int) -> int:
        """Read Q0 to Q31, 128 bits."""
        return self._engine.read_vector(number)

    def set_q(self, number: int, value: int) -> None:
        """Write Q0 to Q31."""
        self.written = True
        self._engine.write_vector(number, value)

    def all_x(self) -> list[int]:
        """Read X0 to X30 at once."""
        return self._engine.read_all_x()

    def set_all_x(self, values: Sequence[int]) -> None:
        """Write X0 to X30 at once."""
        self.written = True
        self._engine.write_all_x(values)

    def all_q(self) -> list[int]:
        """Read Q0 to Q31 at once."""
        return self._vectors.read_vectors()

    def set_all_q(self, values: Sequence[int]) -> None:
        """Write Q0 to Q31 at once."""
        self.written = True
        self._vectors.write_vectors(values)

    def sp(self) -> VA:
        """Return the current stack pointer."""
        return VA(self._engine.read(uc_reg.UC_ARM64_REG_SP))

    # System registers

    def read(self, register: type[R]) -> R:
        """Read a system register as EL2 software would."""
        return register(self.word(register))

    def word(self, register: type[SystemRegister]) -> int:
        """Do the same, but return a plain number."""
        value = self._el2.get(register)
        if value is not None:
            return value
        place = self._places.get(register)
        if place is not None:
            return self._words[place]
        if register is SP_EL0 or register is SP_EL1:
            return self._engine.read(self._bank(register))
        if register in self._constants:
            return self._constants[register]
        if self._timer.handles(register):
            return self._timer.read(register)
        if self._pmu.handles(register):
            return self._pmu.read(register)
        if _is_here(register):
            return 0
        return self._engine.read_system(register.encoding)

    def write(self, value: SystemRegister) -> None:
        """Write a system register as EL2 software would."""
        register = type(value)
        if register.encoding.op1 != _EL2_OP1:
            self.reconfigured = True
        if register is SP_EL0 or register is SP_EL1:
            self._engine.write(self._bank(register), value)
        elif self._timer.handles(register):
            self._timer.write(register, value)
        elif self._pmu.handles(register):
            self._pmu.write(register, value)
        elif register is MDCR_EL2:
            self._pmu.sync()
            self._el2[register] = int(value)
            self._pmu.plan()
        elif register is HCR_EL2:
            self._el2[register] = value & ~self._features.hcr_res0
        elif register.encoding.op0 == OP0:
            changed, new = stored(register, value, self.el2)
            self._el2[changed] = new
        elif _is_here(register):
            self._el2[register] = int(value)
        else:
            self._engine.write_system(register.encoding, value)

    def read_list(self, registers: tuple[type[SystemRegister], ...]) -> list[int]:
        """Read system registers; those of the engine at once."""
        split, el2 = self._split(registers), self._el2
        found = dict(zip(split.native, split.batch.read(), strict=True))
        for register in split.el2:
            found[register] = el2.get(register, 0)
        for register in split.others:
            found[register] = int(self.read(register))
        return [found[register] for register in registers]

    def write_list(
        self, registers: tuple[type[SystemRegister], ...], values: Sequence[int]
    ) -> None:
        """Write system registers; those of the engine at once."""
        self.reconfigured = True
        split = self._split(registers)
        given = dict(zip(registers, values, strict=True))
        split.batch.write([given[register] for register in split.native])
        for register in split.el2:
            self._el2[register] = given[register]
        for register in split.others:
            self.write(register(given[register]))

    def _split(self, registers: tuple[type[SystemRegister], ...]) -> _Split:
        """Return where each of ``registers`` is."""
        split = self._lists.get(registers)
        if split is None:
            native = tuple(register for register in registers if self._is_native(register))
            el2 = tuple(register for register in registers if self._is_plain_el2(register))
            others = tuple(register for register in registers if register not in native + el2)
            batch = self._engine.batch(encodings=tuple(r.encoding for r in native))
            split = self._lists[registers] = _Split(native, el2, others, batch)
        return split

    def _is_plain(self, register: type[SystemRegister]) -> bool:
        return not (
            register is HCR_EL2
            or register is MDCR_EL2
            or register.encoding.op0 == OP0
            or register in _STACK_BANKS
            or register in self._constants
            or self._timer.handles(register)
            or self._pmu.handles(register)
        )

    def _is_native(self, register: type[SystemRegister]) -> bool:
        return not _is_here(register) and self._is_plain(register)

    def _is_plain_el2(self, register: type[SystemRegister]) -> bool:
        return _is_here(register) and self._is_plain(register)

    def el2(self, register: type[SystemRegister]) -> int:
        """Return what a register of EL2, or of debug, holds, quickly."""
        return self._el2.get(register, 0)

    def set_el2(self, register: type[SystemRegister], value: int) -> None:
        """Write ELR_EL2 or SPSR_EL2, from which nothing follows."""
        self._el2[register] = value

    def _bank(self, register: type[SystemRegister]) -> int:
        """Return where a banked stack pointer is: the one in use is in SP itself."""
        in_use = SP_EL1 if self._engine.mode & _SPSEL else SP_EL0
        if register is in_use:
            return uc_reg.UC_ARM64_REG_SP
        return _STACK_BANKS[register]

    def controls(self) -> ControlRegisters:
        """Return the registers that the translation regime is decoded from."""
        words, places, el2 = self._words, self._places, self._el2
        return ControlRegisters(
            words[places[SCTLR_EL1]],
            words[places[TCR_EL1]],
            words[places[TTBR0_EL1]],
            words[places[TTBR1_EL1]],
            el2.get(HCR_EL2, 0),
            el2.get(VTCR_EL2, 0),
            el2.get(VTTBR_EL2, 0),
            words[places[MAIR_EL1]],
            el2.get(SCTLR_EL2, 0),
        )

    # Exceptions

    def enter_el1(self, exception: ArmException, pstate: int) -> VA:
        """Take a synchronous exception to EL1; return the PC of its vector."""
        if exception.far is not None:
            self._words[self._places[FAR_EL1]] = exception.far
        return self._vector(ExceptionKind.SYNCHRONOUS, exception.pc, pstate, exception.esr)

    def take_interrupt(self, interrupt: VirtualInterrupt, pc: VA, pstate: int) -> VA:
        """Take a virtual interrupt to EL1 before the instruction at ``pc``."""
        esr = None
        if interrupt.kind is ExceptionKind.SERROR:
            esr = serror_syndrome(self._el2.get(VSESR_EL2, 0), ras=self._features.ras)
        return self._vector(interrupt.kind, pc, pstate, esr)

    def _vector(self, kind: ExceptionKind, pc: VA, pstate: int, esr: int | None) -> VA:
        words, places = self._words, self._places
        entry = entry_to_el1(
            PSTATE(pstate),
            SCTLR_EL1(words[places[SCTLR_EL1]]),
            VBAR_EL1(words[places[VBAR_EL1]]),
            kind,
            self._features.pstate,
        )
        words[places[ELR_EL1]] = pc
        if esr is not None:
            words[places[ESR_EL1]] = esr
        self._change_pstate(entry.pstate, pstate)
        self._engine.write_system(SPSR_EL1.encoding, pstate)
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
        self._change_pstate(new, old)
        spsr = self._engine.read_system(SPSR_EL1.encoding)
        self._engine.write_system(SPSR_EL1.encoding, spsr)

    def _change_pstate(self, new: int, old: int) -> None:
        """Change PSTATE and the stack pointer; a system register is to be written next.

        Writing any of them makes the engine notice the new Exception level.
        """
        engine = self._engine
        if (new ^ old) & _MODE:
            banks = (SP_EL0, SP_EL1)
            engine.write(_STACK_BANKS[banks[old & _SPSEL]], engine.read(uc_reg.UC_ARM64_REG_SP))
            engine.write(uc_reg.UC_ARM64_REG_PSTATE, new)
            engine.write(uc_reg.UC_ARM64_REG_SP, engine.read(_STACK_BANKS[banks[new & _SPSEL]]))
        else:
            engine.write(uc_reg.UC_ARM64_REG_PSTATE, new)


def _is_here(register: type[SystemRegister]) -> bool:
    """Whether a register is kept here: the engine lacks it, or must not know its value."""
    encoding = register.encoding
    return encoding.op1 == _EL2_OP1 or encoding.op0 == OP0 or register is DISR_EL1


_STACK_BANKS: Final[dict[type[SystemRegister], int]] = {
    SP_EL0: uc_reg.UC_ARM64_REG_SP_EL0,
    SP_EL1: uc_reg.UC_ARM64_REG_SP_EL1,
}
