"""FEAT_RAS at EL1: deferred errors, and error records, of which there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import DISR_EL1
from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.ras import (
    ERRIDR_EL1,
    ERROR_RECORDS,
    ERRSELR_EL1,
    ERXFR_EL1,
    VDISR_EL2,
)
from emu.arch.registers.virtualization import HCR_EL2
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, EL1H, Bare, Taken, Trap
from tests.emu.cpu.test_traps import sys64

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

UNDEFINED: Final = 0x0200_0000
ESB: Final = 0xD503_221F
SYNDROME: Final = int(DISR_EL1.build(A=1, AET=3, DFSC=0x11))
every_record = pytest.mark.parametrize("register", ERROR_RECORDS)


@pytest.fixture
def bare() -> Bare:
    """Return a machine with FEAT_RAS."""
    return Bare(CORTEX_A72.replace(CORTEX_A72.read(ID_AA64PFR0_EL1).replace(RAS=1)))


def test_el1_has_the_register_of_its_own_unless_errors_are_routed_to_el2(bare: Bare) -> None:
    bare.pe.write(DISR_EL1(SYNDROME))
    bare.pe.write(VDISR_EL2(0x11))
    bare.set_x(x2=0x22)
    bare.trap(a64.mrs(5, DISR_EL1), a64.msr(DISR_EL1, 2), a64.mrs(6, DISR_EL1), a64.hvc(0))
    assert (bare.x(5), bare.x(6)) == (SYNDROME, 0x22)
    assert (bare.pe.read(DISR_EL1), bare.pe.read(VDISR_EL2)) == (0x22, 0x11)


def test_el1_has_the_virtual_register_if_errors_are_routed_to_el2(bare: Bare) -> None:
    bare.change_hcr(AMO=1)
    bare.pe.write(DISR_EL1(0x11))
    bare.pe.write(VDISR_EL2(SYNDROME))
    bare.set_x(x2=0x22)
    bare.trap(a64.mrs(5, DISR_EL1), a64.msr(DISR_EL1, 2), a64.mrs(6, DISR_EL1), a64.hvc(0))
    assert (bare.x(5), bare.x(6)) == (SYNDROME, 0x22)
    assert (bare.pe.read(DISR_EL1), bare.pe.read(VDISR_EL2)) == (0x11, 0x22)


def test_an_access_is_one_instruction(bare: Bare) -> None:
    bare.trap(a64.msr(DISR_EL1, a64.XZR), ESB, a64.mrs(5, DISR_EL1), a64.hvc(0))
    assert bare.x(5) == 0
    assert bare.pe.retired == 4


@every_record
def test_records_read_as_zero_and_ignore_writes(bare: Bare, register: type[SystemRegister]) -> None:
    bare.set_x(x2=~0 & (1 << 64) - 1)
    writable = register not in (ERRIDR_EL1, ERXFR_EL1)
    write = a64.msr(register, 2) if writable else a64.NOP
    assert bare.trap(write, a64.mrs(5, register), a64.hvc(0)).esr == 0x5A00_0000
    assert bare.x(5) == 0


@every_record
def test_records_trap_if_el2_hides_them(bare: Bare, register: type[SystemRegister]) -> None:
    bare.change_hcr(TERR=1)
    word = a64.mrs(5, register)
    assert bare.trap(a64.NOP, word) == Trap(sys64(word), 0, 0, CODE + 4, EL1H)


def test_a_write_of_a_record_traps_too(bare: Bare) -> None:
    bare.change_hcr(TERR=1)
    word = a64.msr(ERRSELR_EL1, 5)
    assert bare.trap(word) == Trap(sys64(word), 0, 0, CODE, EL1H)


def test_deferred_errors_do_not_trap(bare: Bare) -> None:
    bare.change_hcr(TERR=1)
    assert bare.trap(a64.mrs(5, DISR_EL1), a64.hvc(0)).esr == 0x5A00_0000


@pytest.mark.parametrize("register", [ERRIDR_EL1, ERXFR_EL1])
@pytest.mark.parametrize("terr", [0, 1])
def test_a_write_of_what_can_only_be_read_is_undefined(
    bare: Bare, register: type[SystemRegister], terr: int
) -> None:
    bare.change_hcr(TERR=terr)
    taken = bare.taken_to_el1(a64.msr(register, 5))
    assert taken == Taken(0x200, UNDEFINED, 0, CODE, EL1H)


@pytest.mark.parametrize("register", [DISR_EL1, *ERROR_RECORDS])
def test_el0_has_none_of_them(bare: Bare, register: type[SystemRegister]) -> None:
    bare.change_hcr(TERR=1)
    taken = bare.taken_to_el1(a64.mrs(5, register), pstate=EL0T)
    assert taken == Taken(0x400, UNDEFINED, 0, CODE, EL0T)


@pytest.mark.parametrize("register", [DISR_EL1, *ERROR_RECORDS])
@pytest.mark.parametrize("amo", [0, 1])
def test_a_cpu_without_the_feature_has_none_of_them(
    register: type[SystemRegister], amo: int
) -> None:
    without = Bare()
    without.change_hcr(AMO=amo, TERR=1)
    assert without.pe.read(HCR_EL2).TERR == 0, "RES0"
    taken = without.taken_to_el1(a64.mrs(5, register))
    assert taken == Taken(0x200, UNDEFINED, 0, CODE, EL1H)
