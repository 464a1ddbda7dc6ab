"""PSTATE.DIT and PSTATE.SSBS: MRS and MSR, at EL1 and EL0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.arch.registers.control import DIT, SSBS
from emu.arch.registers.exceptions import PSTATE, SPSR_EL2
from emu.arch.registers.identification import ID_AA64PFR0_EL1, ID_AA64PFR1_EL1
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, EL1H, Bare, Taken

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

UNDEFINED: Final = 0x0200_0000
PFR0: Final = CORTEX_A72.read(ID_AA64PFR0_EL1)


class Field(NamedTuple):
    """One of the two."""

    register: type[SystemRegister]
    bit: int
    set: int
    """MSR (immediate) #1; #0 is 0x100 less."""
    having: CpuFeatures


FIELDS: Final = (
    Field(DIT, PSTATE.DIT.in_place, 0xD503_415F, CORTEX_A72.replace(PFR0.replace(DIT=1))),
    Field(
        SSBS, PSTATE.SSBS.in_place, 0xD503_413F, CORTEX_A72.replace(ID_AA64PFR1_EL1.build(SSBS=2))
    ),
)
SSBS_WITHOUT_INSTRUCTIONS: Final = CORTEX_A72.replace(ID_AA64PFR1_EL1.build(SSBS=1))
each = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.register.__name__)
each_el = pytest.mark.parametrize("pstate", [EL1H, EL0T])
FLAGS: Final = 0xA000_0000


def words(field: Field) -> tuple[int, int, int, int]:
    clear = field.set - 0x100
    return a64.mrs(5, field.register), a64.msr(field.register, 2), field.set, clear


@each
@each_el
def test_it_is_read_and_written(field: Field, pstate: int) -> None:
    machine = Bare(field.having)
    machine.set_x(x2=field.bit, x3=0)
    read, write, set_, clear = words(field)
    program = (
        *(read, set_, a64.mrs(6, field.register), clear, a64.mrs(7, field.register)),
        *(write, a64.mrs(8, field.register), a64.msr(field.register, 3)),
        *(a64.mrs(9, field.register), a64.svc(3)),
    )
    taken = machine.taken_to_el1(*program, pstate=pstate | FLAGS)
    assert taken.esr == 0x5600_0003
    assert [machine.x(n) for n in range(5, 10)] == [0, field.bit, 0, field.bit, 0]
    assert taken.spsr == pstate | FLAGS
    assert machine.pe.retired == 11, "with the handler's HVC"


@each
@each_el
def test_el2_sees_it_in_pstate(field: Field, pstate: int) -> None:
    machine = Bare(field.having)
    taken = machine.taken_to_el1(field.set, a64.svc(3), pstate=pstate)
    assert taken.spsr == pstate | field.bit
    kept = field.bit if field.register is DIT else 0
    assert machine.pe.read(SPSR_EL2) & field.bit == kept, "SCTLR_EL1.DSSBS is 0"


@each
def test_a_cpu_without_the_feature_has_neither(field: Field) -> None:
    without = [CORTEX_A72] + [SSBS_WITHOUT_INSTRUCTIONS] * (field.register is SSBS)
    for features in without:
        for word in words(field):
            taken = Bare(features).taken_to_el1(a64.NOP, word)
            assert taken == Taken(0x200, UNDEFINED, 0, CODE + 4, EL1H)
