"""Performance monitor registers, as EL1 and EL0 reach them (Arm ARM D13.7).

The engine has some of its own, whose cycle counter runs by the host's clock: none of them may be
reached.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from emu.arch.registers import REGISTERS
from emu.arch.registers.performance import (
    COUNTER_NUMBERS,
    CYCLE_COUNTER,
    PMCCNTR_EL0,
    PMCEID0_EL0,
    PMCEID1_EL0,
    PMCNTENCLR_EL0,
    PMCNTENSET_EL0,
    PMCR_EL0,
    PMEVCNTR_EL0,
    PMEVTYPER_EL0,
    PMINTENCLR_EL1,
    PMINTENSET_EL1,
    PMMIR_EL1,
    PMOVSCLR_EL0,
    PMOVSSET_EL0,
    PMSELR_EL0,
    PMSWINC_EL0,
    PMUSERENR_EL0,
    PMUV3P4,
    PMXEVCNTR_EL0,
    PMXEVTYPER_EL0,
)
from emu.arch.registers.virtualization import MDCR_EL2
from emu.cpu.effects import monitors_changed

if TYPE_CHECKING:
    from emu.arch.a64.system import SystemInstruction
    from emu.arch.features import CpuFeatures
    from emu.arch.fields import Encoding, SystemRegister
    from emu.cpu.pe import ProcessingElement

_EN, _SW = PMUSERENR_EL0.EN.in_place, PMUSERENR_EL0.SW.in_place
_CR, _ER = PMUSERENR_EL0.CR.in_place, PMUSERENR_EL0.ER.in_place

_READ_ONLY: Final = frozenset({PMCEID0_EL0, PMCEID1_EL0, PMMIR_EL1})
_COUNTER_SETS: Final = frozenset(
    {
        PMCNTENSET_EL0,
        PMCNTENCLR_EL0,
        PMOVSSET_EL0,
        PMOVSCLR_EL0,
        PMINTENSET_EL1,
        PMINTENCLR_EL1,
        PMSWINC_EL0,
    }
)
_NUMBERS: Final[dict[type[SystemRegister], int]] = {
    **dict(zip(PMEVCNTR_EL0, COUNTER_NUMBERS, strict=True)),
    **dict(zip(PMEVTYPER_EL0, COUNTER_NUMBERS, strict=True)),
}
_READ_ENABLES: Final[dict[type[SystemRegister], int]] = {
    PMCCNTR_EL0: _CR,
    PMXEVCNTR_EL0: _ER,
    PMSELR_EL0: _ER,
    **dict.fromkeys(PMEVCNTR_EL0, _ER),
}
"""What lets EL0 read a register, beside PMUSERENR_EL0.EN."""
_WRITE_ENABLES: Final[dict[type[SystemRegister], int]] = {PMSWINC_EL0: _SW, PMSELR_EL0: _ER}


_ENGINES_COUNTERS: Final = 4
_NOT_IN_ENGINE: Final = frozenset(
    {*PMEVCNTR_EL0[_ENGINES_COUNTERS:], *PMEVTYPER_EL0[_ENGINES_COUNTERS:]}
)
"""Nor has its model of Armv8.0 PMMIR_EL1."""


class Refusal(Enum):
    """Why an access is not done."""

    UNDEFINED = 0
    TO_EL1 = 1
    """It is trapped there."""
    TO_EL2 = 2


def is_performance_monitor(encoding: Encoding) -> bool:
    """Whether an encoding belongs to the performance monitors."""
    op0, op1, crn, crm, _ = encoding
    return op0 == 3 and op1 in (0, 3) and ((crn == 9 and crm >= 12) or (crn == 14 and crm >= 8))


def is_in_engine(encoding: Encoding, features: CpuFeatures) -> bool:
    """Whether the engine has a register of that encoding, which must be kept from the guest.

    The others must not be hooked: the engine would execute the hook for ever. They arrive as
    undefined instructions.
    """
    register = REGISTERS.get(encoding)
    lacking = register in _NOT_IN_ENGINE or (register is PMMIR_EL1 and features.armv8_0)
    return not lacking and is_performance_monitor(encoding)


def access(pe: ProcessingElement, instruction: SystemInstruction, el: int) -> Refusal | None:
    """Execute MRS or MSR; return a :class:`Refusal` if it is not done."""
    register = REGISTERS.get(instruction.encoding)
    pmu = pe.pmu
    read = instruction.is_read
    wrong_way = register is PMSWINC_EL0 if read else register in _READ_ONLY
    if register is None or not pmu.handles(register) or wrong_way:
        return Refusal.UNDEFINED
    if register is PMMIR_EL1 and pmu.version < PMUV3P4:
        return Refusal.UNDEFINED
    if el == 0:
        if register is PMUSERENR_EL0 and not read:
            return Refusal.UNDEFINED
        enables = _EN | (_READ_ENABLES if read else _WRITE_ENABLES).get(register, 0)
        if register is not PMUSERENR_EL0 and not pmu.read(PMUSERENR_EL0) & enables:
            return Refusal.TO_EL1
    mdcr = MDCR_EL2(pe.registers.el2(MDCR_EL2))
    if mdcr.TPM or (mdcr.TPMCR and register is PMCR_EL0):
        return Refusal.TO_EL2
    if not _is_there(pe, register):
        return Refusal.UNDEFINED
    if read:
        pe.registers.set_x(instruction.rt, _seen(pe, register))
    else:
        _write(pe, register, pe.registers.x(instruction.rt), el)
        monitors_changed(pe)
    return None


def _is_there(pe: ProcessingElement, register: type[SystemRegister]) -> bool:
    """Whether a register belongs to a counter that EL1 and EL0 have.

    Otherwise the access is CONSTRAINED UNPREDICTABLE.
    """
    number = _NUMBERS.get(register)
    if register is PMXEVCNTR_EL0 or register is PMXEVTYPER_EL0:
        number = pe.pmu.selected
        if register is PMXEVTYPER_EL0 and number == CYCLE_COUNTER:
            return True
    return number is None or number < pe.pmu.first_of_el2


def _mine(pe: ProcessingElement) -> int:
    """Return the counters that EL1 and EL0 have, one bit each."""
    return 1 << CYCLE_COUNTER | (1 << pe.pmu.first_of_el2) - 1


def _seen(pe: ProcessingElement, register: type[SystemRegister]) -> int:
    value = pe.pmu.read(register)
    if register is PMCR_EL0:
        return PMCR_EL0(value).replace(N=pe.pmu.first_of_el2)
    return value & _mine(pe) if register in _COUNTER_SETS else value


def _write(pe: ProcessingElement, register: type[SystemRegister], value: int, el: int) -> None:
    pmu = pe.pmu
    if register in _COUNTER_SETS:
        value &= _mine(pe)
    if register is PMSWINC_EL0:
        pmu.software_increment(value, el)
    elif register is PMCR_EL0:
        pmu.write_control(value, pmu.first_of_el2)
    else:
        pmu.write(register, value)
