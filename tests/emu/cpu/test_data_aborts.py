"""Stage-2 data aborts taken to EL2: every register that they set (Arm ARM D1.3, ESR_EL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import DC, IC
from emu.arch.address import PA
from emu.arch.registers.exceptions import HPFAR_EL2
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, S2_NORMAL, S2_RO, S2_RW, Trap

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

STALE_HPFAR: Final = 0x1234_5670

FORMS: Final = {
    "ldrb": (a64.ldr(1, 2, 0, 1), 0x9301_0007),
    "ldrh": (a64.ldr(1, 2, 0, 2), 0x9341_0007),
    "ldr w": (a64.ldr(1, 2, 0, 4), 0x9381_0007),
    "ldr x": (a64.ldr(1, 2), 0x93C1_8007),
    "ldrsb w": (a64.ldrs(1, 2, 0, 1, wide=False), 0x9321_0007),
    "ldrsb x": (a64.ldrs(1, 2, 0, 1), 0x9321_8007),
    "ldrsh x": (a64.ldrs(1, 2, 0, 2), 0x9361_8007),
    "ldrsw": (a64.ldrs(1, 2, 0, 4), 0x93A1_8007),
    "ldr x30": (a64.ldr(30, 2), 0x93DE_8007),
    "ldr xzr": (a64.ldr(a64.XZR, 2), 0x93DF_8007),
    "strb": (a64.str_(1, 2, 0, 1), 0x9301_0047),
    "strh": (a64.str_(1, 2, 0, 2), 0x9341_0047),
    "str w": (a64.str_(1, 2, 0, 4), 0x9381_0047),
    "str x": (a64.str_(1, 2), 0x93C1_8047),
    "str xzr": (a64.str_(a64.XZR, 2), 0x93DF_8047),
    "ldur": (a64.ldur(1, 2, 0), 0x93C1_8007),
    "ldr register offset": (a64.ldr_register(1, 2, 3), 0x93C1_8007),
    "ldar": (a64.ldar(1, 2), 0x93C1_C007),
    "stlr": (a64.stlr(1, 2), 0x93C1_C047),
    "ldtr": (a64.ldtr(1, 2), 0x93C1_8007),
    "sttr": (a64.sttr(1, 2), 0x93C1_8047),
    "ldr post-index": (a64.ldr_post(1, 2, 8), 0x9200_0007),
    "ldr pre-index": (a64.ldr_pre(1, 2, 0), 0x9200_0007),
    "str post-index": (a64.str_post(1, 2, 8), 0x9200_0047),
    "str pre-index": (a64.str_pre(1, 2, 0), 0x9200_0047),
    "ldp": (a64.ldp(1, 3, 2), 0x9200_0007),
    "stp": (a64.stp(1, 3, 2), 0x9200_0047),
    "ldxr": (a64.ldxr(1, 2), 0x9200_0007),
    "ldr q": (a64.ldr_q(1, 2), 0x9200_0007),
    "str q": (a64.str_q(1, 2), 0x9200_0047),
    "dc zva": (DC.ZVA.word(2), 0x9200_0047),
    "dc cvac": (DC.CVAC.word(2), 0x9200_0147),
    "dc cvau": (DC.CVAU.word(2), 0x9200_0147),
    "dc civac": (DC.CIVAC.word(2), 0x9200_0147),
    "dc ivac": (DC.IVAC.word(2), 0x9200_0147),
    "ic ivau": (IC.IVAU.word(2), 0x9200_0147),
}
"""Instruction, ESR_EL2 of its translation fault at level 3."""


def page_without_mapping(bare: Bare) -> None:
    """Make the tables down to level 3, so that faults on DATA are of level 3."""
    bare.s2.entry(DATA)


@pytest.mark.parametrize("form", FORMS)
def test_translation_fault_sets_every_register(bare: Bare, form: str) -> None:
    word, esr = FORMS[form]
    page_without_mapping(bare)
    bare.set_x(x1=0x11, x2=DATA + 0x840, x3=0)
    trap = bare.trap(a64.NOP, a64.NOP, word, a64.hvc(0))
    assert trap == Trap(
        esr=esr, far=DATA + 0x840, hpfar=DATA >> 12 << 4, elr=CODE + 8, spsr=EL1H
    ), form
    assert bare.pe.retired == 2
    assert (bare.x(1), bare.x(2)) == (0x11, DATA + 0x840)


@pytest.mark.parametrize("form", FORMS)
def test_instruction_completes_once_the_page_is_mapped(bare: Bare, form: str) -> None:
    word, _ = FORMS[form]
    page_without_mapping(bare)
    bare.set_x(x1=0x11, x2=DATA + 0x840, x3=0)
    bare.trap(a64.NOP, word, a64.hvc(9))
    bare.map_ipa(DATA)
    assert bare.trap().esr == 0x5A00_0009
    assert bare.pe.retired == 3


def test_load_exclusive_then_store_exclusive_to_a_read_only_page(bare: Bare) -> None:
    bare.map_ipa(DATA, attributes=S2_RO)
    bare.set_x(x2=DATA)
    trap = bare.trap(a64.ldxr(1, 2), a64.stxr(3, 1, 2), a64.hvc(0))
    assert (trap.esr, trap.far, trap.elr) == (0x9200_004F, DATA, CODE + 4)


def test_literal_load_reports_its_target_and_register(bare: Bare) -> None:
    trap = bare.trap(a64.ldr_literal(5, 0x1008), a64.hvc(0))
    assert trap == Trap(0x93C5_8007, CODE + 0x1008, (CODE + 0x1000) >> 12 << 4, CODE, EL1H)


def test_base_stack_pointer_is_the_one_in_use(bare: Bare) -> None:
    page_without_mapping(bare)
    bare.set_x(x4=DATA + 0x100)
    trap = bare.trap(a64.add(a64.SP, 4, 0), a64.ldr(1, a64.SP, 8), a64.hvc(0))
    assert trap.far == DATA + 0x108


def test_scaled_index_is_part_of_the_address(bare: Bare) -> None:
    page_without_mapping(bare)
    bare.set_x(x2=DATA, x3=3)
    assert bare.trap(a64.ldr_register(1, 2, 3, scaled=True)).far == DATA + 24


def test_abort_from_el0_saves_its_pstate(bare: Bare) -> None:
    page_without_mapping(bare)
    bare.set_x(x2=DATA)
    trap = bare.trap(a64.ldr(1, 2), pstate=EL0T | 0x6000_0000)
    assert (trap.esr, trap.spsr) == (0x93C1_8007, EL0T | 0x6000_0000)


# Faults by type and level

FAULT_LEVELS: Final = {
    "translation level 0": (1 << 40, None, 0x04),
    "translation level 1": (0xC000_0000, None, 0x05),
    "translation level 2": (0x6000_0000, None, 0x06),
    "translation level 3": (DATA, 3, 0x07),
    "access flag level 1": (0xC000_0000, 1, 0x09),
    "access flag level 2": (0x6000_0000, 2, 0x0A),
    "access flag level 3": (DATA, 3, 0x0B),
    "address size level 1": (0xC000_0000, 1, 0x01),
    "address size level 2": (0x6000_0000, 2, 0x02),
    "address size level 3": (DATA, 3, 0x03),
}


@pytest.mark.parametrize("case", FAULT_LEVELS)
def test_fault_type_and_level(bare: Bare, case: str) -> None:
    ipa, level, code = FAULT_LEVELS[case]
    if level is not None:
        descriptor = 0
        if "access flag" in case:
            descriptor = S2_RW & ~tables.AF | (3 if level == 3 else 1)
        elif "address size" in case:
            descriptor = 1 << 44 | S2_RW | (3 if level == 3 else 1)
        bare.s2.write(ipa, descriptor, level)
    bare.set_x(x2=ipa + 0x18)
    trap = bare.trap(a64.ldr(1, 2))
    assert trap.esr == 0x93C1_8000 | code
    assert (trap.far, trap.hpfar) == (ipa + 0x18, ipa >> 12 << 4)


PERMISSIONS: Final = {
    "read of no access": (0, a64.ldr(1, 2), 0x93C1_800F),
    "read of write-only": (tables.S2_WRITE, a64.ldr(1, 2), 0x93C1_800F),
    "write to read-only": (tables.S2_READ, a64.str_(1, 2), 0x93C1_804F),
    "write to no access": (0, a64.str_(1, 2), 0x93C1_804F),
    "dc zva of read-only": (tables.S2_READ, DC.ZVA.word(2), 0x9200_004F),
    "dc ivac of read-only": (tables.S2_READ, DC.IVAC.word(2), 0x9200_014F),
    "ldp of no access": (0, a64.ldp(1, 3, 2), 0x9200_000F),
}


@pytest.mark.parametrize("case", PERMISSIONS)
def test_permission_fault_leaves_hpfar_stale(bare: Bare, case: str) -> None:
    s2ap, word, esr = PERMISSIONS[case]
    bare.map_ipa(DATA, attributes=S2_NORMAL | s2ap)
    bare.pe.write(HPFAR_EL2(STALE_HPFAR))
    bare.set_x(x2=DATA + 0x40)
    trap = bare.trap(word)
    assert trap == Trap(esr, DATA + 0x40, STALE_HPFAR, CODE, EL1H), case


@pytest.mark.parametrize(("level", "ipa"), [(1, 0xC000_0000), (2, 0x6000_0000)])
def test_permission_fault_of_a_block_reports_its_level(bare: Bare, level: int, ipa: int) -> None:
    bare.s2.map(ipa, 1 << 30, S2_NORMAL | tables.S2_READ, level)
    bare.set_x(x2=ipa)
    assert bare.trap(a64.str_(1, 2)).esr == 0x93C1_804C | level


@pytest.mark.parametrize(
    "word", [DC.CIVAC.word(2), DC.CVAC.word(2), DC.CVAU.word(2), IC.IVAU.word(2)]
)
def test_cleaning_needs_no_permission_at_el1(bare: Bare, word: int) -> None:
    bare.map_ipa(DATA, attributes=S2_NORMAL)
    bare.set_x(x2=DATA)
    assert bare.trap(word, a64.hvc(1)).esr == 0x5A00_0001


def test_prefetch_never_faults(bare: Bare) -> None:
    bare.set_x(x2=DATA)
    assert bare.trap(a64.prfm(2), a64.hvc(1)).esr == 0x5A00_0001


def test_block_mapping_reaches_all_of_its_memory(bare: Bare) -> None:
    pa = bare.block()
    bare.s2.map(0x6000_0000, pa, S2_RW, 2)
    bare.set_x(x1=0xABCD, x2=0x6000_0000 + 0x1F_EFF8)
    bare.trap(a64.str_(1, 2), a64.hvc(0))
    assert bare.memory.read_u64(PA(pa + 0x1F_EFF8)) == 0xABCD


# Accesses across a page boundary

ACROSS: Final = {
    "ldr": (a64.ldr(1, 2), 0xFFC, 0x93C1_8007),
    "str": (a64.str_(1, 2), 0xFFC, 0x93C1_8047),
    "ldrh": (a64.ldr(1, 2, 0, 2), 0xFFF, 0x9341_0007),
    "ldp": (a64.ldp(1, 3, 2), 0xFF8, 0x9200_0007),
    "ldp, in its second element": (a64.ldp(1, 3, 2), 0xFF4, 0x9200_0007),
    "ldr q": (a64.ldr_q(1, 2), 0xFF4, 0x9200_0007),
}


@pytest.mark.parametrize("case", ACROSS)
def test_fault_on_the_second_page_reports_its_first_byte(bare: Bare, case: str) -> None:
    word, offset, esr = ACROSS[case]
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA + offset)
    trap = bare.trap(word)
    assert trap == Trap(esr, DATA + 0x1000, (DATA + 0x1000) >> 12 << 4, CODE, EL1H)


@pytest.mark.parametrize("case", ACROSS)
def test_fault_on_the_first_page_reports_the_address(bare: Bare, case: str) -> None:
    word, offset, esr = ACROSS[case]
    bare.map_ipa(DATA + 0x1000)
    bare.set_x(x2=DATA + offset)
    trap = bare.trap(word)
    assert trap == Trap(esr, DATA + offset, DATA >> 12 << 4, CODE, EL1H)


def test_store_that_faults_on_its_second_page_writes_nothing(bare: Bare) -> None:
    pa = bare.map_ipa(DATA)
    bare.set_x(x1=-1 & (1 << 64) - 1, x2=DATA + 0xFFC)
    bare.trap(a64.str_(1, 2))
    assert bare.memory.read(PA(pa + 0xFF8), 8) == bytes(8)


def test_access_across_pages_uses_both_mappings(bare: Bare) -> None:
    low, high = bare.map_ipa(DATA), bare.map_ipa(DATA + 0x1000, bare.block())
    bare.set_x(x1=0x1122_3344_5566_7788, x2=DATA + 0xFFC)
    bare.trap(a64.str_(1, 2), a64.ldr(4, 2), a64.hvc(0))
    assert bare.memory.read(PA(low + 0xFFC), 4) == bytes.fromhex("88776655")
    assert bare.memory.read(high, 4) == bytes.fromhex("44332211")
    assert bare.x(4) == 0x1122_3344_5566_7788


def test_abort_costs_no_budget(bare: Bare) -> None:
    bare.set_x(x2=DATA)
    assert bare.run(a64.NOP, a64.ldr(1, 2), a64.NOP, budget=2) is EL2Entry.TRAP
    bare.map_ipa(DATA)
    assert bare.run(budget=1) is EL2Entry.IRQ
    assert bare.pe.retired == 2
