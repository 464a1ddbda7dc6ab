"""AT, executed at EL1 and at EL2: PAR_EL1 (Arm ARM C5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import AT
from emu.arch.address import VA
from emu.arch.registers.exceptions import PAR_EL1
from emu.arch.registers.translation import MAIR_EL1
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import DATA, S1_RW, S1_USER, S2_NORMAL, S2_RO, S2_RW

if TYPE_CHECKING:
    from emu.arch.address import PA
    from tests.emu.cpu.bare import Bare

VIRTUAL: Final = 0x20_0000_0000
NS: Final = 1 << 9
RES1: Final = 1 << 11
INNER: Final = 3 << 7
OUTER: Final = 2 << 7
MAIR: Final = MAIR_EL1(0x44_04_FF)
"""AttrIndx 0 Normal Write-Back, 1 Device-nGnRE, 2 Normal Non-cacheable."""
STAGE_1: Final = [AT.S1E1R, AT.S1E1W, AT.S1E0R, AT.S1E0W]


def on(bare: Bare, attributes: int = S1_USER, s2: int = S2_RW) -> PA:
    """Map VIRTUAL to DATA to a page, and turn stage 1 on."""
    pa = bare.map_ipa(DATA, attributes=s2)
    bare.code(a64.NOP)
    bare.stage1_on()
    bare.map_va(VIRTUAL, DATA, attributes)
    bare.pe.write(MAIR)
    return pa


def by_guest(bare: Bare, operation: AT, va: int) -> int:
    """Have EL1 execute AT and read PAR_EL1."""
    bare.code(operation.word(2), a64.ISB, a64.mrs(5, PAR_EL1), a64.hvc(0))
    bare.map_va(0x4000_0000, 0x4000_0000, S1_RW | tables.S1_READ_ONLY)
    bare.set_x(x2=va)
    bare.start()
    assert bare.trap().esr == 0x5A00_0000
    return bare.x(5)


def by_el2(bare: Bare, operation: AT, va: int) -> int:
    """Execute AT at EL2 and read PAR_EL1."""
    bare.pe.at(operation, VA(va))
    return int(bare.pe.read(PAR_EL1))


@pytest.mark.parametrize("operation", STAGE_1)
def test_stage_1_gives_the_ipa_to_guest_and_el2(bare: Bare, operation: AT) -> None:
    on(bare)
    expected = 0xFF << 56 | DATA | RES1 | NS | INNER
    assert by_guest(bare, operation, VIRTUAL + 0x123) == expected
    assert by_el2(bare, operation, VIRTUAL + 0x123) == expected


@pytest.mark.parametrize("operation", [AT.S12E1R, AT.S12E1W, AT.S12E0R, AT.S12E0W])
def test_both_stages_give_the_pa(bare: Bare, operation: AT) -> None:
    pa = on(bare)
    assert by_el2(bare, operation, VIRTUAL) & PAR_EL1.PA.in_place == pa
    assert not by_el2(bare, operation, VIRTUAL) & 1


PERMISSIONS: Final = {
    (AT.S1E1R, S1_RW): None,
    (AT.S1E1W, S1_RW): None,
    (AT.S1E0R, S1_RW): 0x0F,
    (AT.S1E0W, S1_RW): 0x0F,
    (AT.S1E1R, S1_USER | tables.S1_READ_ONLY): None,
    (AT.S1E1W, S1_USER | tables.S1_READ_ONLY): 0x0F,
    (AT.S1E0R, S1_USER | tables.S1_READ_ONLY): None,
    (AT.S1E0W, S1_USER | tables.S1_READ_ONLY): 0x0F,
}


@pytest.mark.parametrize(("case", "code"), PERMISSIONS.items(), ids=str)
def test_stage_1_permission(bare: Bare, case: tuple[AT, int], code: int | None) -> None:
    operation, attributes = case
    on(bare, attributes)
    par = by_guest(bare, operation, VIRTUAL)
    assert par == by_el2(bare, operation, VIRTUAL)
    if code is None:
        assert par & 1 == 0
    else:
        assert par == 1 << 11 | code << 1 | 1


def test_translation_fault_of_stage_1(bare: Bare) -> None:
    on(bare)
    assert by_guest(bare, AT.S1E1R, VIRTUAL + 0x1000) == 1 << 11 | 0x07 << 1 | 1
    assert by_guest(bare, AT.S1E1R, VIRTUAL + 0x20_0000) == 1 << 11 | 0x06 << 1 | 1
    assert by_guest(bare, AT.S1E1R, 1 << 45) == 1 << 11 | 0x04 << 1 | 1


def test_fault_of_stage_2_says_so(bare: Bare) -> None:
    on(bare, s2=S2_RO)
    assert by_el2(bare, AT.S12E1R, VIRTUAL) & 1 == 0
    assert by_el2(bare, AT.S12E1W, VIRTUAL) == 1 << 11 | 1 << 9 | 0x0F << 1 | 1
    bare.s2.unmap(DATA)
    assert by_el2(bare, AT.S1E1W, VIRTUAL) & 1 == 0, "stage 1 alone does not look"


def test_fault_of_stage_2_on_the_walk_says_so_to_el2(bare: Bare) -> None:
    on(bare)
    bare.s2.unmap(bare.s1.address_of(VIRTUAL, 3))
    par = by_el2(bare, AT.S1E1R, VIRTUAL)
    assert par == 1 << 11 | 1 << 9 | 1 << 8 | 0x07 << 1 | 1


@pytest.mark.parametrize(
    ("index", "attr", "share"), [(0, 0xFF, INNER), (1, 0x04, OUTER), (2, 0x44, OUTER)]
)
def test_memory_attributes_come_from_mair(bare: Bare, index: int, attr: int, share: int) -> None:
    on(bare, S1_USER | index << 2)
    par = by_el2(bare, AT.S1E1R, VIRTUAL)
    assert (par >> 56, par & 3 << 7) == (attr, share)


def test_stage_1_off_is_flat(bare: Bare) -> None:
    par = by_el2(bare, AT.S1E1R, DATA + 0x567)
    assert par & PAR_EL1.PA.in_place == DATA
    assert par & 1 == 0


def test_access_flag_fault(bare: Bare) -> None:
    on(bare, S1_USER & ~tables.AF)
    assert by_guest(bare, AT.S1E1R, VIRTUAL) == 1 << 11 | 0x0B << 1 | 1


def test_guest_s_par_survives_a_trap(bare: Bare) -> None:
    on(bare)
    expected = by_guest(bare, AT.S1E1R, VIRTUAL)
    bare.trap(a64.ldr(1, 2), a64.hvc(0))
    assert bare.pe.read(PAR_EL1) == expected


def test_el2_may_restore_par(bare: Bare) -> None:
    """KVM saves PAR_EL1, translates FAR_EL2 for a permission fault, and restores it."""
    on(bare, s2=S2_NORMAL | tables.S2_READ)
    saved = bare.pe.read(PAR_EL1)
    bare.code(a64.str_(1, 2))
    bare.set_x(x2=VIRTUAL + 0x88)
    bare.start()
    trap = bare.trap()
    assert (trap.esr, trap.far) == (0x93C1_804F, VIRTUAL + 0x88)
    bare.pe.at(AT.S1E1R, VA(trap.far))
    assert bare.pe.read(PAR_EL1).PA << 12 == DATA
    bare.pe.write(saved)
    assert bare.pe.read(PAR_EL1) == saved


def test_translation_is_not_an_access(bare: Bare) -> None:
    """AT of stage 1 makes no entry that a later access of another kind could use."""
    on(bare)
    bare.s2.unmap(DATA)
    by_el2(bare, AT.S1E1R, VIRTUAL)
    bare.code(a64.ldr(1, 2))
    bare.set_x(x2=VIRTUAL)
    bare.start()
    assert bare.trap().esr == 0x93C1_8007
