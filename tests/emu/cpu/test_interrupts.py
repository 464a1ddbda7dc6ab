"""Virtual interrupts, and timers that interrupt the PE: exact to the instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.exceptions import ExceptionKind
from emu.arch.features import CORTEX_A72
from emu.arch.registers.control import DAIF
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ISR_EL1,
    PSTATE,
    SPSR_EL1,
    VSESR_EL2,
)
from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.timer import (
    CNTHCTL_EL2,
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
)
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu.pe import EL2Entry
from emu.units.timer import INSTRUCTIONS_PER_TICK, TimerLine
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, EL1H, VECTORS, Bare

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

A, I, F = PSTATE.A.in_place, PSTATE.I.in_place, PSTATE.F.in_place
UNMASKED: Final = EL1H & ~(A | I | F)
ROUTED: Final = {"AMO": 1, "IMO": 1, "FMO": 1}
DAIF_CLEAR_I, DAIF_CLEAR_ALL, DAIF_SET_I = 0xD503_42FF, 0xD503_4FFF, 0xD503_42DF
ERET: Final = 0xD69F_03E0
FROM_EL1: Final = 0x200
"""Offset of the vectors for exceptions from EL1h."""

KINDS: Final = {
    "VI": (I, ExceptionKind.IRQ),
    "VF": (F, ExceptionKind.FIQ),
    "VSE": (A, ExceptionKind.SERROR),
}
EVERY_KIND = pytest.mark.parametrize(("bit", "mask", "kind"), [(b, *k) for b, k in KINDS.items()])


@EVERY_KIND
def test_interrupt_that_is_pending_is_taken_before_the_first_instruction(
    bare: Bare, bit: str, mask: int, kind: ExceptionKind
) -> None:
    bare.change_hcr(**ROUTED, **{bit: 1})
    taken = bare.taken_to_el1(a64.movz(5, 1), pstate=EL1H & ~mask)
    assert (taken.vector, taken.elr, taken.spsr) == (FROM_EL1 + kind, CODE, EL1H & ~mask)
    assert bare.x(5) != 1
    assert bare.pe.retired == 1  # the vector's HVC


@EVERY_KIND
def test_interrupt_that_is_masked_waits(
    bare: Bare, bit: str, mask: int, kind: ExceptionKind
) -> None:
    bare.change_hcr(**ROUTED, **{bit: 1})
    bare.trap(a64.NOP, a64.hvc(0), pstate=UNMASKED | mask)
    assert bare.pe.read(ELR_EL2) == CODE + 8, kind


@EVERY_KIND
def test_interrupt_has_no_virtual_form_unless_it_is_routed_to_el2(
    bare: Bare, bit: str, mask: int, kind: ExceptionKind
) -> None:
    bare.change_hcr(**{bit: 1})
    bare.trap(a64.NOP, a64.hvc(0), pstate=UNMASKED)
    assert bare.pe.read(ELR_EL2) == CODE + 8, (mask, kind)


def test_el0_is_interrupted_too(bare: Bare) -> None:
    bare.change_hcr(**ROUTED, VI=1)
    taken = bare.taken_to_el1(a64.NOP, pstate=EL0T & ~I)
    assert (taken.vector, taken.elr) == (0x400 + ExceptionKind.IRQ, CODE)


@pytest.mark.parametrize("before", [0, 1, 7, 100])
def test_interrupt_is_taken_right_behind_the_instruction_that_unmasks_it(
    bare: Bare, before: int
) -> None:
    bare.change_hcr(**ROUTED, VI=1)
    taken = bare.taken_to_el1(*[a64.NOP] * before, DAIF_CLEAR_I, a64.movz(5, 1), a64.NOP)
    assert (taken.elr, taken.spsr) == (CODE + 4 * before + 4, EL1H & ~I)
    assert bare.x(5) != 1
    assert bare.pe.retired == before + 2


def test_interrupt_is_taken_behind_a_write_of_daif(bare: Bare) -> None:
    bare.change_hcr(**ROUTED, VI=1)
    bare.set_x(x1=0)
    taken = bare.taken_to_el1(a64.NOP, a64.msr(DAIF, 1), a64.movz(5, 1), a64.NOP)
    assert taken.elr == CODE + 8
    assert bare.x(5) != 1


def test_interrupt_is_taken_where_an_exception_return_unmasks_it(bare: Bare) -> None:
    bare.change_hcr(**ROUTED, VI=1)
    bare.pe.write(ELR_EL1(CODE + 0x80))
    bare.pe.write(SPSR_EL1(EL1H & ~I))
    taken = bare.taken_to_el1(a64.NOP, ERET)
    assert taken.elr == CODE + 0x80


def test_code_that_masks_and_unmasks_with_nothing_pending_runs_on(bare: Bare) -> None:
    bare.change_hcr(**ROUTED)
    bare.trap(*[DAIF_SET_I, DAIF_CLEAR_I] * 20, a64.hvc(0))
    assert bare.pe.retired == 41


def test_interrupt_changes_no_syndrome(bare: Bare) -> None:
    bare.change_hcr(**ROUTED, VI=1)
    bare.pe.write(ESR_EL1(0x1234))
    assert bare.taken_to_el1(a64.NOP, pstate=UNMASKED).esr == 0x1234


@EVERY_KIND
def test_isr_shows_what_is_pending_though_it_is_masked(
    bare: Bare, bit: str, mask: int, kind: ExceptionKind
) -> None:
    bare.change_hcr(**ROUTED, **{bit: 1})
    bare.trap(a64.mrs(5, ISR_EL1), a64.hvc(0))
    assert bare.x(5) == mask, kind


def test_serror_goes_first_and_is_pending_once(bare: Bare) -> None:
    bare.change_hcr(**ROUTED, VI=1, VSE=1)
    assert bare.taken_to_el1(a64.NOP, pstate=UNMASKED).vector == FROM_EL1 + ExceptionKind.SERROR
    assert bare.pe.read(HCR_EL2) & (HCR_EL2.VSE.in_place | HCR_EL2.VI.in_place) == I


def test_syndrome_of_an_serror_is_what_el2_says_if_the_cpu_has_ras(
    bare: Bare,
) -> None:
    with_ras = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64PFR0_EL1).replace(RAS=1))
    for machine, iss in ((bare, 0), (Bare(with_ras), 0x45)):
        machine.change_hcr(**ROUTED, VSE=1)
        machine.pe.write(VSESR_EL2(0x45))
        assert machine.taken_to_el1(a64.NOP, pstate=UNMASKED).esr == 0xBE00_0000 | iss


# --- timers ---------------------------------------------------------------------------------

TIMERS: Final = {
    "virtual": (TimerLine.VIRTUAL, CNTV_CTL_EL0, CNTV_CVAL_EL0),
    "physical": (TimerLine.PHYSICAL, CNTP_CTL_EL0, CNTP_CVAL_EL0),
}
BOTH = pytest.mark.parametrize(
    ("line", "control", "compare"), list(TIMERS.values()), ids=list(TIMERS)
)
LOOP: Final = (a64.add(2, 2, 1), a64.add(2, 2, 1), a64.subs(6, 6, 1), a64.b(-12))


def due(ticks: int) -> int:
    return ticks * INSTRUCTIONS_PER_TICK


@BOTH
@pytest.mark.parametrize("ticks", [1, 2, 3, 77])
def test_timer_interrupts_at_its_instruction(
    bare: Bare,
    line: TimerLine,
    control: type[SystemRegister],
    compare: type[SystemRegister],
    ticks: int,
) -> None:
    bare.pe.timer.interrupting = line
    bare.pe.write(compare(ticks))
    bare.pe.write(control(1))
    # The block of 16 is entered off its beginning, so that the instruction lies within it.
    assert bare.run(*[a64.NOP] * 5, *[a64.NOP] * 15, a64.b(-60)) is EL2Entry.IRQ
    assert bare.pe.retired == due(ticks)
    expected = due(ticks) if due(ticks) < 5 else 5 + (due(ticks) - 5) % 16
    assert bare.pe.read(ELR_EL2) == CODE + 4 * expected
    assert bare.run() is EL2Entry.IRQ, "the line stays asserted"
    assert bare.pe.retired == due(ticks)


def test_timer_does_not_interrupt_unless_its_line_is_passed_on(bare: Bare) -> None:
    bare.pe.write(CNTV_CVAL_EL0(1))
    bare.pe.write(CNTV_CTL_EL0(1))
    assert bare.run(*LOOP, budget=100) is EL2Entry.IRQ
    assert bare.pe.retired == 100


@pytest.mark.parametrize("prepared", [0, 3])
def test_guest_brings_its_own_interrupt_forward(bare: Bare, prepared: int) -> None:
    bare.pe.timer.interrupting = TimerLine.VIRTUAL
    bare.pe.write(CNTV_CVAL_EL0(400))
    bare.pe.write(CNTV_CTL_EL0(1))
    program = (
        *[a64.NOP] * prepared,
        a64.movz(7, 9),
        a64.msr(CNTV_CVAL_EL0, 7),
        *LOOP,
    )
    assert bare.run(*program) is EL2Entry.IRQ
    assert bare.pe.retired == due(9)


def test_guest_puts_its_interrupt_off(bare: Bare) -> None:
    bare.pe.timer.interrupting = TimerLine.VIRTUAL
    bare.pe.write(CNTV_CVAL_EL0(2))
    bare.pe.write(CNTV_CTL_EL0(1))
    program = (a64.movz(7, 40), a64.msr(CNTV_CVAL_EL0, 7), *LOOP)
    assert bare.run(*program) is EL2Entry.IRQ
    assert bare.pe.retired == due(40)


@pytest.mark.parametrize("budget", [*range(1, 9), 31, 32, 33, 34, 63, 64, 65, 1001])
def test_runs_in_pieces_are_as_one(bare: Bare, budget: int) -> None:
    bare.change_hcr(**ROUTED)
    bare.pe.write(CNTHCTL_EL2.build(EL1PCEN=1, EL1PCTEN=1))
    bare.code(a64.hvc(9), at=VECTORS + FROM_EL1 + ExceptionKind.IRQ)
    bare.code(*LOOP)
    bare.start(CODE)
    for n in range(1, 30):
        assert bare.run(budget=budget) is EL2Entry.IRQ
        assert bare.pe.retired == n * budget
        assert bare.pe.read(ELR_EL2) == CODE + 4 * (n * budget % 4)
