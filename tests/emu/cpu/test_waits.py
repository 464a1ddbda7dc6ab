"""WFI and WFE: trapped by EL1 or EL2, or completing at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.registers.exceptions import ELR_EL2
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, EL1H, SCTLR_RES1, Taken, Trap

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare


@pytest.mark.parametrize("pstate", [EL1H, EL0T])
def test_wfi_traps_to_el2_with_twi(bare: Bare, pstate: int) -> None:
    bare.pe.write(SCTLR_RES1.replace(nTWI=1))
    bare.change_hcr(TWI=1)
    trap = bare.trap(a64.NOP, a64.WFI, a64.NOP, pstate=pstate)
    assert trap == Trap(0x07E0_0000, 0, 0, CODE + 4, pstate)
    assert bare.pe.retired == 1


def test_trapped_wfi_can_be_skipped(bare: Bare) -> None:
    bare.change_hcr(TWI=1)
    bare.trap(a64.WFI, a64.hvc(3))
    bare.pe.write(ELR_EL2(CODE + 4))
    assert bare.trap().esr == 0x5A00_0003


@pytest.mark.parametrize("pstate", [EL1H, EL0T])
def test_untrapped_wfi_completes(bare: Bare, pstate: int) -> None:
    bare.pe.write(SCTLR_RES1.replace(nTWI=1))
    words = (a64.NOP, a64.WFI, a64.movz(5, 1), a64.svc(0))
    bare.taken_to_el1(*words, pstate=pstate)
    assert bare.x(5) == 1
    assert bare.pe.retired == 5


@pytest.mark.parametrize("twi", [0, 1])
def test_wfi_of_el0_traps_to_el1_unless_ntwi(bare: Bare, twi: int) -> None:
    bare.change_hcr(TWI=twi)
    taken = bare.taken_to_el1(a64.NOP, a64.WFI, pstate=EL0T)
    assert taken == Taken(0x400, 0x07E0_0000, 0, CODE + 4, EL0T)


def test_ntwi_does_not_concern_el1(bare: Bare) -> None:
    assert bare.trap(a64.WFI, a64.hvc(1)).esr == 0x5A00_0001


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_wfi_at_the_end_of_the_budget(bare: Bare, budget: int) -> None:
    assert bare.run(a64.NOP, a64.WFI, a64.NOP, a64.NOP, budget=budget) is EL2Entry.IRQ
    assert bare.pe.retired == budget
    assert bare.pe.read(ELR_EL2) == CODE + 4 * budget


def test_trapped_wfi_at_the_end_of_the_budget_is_not_lost(bare: Bare) -> None:
    bare.change_hcr(TWI=1)
    assert bare.run(a64.NOP, a64.WFI, a64.NOP, budget=1) is EL2Entry.IRQ
    assert bare.trap().esr == 0x07E0_0000


def test_wfe_completes(bare: Bare) -> None:
    assert bare.trap(a64.WFE, a64.hvc(1)).esr == 0x5A00_0001
    assert bare.pe.retired == 2
