"""What stays in the TLB until which TLBI: from EL2 and from the guest (Arm ARM D8.16, C5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.tlbi import TLBI
from emu.arch.a64.tlbi_arguments import tlbi_asid, tlbi_ipa, tlbi_range_ipa, tlbi_range_va, tlbi_va
from emu.arch.address import IPA, PA, VA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ELR_EL2, SPSR_EL2
from emu.arch.registers.identification import ID_AA64ISAR0_EL1
from emu.arch.registers.translation import TTBR0_EL1
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL1H, S1_RW, S2_RW, Bare

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

WITH_RANGES: Final = CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(TLB=2))
OLD, NEW = 0x01D, 0x4E3
ASID: Final = 5
LOAD: Final = (a64.ldr(1, 2), a64.hvc(0), a64.b(-8))
"""Load, leave to EL2, again."""


class Remapped:
    """A guest that has read DATA through one mapping; then the tables say another."""

    def __init__(self, *, stage1: bool = True, shift: int = 12, nG: bool = True) -> None:
        self.bare = bare = Bare(WITH_RANGES)
        self.old, self.new = bare.block(), bare.block()
        bare.memory.write_u64(self.old, OLD)
        bare.memory.write_u64(self.new, NEW)
        level = {12: 3, 21: 2}[shift]
        bare.s2.map(DATA, self.old, S2_RW, level)
        self.level = level
        bare.code(*LOAD)
        if stage1:
            bare.stage1_on()
            bare.s1.map(DATA, DATA, S1_RW | (tables.S1_NG if nG else 0), level)
            bare.pe.write(_ttbr0(bare, ASID))
        bare.set_x(x2=DATA)
        bare.start()
        assert self.load() == OLD

    def load(self) -> int:
        """Have the guest load, and return what it got."""
        self.bare.trap()
        return self.bare.x(1)

    def change_stage2(self) -> None:
        """Point stage 2 elsewhere, without invalidation."""
        self.bare.s2.map(DATA, self.new, S2_RW, self.level)

    def change_stage1(self) -> None:
        """Point stage 1 elsewhere, without invalidation."""
        bare = self.bare
        bare.s2.map(0x6000_0000, self.new, S2_RW, self.level)
        attributes = bare.s1.read(DATA, self.level) & ~tables.ADDRESS
        bare.s1.write(DATA, 0x6000_0000 | attributes, self.level)


def _ttbr0(bare: Bare, asid: int) -> TTBR0_EL1:
    return TTBR0_EL1.build(ASID=asid, BADDR=bare.s1.root >> 1)


def test_changed_tables_are_not_seen_without_invalidation() -> None:
    guest = Remapped()
    guest.change_stage2()
    assert guest.load() == OLD
    guest = Remapped()
    guest.change_stage1()
    assert guest.load() == OLD


def test_break_before_make_is_seen_late_as_well() -> None:
    guest = Remapped()
    guest.bare.s2.unmap(DATA)
    assert guest.load() == OLD
    guest.bare.pe.tlbi(TLBI.VMALLS12E1IS)
    assert guest.bare.trap().esr == 0x93C1_8007


def test_ipa_alone_leaves_the_combined_entry() -> None:
    guest = Remapped()
    guest.change_stage2()
    guest.bare.pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(DATA)))
    assert guest.load() == OLD


def test_stage_1_alone_leaves_the_stage_2_entry() -> None:
    guest = Remapped()
    guest.change_stage2()
    guest.bare.pe.tlbi(TLBI.VMALLE1IS)
    assert guest.load() == OLD


@pytest.mark.parametrize("level", [None, 3])
def test_ipa_then_stage_1_removes_both(level: int | None) -> None:
    guest = Remapped()
    guest.change_stage2()
    guest.bare.pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(DATA), level))
    guest.bare.pe.tlbi(TLBI.VMALLE1IS)
    assert guest.load() == NEW


def test_a_wrong_level_hint_removes_nothing() -> None:
    guest = Remapped()
    guest.change_stage2()
    guest.bare.pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(DATA), level=2))
    guest.bare.pe.tlbi(TLBI.VMALLE1IS)
    assert guest.load() == OLD


BY_EL2_FOR_STAGE_2: Final = {
    "VMALLS12E1": (TLBI.VMALLS12E1, 0, True),
    "VMALLS12E1IS": (TLBI.VMALLS12E1IS, 0, True),
    "ALLE1": (TLBI.ALLE1, 0, True),
    "ALLE1IS": (TLBI.ALLE1IS, 0, True),
    "ALLE2": (TLBI.ALLE2, 0, False),
    "VMALLE1": (TLBI.VMALLE1, 0, False),
}


@pytest.mark.parametrize("case", BY_EL2_FOR_STAGE_2)
def test_whole_invalidation_by_el2_after_a_change_of_stage_2(case: str) -> None:
    operation, argument, effective = BY_EL2_FOR_STAGE_2[case]
    guest = Remapped()
    guest.change_stage2()
    guest.bare.pe.tlbi(operation, argument)
    assert guest.load() == (NEW if effective else OLD)


FOR_STAGE_1: Final = {
    "VMALLE1": (TLBI.VMALLE1, 0, True),
    "VMALLE1IS": (TLBI.VMALLE1IS, 0, True),
    "VAE1": (TLBI.VAE1, tlbi_va(VA(DATA), ASID), True),
    "VAE1IS": (TLBI.VAE1IS, tlbi_va(VA(DATA), ASID), True),
    "VAE1 with the level": (TLBI.VAE1, tlbi_va(VA(DATA), ASID, 3), True),
    "VAE1 of another level": (TLBI.VAE1, tlbi_va(VA(DATA), ASID, 2), False),
    "VAE1 of another ASID": (TLBI.VAE1, tlbi_va(VA(DATA), ASID + 1), False),
    "VAE1 of another page": (TLBI.VAE1, tlbi_va(VA(DATA + 0x1000), ASID), False),
    "VALE1": (TLBI.VALE1, tlbi_va(VA(DATA), ASID), True),
    "VAAE1": (TLBI.VAAE1, tlbi_va(VA(DATA)), True),
    "VAALE1IS": (TLBI.VAALE1IS, tlbi_va(VA(DATA)), True),
    "ASIDE1": (TLBI.ASIDE1, tlbi_asid(ASID), True),
    "ASIDE1 of another ASID": (TLBI.ASIDE1, tlbi_asid(ASID + 1), False),
    "RVAE1": (TLBI.RVAE1, tlbi_range_va(VA(DATA - 0x1000), 2, ASID), True),
    "RVAE1 below": (TLBI.RVAE1, tlbi_range_va(VA(DATA - 0x2000), 2, ASID), False),
    "RVAAE1": (TLBI.RVAAE1, tlbi_range_va(VA(DATA - 0x20_0000), 1024), True),
    "RVAAE1IS": (TLBI.RVAAE1IS, tlbi_range_va(VA(DATA), 2), True),
}
"""Operation, argument, and whether it removes a page of ASID 5 (not global)."""


@pytest.mark.parametrize("case", FOR_STAGE_1)
@pytest.mark.parametrize("by_guest", [False, True])
def test_stage_1_invalidation(case: str, *, by_guest: bool) -> None:
    operation, argument, effective = FOR_STAGE_1[case]
    guest = Remapped()
    guest.change_stage1()
    if by_guest:
        words = (operation.word(3), a64.ldr(1, 2), a64.hvc(0))
        guest.bare.set_x(x3=int(argument))
        guest.bare.trap(*words)
        assert guest.bare.x(1) == (NEW if effective else OLD)
    else:
        guest.bare.pe.tlbi(operation, argument)
        assert guest.load() == (NEW if effective else OLD)


GLOBAL: Final = {
    "VAE1 of any ASID": (TLBI.VAE1, tlbi_va(VA(DATA), 77), True),
    "ASIDE1 of the current ASID": (TLBI.ASIDE1, tlbi_asid(ASID), False),
    "VAAE1": (TLBI.VAAE1, tlbi_va(VA(DATA)), True),
    "VMALLE1": (TLBI.VMALLE1, 0, True),
}


@pytest.mark.parametrize("case", GLOBAL)
def test_stage_1_invalidation_of_a_global_page(case: str) -> None:
    operation, argument, effective = GLOBAL[case]
    guest = Remapped(nG=False)
    guest.change_stage1()
    guest.bare.pe.tlbi(operation, argument)
    assert guest.load() == (NEW if effective else OLD)


def test_one_address_of_a_stage_1_block_removes_all_of_it() -> None:
    guest = Remapped(shift=21)
    bare = guest.bare
    bare.memory.write_u64(PA(guest.old + 0x8000), OLD)
    bare.memory.write_u64(PA(guest.new + 0x8000), NEW)
    bare.set_x(x2=DATA + 0x8000)
    assert guest.load() == OLD
    guest.change_stage1()
    bare.pe.tlbi(TLBI.VAE1, tlbi_va(VA(DATA + 0x1F_F000), ASID))
    assert guest.load() == NEW
    bare.set_x(x2=DATA)
    assert guest.load() == NEW


def test_one_address_of_a_stage_2_block_removes_all_of_it() -> None:
    guest = Remapped(shift=21)
    guest.change_stage2()
    guest.bare.pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(DATA + 0x1F_F000)))
    guest.bare.pe.tlbi(TLBI.VMALLE1IS)
    assert guest.load() == NEW


def test_range_of_ipas_removes_what_it_covers() -> None:
    for base, pages, seen in (
        (DATA - 0x1F_F000, 512, NEW),
        (DATA - 0x20_0000, 512, OLD),
        (DATA, 2, NEW),
    ):
        guest = Remapped()
        guest.change_stage2()
        guest.bare.pe.tlbi(TLBI.RIPAS2E1IS, tlbi_range_ipa(IPA(base), pages))
        guest.bare.pe.tlbi(TLBI.VMALLE1IS)
        assert guest.load() == seen, hex(base)


@pytest.mark.parametrize(
    ("operation", "argument"),
    [(TLBI.VMALLE1, 0), (TLBI.VAE1, tlbi_va(VA(DATA))), (TLBI.VAAE1, tlbi_va(VA(DATA)))],
)
def test_entries_made_with_stage_1_off_go_with_stage_1_operations(
    operation: TLBI, argument: int
) -> None:
    guest = Remapped(stage1=False)
    guest.change_stage2()
    guest.bare.pe.tlbi(TLBI.IPAS2E1, tlbi_ipa(IPA(DATA)))
    assert guest.load() == OLD
    guest.bare.pe.tlbi(operation, argument)
    assert guest.load() == NEW


def test_permission_that_el2_adds_is_seen_only_after_invalidation_of_its_stage_2_entry() -> None:
    """KVM's relax_perms: the retried access faults again until the old entry is gone."""
    bare = Bare()
    bare.map_ipa(DATA, attributes=S2_RW & ~tables.S2_WRITE)
    bare.set_x(x2=DATA)
    assert bare.trap(a64.ldr(1, 2), a64.str_(1, 2), a64.hvc(0)).esr == 0x93C1_804F
    bare.s2.write(DATA, bare.s2.read(DATA) | tables.S2_WRITE)
    bare.pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(DATA), 3))
    assert bare.trap().esr == 0x5A00_0000


def test_translation_faults_are_not_remembered() -> None:
    bare = Bare()
    bare.set_x(x2=DATA)
    bare.trap(a64.ldr(1, 2), a64.hvc(0))
    bare.map_ipa(DATA)
    assert bare.trap().esr == 0x5A00_0000


@pytest.mark.parametrize(
    "operation", [TLBI.ALLE1, TLBI.VMALLS12E1IS, TLBI.IPAS2E1, TLBI.ALLE2, TLBI.VAE2IS]
)
def test_operations_of_el2_are_undefined_at_el1(bare: Bare, operation: TLBI) -> None:
    taken = bare.taken_to_el1(operation.word(31 if not operation.takes_argument else 3))
    assert (taken.esr, taken.elr) == (0x0200_0000, CODE)


def test_maintenance_is_counted_by_name(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.trap(a64.ldr(1, 2), TLBI.VMALLE1.word(), TLBI.VMALLE1.word(), a64.hvc(0))
    assert bare.pe.maintenance["VMALLE1"] == 2
    assert bare.pe.tlbi_entries["VMALLE1"] == 3, "code and data; then code, fetched again"
    assert bare.pe.tlbi(TLBI.VMALLS12E1IS) == 3, "code, and stage 2's entries of both pages"
    assert bare.pe.tlbi(TLBI.VMALLS12E1IS) == 0


REACH: Final = {TLBI.VMALLE1: False, TLBI.VMALLE1IS: True, TLBI.VMALLE1OS: True}


@pytest.mark.parametrize("operation", REACH)
@pytest.mark.parametrize("by_guest", [False, True])
def test_shareable_operations_reach_the_other_pes(operation: TLBI, *, by_guest: bool) -> None:
    bare = Bare(WITH_RANGES, pe_count=2)
    other = bare.machine.pes[1]
    bare.map_ipa(DATA)
    bare.code(a64.ldr(1, 2), a64.hvc(0))
    bare.code(operation.word(), a64.hvc(0), at=DATA + 0x1000)
    run_on(other, CODE, x2=DATA)
    assert len(other.mmu.pages) == 2
    if by_guest:
        run_on(bare.pe, DATA + 0x1000)
    else:
        bare.pe.tlbi(operation)
    assert (len(other.mmu.pages) == 0) is REACH[operation]


def run_on(pe: ProcessingElement, pc: int, **values: int) -> None:
    """Run a PE until it traps."""
    for name, value in values.items():
        pe.write_x(int(name.removeprefix("x")), value)
    pe.write(ELR_EL2(pc))
    pe.write(SPSR_EL2(EL1H))
    assert pe.run(100) is EL2Entry.TRAP


# What the engine forgets


def test_the_guests_own_tlbi_by_va_leaves_the_engine_its_other_pages() -> None:
    guest = Remapped()
    bare = guest.bare
    other = DATA + 0x1000
    bare.s1.map(other, DATA, S1_RW | tables.S1_NG, 3)
    bare.set_x(x2=DATA, x3=other, x4=tlbi_va(VA(DATA), ASID))
    loads = (a64.ldr(1, 2), a64.ldr(5, 3))
    bare.run(*loads, a64.hvc(0), TLBI.VAE1IS.word(rt=4), *loads, a64.hvc(0))
    translations = bare.pe.mmu.hits + bare.pe.mmu.misses
    guest.change_stage1()
    bare.trap()
    assert (bare.x(1), bare.x(5)) == (NEW, OLD)
    assert bare.pe.mmu.hits + bare.pe.mmu.misses == translations + 1


def test_the_guests_own_tlbi_removes_all_that_was_cut_from_a_block() -> None:
    guest = Remapped(shift=21)
    bare = guest.bare
    for memory, value in ((guest.old, OLD), (guest.new, NEW)):
        bare.memory.write_u64(PA(memory + 0x3000), value)
    bare.set_x(x2=DATA + 0x3000, x4=tlbi_va(VA(DATA), ASID))
    assert guest.load() == OLD
    guest.change_stage1()
    bare.run(TLBI.VAE1IS.word(rt=4), a64.ldr(1, 2), a64.hvc(0))
    assert bare.x(1) == NEW
