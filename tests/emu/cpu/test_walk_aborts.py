"""Stage-1 table walks that stage 2 refuses (S1PTW), and external aborts."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.a64.maintenance import AT
from emu.arch.address import PA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import HPFAR_EL2
from emu.arch.registers.identification import ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, S2_NORMAL, S2_RW, Bare, Taken, Trap

NOWHERE: Final = 0x70_0000_0000
"""A PA that is not RAM."""
WITH_RAS: Final = CORTEX_A72.replace(ID_AA64PFR0_EL1.build(RAS=1, EL0=2, EL1=2, EL2=2))
FAR_AWAY: Final = 0x20_0000_0000
"""A VA whose stage-1 tables no other page shares."""


def walk_to(bare: Bare, va: int, word: int) -> None:
    """Map ``va`` at stage 1 and turn stage 1 on."""
    bare.code(word)
    bare.stage1_on()
    bare.map_va(va, DATA, tables.S1_EL0 | tables.AF)
    bare.set_x(x2=va + 0x18)
    bare.start()


ACCESSES: Final = {
    "load": (a64.ldr(1, 2), EL1H, 0x9200_0080, 0),
    "store": (a64.str_(1, 2), EL1H, 0x9200_0080, 0),
    "load by EL0": (a64.ldr(1, 2), EL0T, 0x9200_0080, 0),
    "fetch": (a64.br(2), EL1H, 0x8200_0080, 0x18),
}
"""Instruction, PSTATE, ESR_EL2 without the status code, ELR_EL2 less the faulting VA."""


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("level", [2, 3])
def test_unmapped_table_of_each_level(bare: Bare, access: str, level: int) -> None:
    word, pstate, esr, _ = ACCESSES[access]
    walk_to(bare, FAR_AWAY, word)
    descriptor = bare.s1.address_of(FAR_AWAY + 0x18, level)
    bare.s2.unmap(descriptor)
    trap = bare.trap(word, pstate=pstate)
    assert (trap.esr, trap.far) == (esr | 0x07, FAR_AWAY + 0x18)
    assert trap.hpfar == descriptor >> 12 << 4
    assert trap.elr == (FAR_AWAY + 0x18 if access == "fetch" else CODE)


def test_unmapped_root_table(bare: Bare) -> None:
    walk_to(bare, DATA, a64.ldr(1, 2))
    bare.s2.unmap(bare.s1.root)
    trap = bare.trap(a64.ldr(1, 2))
    assert trap == Trap(0x8200_0087, CODE, bare.s1.root >> 12 << 4, CODE, EL1H)


def test_walk_goes_on_once_its_table_is_mapped(bare: Bare) -> None:
    data = bare.map_ipa(DATA)
    bare.memory.write_u64(PA(data + 0x18), 0x4242)
    walk_to(bare, FAR_AWAY, a64.ldr(1, 2))
    descriptor = bare.s1.address_of(FAR_AWAY, 3)
    saved = bare.s2.read(descriptor)
    bare.s2.unmap(descriptor)
    bare.trap(a64.ldr(1, 2), a64.hvc(2))
    bare.s2.write(descriptor, saved)
    assert bare.trap().esr == 0x5A00_0002
    assert bare.x(1) == 0x4242


@pytest.mark.parametrize(
    ("attributes", "code"),
    [(S2_NORMAL, 0x0F), (S2_NORMAL | tables.S2_WRITE, 0x0F), (S2_RW & ~tables.AF, 0x0B)],
)
def test_walk_into_a_table_it_may_not_read_sets_hpfar(
    bare: Bare, attributes: int, code: int
) -> None:
    walk_to(bare, FAR_AWAY, a64.ldr(1, 2))
    descriptor = bare.s1.address_of(FAR_AWAY, 3)
    bare.s2.write(descriptor, bare.s2.read(descriptor) & tables.ADDRESS | attributes | 3)
    bare.pe.write(HPFAR_EL2(0x1230))
    trap = bare.trap(a64.ldr(1, 2))
    assert (trap.esr, trap.hpfar) == (0x9200_0080 | code, descriptor >> 12 << 4)


def test_protected_table_walk_refuses_device_memory(bare: Bare) -> None:
    walk_to(bare, FAR_AWAY, a64.ldr(1, 2))
    descriptor = bare.s1.address_of(FAR_AWAY, 3)
    device = bare.s2.read(descriptor) & ~tables.S2_NORMAL
    bare.s2.write(descriptor, device)
    bare.map_ipa(DATA)
    bare.change_hcr(PTW=1)
    trap = bare.trap(a64.ldr(1, 2), a64.hvc(0))
    assert (trap.esr, trap.hpfar) == (0x9200_008F, descriptor >> 12 << 4)
    bare.change_hcr(PTW=0)
    assert bare.trap().esr == 0x5A00_0000


@pytest.mark.parametrize(("memattr", "refused"), [(0b1001, True), (0b0110, False), (0b0111, False)])
def test_with_fwb_one_bit_of_memattr_decides_what_a_protected_walk_refuses(
    memattr: int, *, refused: bool
) -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64MMFR2_EL1.build(FWB=1)))
    walk_to(bare, FAR_AWAY, a64.ldr(1, 2))
    descriptor = bare.s1.address_of(FAR_AWAY, 3)
    entry = bare.s2.read(descriptor) & ~tables.S2_NORMAL
    bare.s2.write(descriptor, entry | memattr << 2)
    bare.map_ipa(DATA)
    bare.change_hcr(PTW=1, FWB=1)
    trap = bare.trap(a64.ldr(1, 2), a64.hvc(0))
    assert trap.esr == (0x9200_008F if refused else 0x5A00_0000)


def test_address_translation_by_el1_traps_when_its_walk_is_refused(bare: Bare) -> None:
    word = AT.S1E1R.word(2)
    walk_to(bare, FAR_AWAY, word)
    descriptor = bare.s1.address_of(FAR_AWAY, 3)
    bare.s2.unmap(descriptor)
    trap = bare.trap(word)
    assert trap == Trap(0x9200_0187, FAR_AWAY + 0x18, descriptor >> 12 << 4, CODE, EL1H)


def test_stage_1_permission_comes_before_stage_2(bare: Bare) -> None:
    bare.code(a64.str_(1, 2))
    bare.stage1_on()
    bare.map_va(DATA, DATA, tables.AF | tables.S1_READ_ONLY)
    bare.set_x(x2=DATA)
    assert bare.taken_to_el1(a64.str_(1, 2)).esr == 0x9600_004F


def test_fault_beneath_stage_1_reports_the_ipa_and_the_va(bare: Bare) -> None:
    bare.code(a64.ldr(1, 2))
    bare.stage1_on()
    bare.map_va(FAR_AWAY, DATA)
    bare.s2.entry(DATA)
    bare.set_x(x2=FAR_AWAY + 0x238)
    trap = bare.trap(a64.ldr(1, 2))
    assert trap == Trap(0x93C1_8007, FAR_AWAY + 0x238, DATA >> 12 << 4, CODE, EL1H)


# External aborts


def to_nowhere(bare: Bare) -> None:
    """Map DATA to an address without memory."""
    bare.map_ipa(DATA, PA(NOWHERE))
    bare.set_x(x2=DATA + 8)


@pytest.mark.parametrize(
    ("word", "pstate", "vector", "esr"),
    [
        (a64.ldr(1, 2), EL1H, 0x200, 0x9600_0010),
        (a64.str_(1, 2), EL1H, 0x200, 0x9600_0050),
        (a64.ldr(1, 2), EL0T, 0x400, 0x9200_0010),
        (a64.br(2), EL1H, 0x200, 0x8600_0010),
        (a64.br(2), EL0T, 0x400, 0x8200_0010),
    ],
)
def test_access_to_no_memory_is_taken_to_el1(
    bare: Bare, word: int, pstate: int, vector: int, esr: int
) -> None:
    to_nowhere(bare)
    taken = bare.taken_to_el1(word, pstate=pstate)
    elr = DATA + 8 if esr >> 26 in (0x20, 0x21) else CODE
    assert taken == Taken(vector, esr, DATA + 8, elr, pstate)


@pytest.mark.parametrize(("word", "esr"), [(a64.ldr(1, 2), 0x9200_0010), (a64.br(2), 0x8200_0010)])
def test_tea_takes_external_aborts_to_el2(word: int, esr: int) -> None:
    bare = Bare(WITH_RAS)
    to_nowhere(bare)
    bare.change_hcr(TEA=1)
    bare.pe.write(HPFAR_EL2(0x5550))
    trap = bare.trap(word)
    assert (trap.esr, trap.far, trap.hpfar) == (esr, DATA + 8, 0x5550)


def test_tea_is_without_effect_on_a_cpu_without_ras(bare: Bare) -> None:
    to_nowhere(bare)
    bare.change_hcr(TEA=1)
    assert bare.taken_to_el1(a64.ldr(1, 2)).esr == 0x9600_0010


@pytest.mark.parametrize(("ipa", "level"), [(0xC000_0000, 2), (0x6000_0000, 3)])
def test_stage_2_walk_into_no_memory_is_taken_to_el2(bare: Bare, ipa: int, level: int) -> None:
    bare.s2.write(ipa, NOWHERE | tables.TABLE, level - 1)
    bare.set_x(x2=ipa)
    trap = bare.trap(a64.ldr(1, 2))
    assert trap.esr & 0x3F == 0x14 + level
    assert (trap.esr >> 26, trap.far) == (0x24, ipa)


def test_stage_1_walk_into_no_memory_is_taken_to_el1(bare: Bare) -> None:
    walk_to(bare, FAR_AWAY, a64.ldr(1, 2))
    descriptor = bare.s1.address_of(FAR_AWAY, 3)
    bare.s2.map(descriptor, NOWHERE, S2_RW)
    taken = bare.taken_to_el1(a64.ldr(1, 2))
    assert (taken.vector, taken.esr, taken.far) == (0x200, 0x9600_0017, FAR_AWAY + 0x18)


def test_address_translation_takes_external_aborts_of_its_walk(bare: Bare) -> None:
    word = AT.S1E1W.word(2)
    walk_to(bare, FAR_AWAY, word)
    bare.s2.map(bare.s1.address_of(FAR_AWAY, 3), NOWHERE, S2_RW)
    taken = bare.taken_to_el1(word)
    assert (taken.esr, taken.far) == (0x9600_0157, FAR_AWAY + 0x18)


@pytest.mark.parametrize(("tea", "esr"), [(0, 0x5A00_0104), (1, 0x9200_0010)])
def test_page_behind_the_end_of_ram_is_no_memory(tea: int, esr: int) -> None:
    bare = Bare(WITH_RAS)
    bare.change_hcr(TEA=tea)
    bare.map_ipa(DATA, PA(bare.memory.base + bare.memory.size))
    bare.set_x(x2=DATA)
    assert bare.trap(a64.ldr(1, 2)).esr == esr
