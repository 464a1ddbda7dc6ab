"""Access flag and dirty state kept by hardware (FEAT_HAFDBS), as descriptors in memory show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import AT, DC
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA, VA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import ID_AA64ISAR0_EL1, ID_AA64MMFR1_EL1
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import SCTLR_EL2
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import (
    CODE,
    DATA,
    EL1H,
    S1_RW,
    S1_USER,
    S2_NORMAL,
    S2_RO,
    S2_RW,
    TCR,
    VTCR,
    Bare,
    Trap,
)

if TYPE_CHECKING:
    from collections.abc import Callable

AF: Final = tables.AF
DBM: Final = 1 << 51
HAFDBS: Final = CORTEX_A72.replace(
    ID_AA64MMFR1_EL1.build(HAFDBS=2), ID_AA64ISAR0_EL1.build(Atomic=2)
)
LDADD: Final = 0xF821_0043
"""LDADD X1, X3, [X2]."""


def second_stage(attributes: int, **vtcr: int) -> Bare:
    """Return a machine with DATA mapped at stage 2 with these attributes."""
    bare = Bare(HAFDBS)
    bare.pe.write(VTCR.replace(**vtcr))
    bare.map_ipa(DATA, attributes=attributes)
    bare.set_x(x2=DATA)
    return bare


def first_stage(attributes: int, **tcr: int) -> Bare:
    """Return a machine with DATA mapped at both stages, at stage 1 with these attributes."""
    bare = Bare(HAFDBS)
    bare.map_ipa(DATA)
    bare.code(a64.NOP)
    bare.stage1_on()
    bare.map_va(DATA, DATA, attributes)
    bare.pe.write(TCR.replace(**tcr))
    bare.set_x(x2=DATA)
    return bare


# Stage 2


@pytest.mark.parametrize("word", [a64.ldr(1, 2), a64.str_(1, 2), LDADD])
def test_stage_2_access_flag_is_set_on_first_use(word: int) -> None:
    bare = second_stage(S2_RW & ~AF, HA=1)
    before = bare.s2.read(DATA)
    assert bare.trap(word, a64.hvc(1)).esr == 0x5A00_0001
    assert bare.s2.read(DATA) == before | AF


def test_stage_2_access_flag_is_set_by_a_fetch() -> None:
    bare = second_stage(S2_RW, HA=1)
    bare.code(a64.hvc(5), at=DATA + 0x1000)
    bare.s2.write(DATA + 0x1000, bare.s2.read(DATA + 0x1000) & ~AF)
    bare.set_x(x2=DATA + 0x1000)
    assert bare.trap(a64.br(2)).esr == 0x5A00_0005
    assert bare.s2.read(DATA + 0x1000) & AF


def test_store_to_a_clean_page_makes_it_dirty() -> None:
    bare = second_stage(S2_RO | DBM, HA=1, HD=1)
    before = bare.s2.read(DATA)
    assert bare.trap(a64.ldr(1, 2), a64.hvc(1)).esr == 0x5A00_0001
    assert bare.s2.read(DATA) == before, "a load leaves it clean"
    assert bare.trap(a64.str_(1, 2), a64.hvc(2)).esr == 0x5A00_0002
    assert bare.s2.read(DATA) == before | tables.S2_WRITE


def test_clean_page_is_marked_once_and_stays_dirty() -> None:
    bare = second_stage(S2_RO | DBM, HA=1, HD=1)
    bare.trap(a64.str_(1, 2), a64.hvc(1))
    bare.s2.write(DATA, bare.s2.read(DATA) & ~tables.S2_WRITE)
    bare.trap(a64.str_(1, 2), a64.hvc(2))
    assert not bare.s2.read(DATA) & tables.S2_WRITE, "the TLB still knows it as dirty"
    bare.pe.tlbi(TLBI.VMALLS12E1IS)
    bare.trap(a64.str_(1, 2), a64.hvc(3))
    assert bare.s2.read(DATA) & tables.S2_WRITE


@pytest.mark.parametrize(
    ("attributes", "vtcr"),
    [(S2_RO, {"HA": 1, "HD": 1}), (S2_RO | DBM, {"HA": 1}), (S2_RO | DBM, {"HD": 1})],
)
def test_store_faults_where_hardware_does_not_manage_dirty_state(
    attributes: int, vtcr: dict[str, int]
) -> None:
    bare = second_stage(attributes, **vtcr)
    before = bare.s2.read(DATA)
    assert bare.trap(a64.str_(1, 2)).esr == 0x93C1_804F
    assert bare.s2.read(DATA) == before


def test_refused_access_marks_nothing() -> None:
    bare = second_stage((S2_NORMAL | tables.S2_WRITE) & ~AF, HA=1)
    before = bare.s2.read(DATA)
    assert bare.trap(a64.ldr(1, 2)).esr == 0x93C1_800F
    assert bare.s2.read(DATA) == before


def test_maintenance_does_not_make_dirty() -> None:
    bare = second_stage(S2_RO | DBM, HA=1, HD=1)
    before = bare.s2.read(DATA)
    bare.trap(DC.CIVAC.word(2), a64.hvc(1))
    assert bare.s2.read(DATA) == before


@pytest.mark.parametrize(
    ("level", "ipa"), [(2, 0x6000_0000), (1, 0xC000_0000)], ids=["2 MiB", "1 GiB"]
)
def test_block_is_marked_as_a_whole(level: int, ipa: int) -> None:
    bare = second_stage(S2_RW, HA=1, HD=1)
    output = bare.block() if level == 2 else bare.memory.base & -(1 << 30)
    bare.s2.map(ipa, output, (S2_RO | DBM) & ~AF, level)
    bare.set_x(x2=ipa + 0x1_0000)
    bare.trap(a64.str_(1, 2), a64.hvc(1))
    assert bare.s2.read(ipa, level) & (AF | tables.S2_WRITE) == AF | tables.S2_WRITE


def test_big_endian_descriptors_of_stage_2_stay_big_endian() -> None:
    bare = second_stage(S2_RW & ~AF, HA=1)
    bare.code(a64.str_(1, 2), a64.hvc(1))
    before = bare.s2.read(DATA)
    bare.s2.swap()
    bare.pe.write(SCTLR_EL2.build(EE=1))
    bare.start()
    assert bare.trap().esr == 0x5A00_0001
    bare.s2.swap()
    assert bare.s2.read(DATA) == before | AF


# Stage 1


def test_stage_1_access_flag_and_dirty_state() -> None:
    bare = first_stage((S1_RW | tables.S1_READ_ONLY | DBM) & ~AF, HA=1, HD=1)
    before = bare.s1.read(DATA)
    bare.trap(a64.ldr(1, 2), a64.hvc(1))
    assert bare.s1.read(DATA) == before | AF
    bare.trap(a64.str_(1, 2), a64.hvc(1))
    assert bare.s1.read(DATA) == (before | AF) & ~tables.S1_READ_ONLY


def test_big_endian_descriptors_of_stage_1_stay_big_endian() -> None:
    bare = first_stage((S1_RW | tables.S1_READ_ONLY | DBM) & ~AF, HA=1, HD=1)
    bare.pe.write(bare.pe.read(SCTLR_EL1).replace(EE=1))
    before = bare.s1.read(DATA)
    bare.s1.swap()
    assert bare.trap(a64.str_(1, 2), a64.hvc(1)).esr == 0x5A00_0001
    bare.s1.swap()
    assert bare.s1.read(DATA) == (before | AF) & ~tables.S1_READ_ONLY


def test_stage_1_without_hardware_faults() -> None:
    bare = first_stage(S1_RW & ~AF)
    assert bare.taken_to_el1(a64.ldr(1, 2)).esr == 0x9600_000B


def test_at_of_a_write_marks_as_a_write_would() -> None:
    bare = first_stage((S1_USER | tables.S1_READ_ONLY | DBM) & ~AF, HA=1, HD=1)
    bare.pe.at(AT.S1E1R, VA(DATA))
    assert bare.s1.read(DATA) & (AF | tables.S1_READ_ONLY) == AF | tables.S1_READ_ONLY


@pytest.mark.parametrize(
    ("change", "esr"),
    [
        (lambda word: word & ~tables.S2_WRITE, 0x9200_00CF),
        (lambda word: word & ~tables.S2_READ, 0x9200_008F),
    ],
)
def test_update_of_a_table_that_stage_2_protects_is_a_fault_of_the_walk(
    change: Callable[[int], int], esr: int
) -> None:
    """Only the write of the descriptor reports WnR."""
    bare = first_stage(S1_RW & ~AF, HA=1)
    descriptor = bare.s1.address_of(DATA)
    page = descriptor & -0x1000
    other = bare.s1.address_of(CODE)
    if other & -0x1000 == page:
        bare.map_va(0x20_0000_0000, DATA, S1_RW & ~AF)
        bare.set_x(x2=0x20_0000_0000)
        descriptor = bare.s1.address_of(0x20_0000_0000)
    bare.s2.write(descriptor, change(bare.s2.read(descriptor)))
    trap = bare.trap(a64.ldr(1, 2))
    assert (trap.esr, trap.hpfar) == (esr, descriptor >> 12 << 4)


@pytest.mark.parametrize("word", [a64.ldr(1, 2), a64.str_(1, 2), LDADD])
@pytest.mark.parametrize("data", [0, tables.S2_READ, tables.S2_READ | tables.S2_WRITE])
def test_update_that_stage_2_refuses_comes_before_what_stage_2_says_of_the_data(
    data: int, word: int
) -> None:
    va = 0x20_0000_0000
    bare = first_stage(S1_RW)
    bare.pe.write(TCR.replace(HA=1))
    bare.map_va(va, DATA, S1_RW & ~AF)
    bare.set_x(x2=va)
    descriptor = bare.s1.address_of(va)
    bare.s2.write(descriptor, bare.s2.read(descriptor) & ~tables.S2_WRITE)
    bare.s2.write(DATA, bare.s2.read(DATA) & ~tables.S2_RW | data)
    trap = bare.trap(word)
    assert (trap.esr, trap.hpfar) == (0x9200_00CF, descriptor >> 12 << 4)


# Atomic accesses need both permissions


@pytest.mark.parametrize(
    ("s2ap", "esr"),
    [
        (0, 0x9200_000F),
        (tables.S2_WRITE, 0x9200_000F),
        (tables.S2_READ, 0x9200_004F),
    ],
)
def test_atomic_reports_a_write_only_where_a_read_would_have_passed(s2ap: int, esr: int) -> None:
    bare = second_stage(S2_NORMAL | s2ap)
    assert bare.trap(a64.NOP, LDADD) == Trap(esr, DATA, 0, CODE + 4, EL1H)


def test_atomic_to_an_unmapped_page_reports_a_read() -> None:
    bare = second_stage(S2_RW)
    bare.s2.unmap(DATA)
    assert bare.trap(LDADD).esr == 0x9200_0007


def test_atomic_works() -> None:
    bare = second_stage(S2_RO | DBM, HA=1, HD=1)
    pa = bare.s2.read(DATA) & tables.ADDRESS
    bare.memory.write_u64(PA(pa), 40)
    bare.set_x(x1=2)
    bare.trap(LDADD, a64.hvc(1))
    assert (bare.x(3), bare.memory.read_u64(PA(pa))) == (40, 42)
    assert bare.s2.read(DATA) & tables.S2_WRITE
