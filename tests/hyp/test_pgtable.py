"""Stage-2 page tables: descriptors, break-before-make, references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA, PA
from hyp.descriptors import Operation
from hyp.errors import Errno
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K
from hyp.mapping import MapWalk
from hyp.pte import (
    PTE_AF,
    PTE_LOCKED,
    PTE_PERMS,
    PTE_TABLE,
    PTE_VALID,
    InvalidPteType,
    Prot,
    annotation_pte,
    pte_prot,
    pte_to_phys,
    pte_valid,
)
from hyp.walker import FAULT_WALK
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU
from tests.hyp.stage2 import OUTPUT, Stage2, entry_address, make_stage2

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures

RW, RWX = Prot.R | Prot.W, Prot.R | Prot.W | Prot.X
ADDR = 0x4000_0000


@pytest.fixture
def s2() -> Stage2:
    return make_stage2()


def test_an_empty_table_has_no_leaf(s2: Stage2) -> None:
    assert s2.pgt.get_leaf(IPA(ADDR)) == (0, 1)


def test_map_of_one_page_makes_two_tables_and_one_leaf(s2: Stage2) -> None:
    assert s2.map(ADDR, SIZE_4K, OUTPUT, RW) is Errno.OK
    pte, level = s2.pgt.get_leaf(IPA(ADDR))
    assert level == 3
    assert pte_to_phys(pte) == OUTPUT
    assert pte & PTE_AF
    assert pte_prot(pte) == RW
    assert s2.stats.table_pages == 2 + 2


def test_map_uses_the_largest_blocks_that_fit(s2: Stage2) -> None:
    start = ADDR + SIZE_1G - SIZE_4K
    size = SIZE_4K + SIZE_1G + SIZE_2M + SIZE_4K
    assert s2.map(start, size, OUTPUT + SIZE_1G - SIZE_4K, RW) is Errno.OK
    levels = [s2.pgt.get_leaf(IPA(start + offset)).level for offset in (0, SIZE_4K)]
    assert levels == [3, 1]
    assert s2.pgt.get_leaf(IPA(start + SIZE_4K + SIZE_1G)).level == 2
    last = s2.pgt.get_leaf(IPA(start + size - SIZE_4K))
    assert last.level == 3
    assert pte_to_phys(last.pte) == OUTPUT + SIZE_1G - SIZE_4K + size - SIZE_4K


def test_no_block_is_used_where_the_output_is_not_aligned(s2: Stage2) -> None:
    assert s2.map(ADDR, SIZE_2M, OUTPUT + SIZE_4K, RW) is Errno.OK
    assert s2.pgt.get_leaf(IPA(ADDR)).level == 3
    assert s2.pgt.get_leaf(IPA(ADDR + SIZE_2M - SIZE_4K)).level == 3


def test_level_0_never_holds_a_leaf() -> None:
    s2 = make_stage2(ia_bits=48)
    assert s2.pgt.geometry.start_level == 0
    assert s2.map(0, 1 << 39, 0, RW) is Errno.OK
    assert s2.pgt.get_leaf(IPA(0)).level == 1


def test_concatenated_top_tables_are_one_table(s2: Stage2) -> None:
    high = 0xC0_4020_1000
    assert s2.map(high, SIZE_4K, OUTPUT, RW) is Errno.OK
    assert pte_to_phys(s2.pgt.get_leaf(IPA(high)).pte) == OUTPUT
    assert not pte_valid(s2.pgt.get_leaf(IPA(high & (1 << 39) - 1)).pte)


@pytest.mark.parametrize("prot", [Prot.R | Prot.X | Prot.DEVICE, Prot.DEVICE | Prot.NORMAL_NC])
def test_impossible_attributes_are_refused(s2: Stage2, prot: Prot) -> None:
    assert s2.map(ADDR, SIZE_4K, OUTPUT, prot) is Errno.EINVAL
    assert s2.memory.stores == []


def test_map_beyond_the_ipa_size_is_refused(s2: Stage2) -> None:
    assert s2.map((1 << 40) - SIZE_4K, SIZE_2M, OUTPUT, RW) is Errno.ERANGE
    assert s2.pgt.get_leaf(IPA(1 << 40)) == (0, 1)


def test_map_without_spare_pages_fails_and_leaves_no_locked_entry(s2: Stage2) -> None:
    assert s2.pgt.map(IPA(ADDR), SIZE_4K, OUTPUT, RW, s2.memcache) is Errno.ENOMEM
    assert s2.pgt.map(IPA(ADDR), SIZE_4K, OUTPUT, RW, None) is Errno.ENOMEM
    assert s2.memory.stores == []


@pytest.mark.parametrize("prot", [RW, Prot.R, RWX])
@pytest.mark.kvm_row(8)
def test_map_of_what_is_there_is_eagain_even_with_other_permissions(s2: Stage2, prot: Prot) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    stores = len(s2.memory.stores)
    s2.pe.log.clear()
    assert s2.map(ADDR, SIZE_4K, OUTPUT, prot) is Errno.EAGAIN
    assert len(s2.memory.stores) == stores
    assert s2.pe.log == []


@pytest.mark.kvm_row(10)
def test_another_output_breaks_the_entry_before_it_is_made(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    s2.memory.stores.clear()
    s2.pe.log.clear()
    assert s2.map(ADDR, SIZE_4K, OUTPUT + SIZE_4K, RW) is Errno.OK
    (_, old, locked), (_, locked_again, new) = s2.memory.stores
    assert pte_to_phys(old) == OUTPUT
    assert locked == locked_again == PTE_LOCKED
    assert pte_to_phys(new) == OUTPUT + SIZE_4K
    assert s2.pe.names() == ["IPAS2E1IS", "VMALLE1IS", "CIVAC"]


def test_cache_maintenance_comes_between_break_and_make(s2: Stage2) -> None:
    seen: list[int] = []
    s2.map(ADDR, SIZE_4K, OUTPUT, RWX)
    ptep = entry_address(s2, ADDR, 3)
    original = s2.pgt.cmo.icache_inval_pou

    class Cmo:
        def icache_inval_pou(self, pa: PA, size: int) -> None:
            seen.append(s2.memory.read_u64(ptep))
            original(pa, size)

        def dcache_clean_inval_poc(self, _pa: PA, _size: int) -> None:
            seen.append(s2.memory.read_u64(ptep))

    s2.pgt.cmo = Cmo()  # type: ignore[assignment]  # a spy
    s2.map(ADDR, SIZE_4K, OUTPUT + SIZE_4K, RWX)
    assert seen == [PTE_LOCKED, PTE_LOCKED]


def test_locked_entry_is_somebody_elses(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    ptep = entry_address(s2, ADDR + SIZE_4K, 3)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    assert s2.map(ADDR + SIZE_4K, SIZE_4K, OUTPUT, RW) is Errno.EAGAIN
    assert s2.memory.read_u64(ptep) == PTE_LOCKED


def test_an_entry_that_changes_under_our_hands_is_left_alone(s2: Stage2) -> None:
    """Another PE installs the page between our read of the entry and our lock."""
    s2.map(ADDR + SIZE_4K, SIZE_4K, OUTPUT, RW)
    ptep = entry_address(s2, ADDR, 3)
    other = OUTPUT + SIZE_2M | PTE_TABLE
    walk = MapWalk(s2.pgt, IPA(ADDR), OUTPUT, 0, s2.memcache, flags=FAULT_WALK, collapse=True)
    s2.memory.write_u64(ptep, other)
    assert walk.leaf(ptep, 0, 3, IPA(ADDR), IPA(ADDR + SIZE_4K)) is Errno.EAGAIN
    assert s2.memory.read_u64(ptep) == other


def test_a_table_that_somebody_else_installed_first_gives_ours_back(s2: Stage2) -> None:
    s2.memcache.topup(1)
    ptep = entry_address(s2, ADDR, 1)
    walk = MapWalk(s2.pgt, IPA(ADDR), OUTPUT, 0, s2.memcache, flags=FAULT_WALK, collapse=True)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    tables = s2.stats.table_pages
    assert walk.leaf(ptep, 0, 1, IPA(ADDR), IPA(ADDR + SIZE_4K)) is Errno.EAGAIN
    assert s2.stats.table_pages == tables


def test_a_leaf_that_does_not_fit_at_level_3_is_refused(s2: Stage2) -> None:
    assert s2.map(ADDR, SIZE_4K, OUTPUT + 0x800, RW) is Errno.EINVAL


@pytest.mark.parametrize("features", [OLD_CPU, NEW_CPU])
@pytest.mark.kvm_row(11)
def test_a_block_replaces_a_table_and_frees_it(features: CpuFeatures) -> None:
    s2 = make_stage2(features)
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    s2.map(ADDR + SIZE_4K, SIZE_4K, OUTPUT + SIZE_4K, RW)
    tables = s2.stats.table_pages
    s2.pe.log.clear()
    assert s2.map(ADDR, SIZE_2M, OUTPUT, RW) is Errno.OK
    assert s2.pgt.get_leaf(IPA(ADDR)).level == 2
    assert s2.stats.table_pages == tables - 1
    flush = ["RIPAS2E1IS", "VMALLE1IS"] if features is NEW_CPU else ["VMALLS12E1IS"]
    assert s2.pe.names()[: len(flush)] == flush


def test_a_gigabyte_block_replaces_tables_of_two_levels(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    s2.map(ADDR + SIZE_2M, SIZE_2M, OUTPUT, RW)
    assert s2.map(ADDR, SIZE_1G, OUTPUT, RW) is Errno.OK
    assert s2.pgt.get_leaf(IPA(ADDR)).level == 1
    assert s2.stats.table_pages == 2


def test_collapse_meets_a_locked_table_entry(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    walk = MapWalk(s2.pgt, IPA(ADDR), OUTPUT, 0, s2.memcache, flags=FAULT_WALK, collapse=True)
    ptep = entry_address(s2, ADDR, 2)
    old = s2.memory.read_u64(ptep)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    error = walk.table_pre(ptep, old, 2, IPA(ADDR), IPA(ADDR + SIZE_2M))
    assert error is Errno.EAGAIN


def test_a_page_replaces_a_block_and_its_neighbours_fault_again(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, RW)
    s2.pe.log.clear()
    assert s2.map(ADDR + SIZE_4K, SIZE_4K, OUTPUT + SIZE_4K, Prot.R) is Errno.OK
    assert s2.pe.names()[:2] == ["IPAS2E1IS", "VMALLE1IS"]
    assert pte_prot(s2.pgt.get_leaf(IPA(ADDR + SIZE_4K)).pte) == Prot.R
    assert not pte_valid(s2.pgt.get_leaf(IPA(ADDR)).pte)


# --- unmap -------------------------------------------------------------------------------


def test_unmap_frees_the_tables_that_become_empty(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    s2.map(ADDR + SIZE_4K, SIZE_4K, OUTPUT, RW)
    assert s2.pgt.unmap(IPA(ADDR), SIZE_4K) is Errno.OK
    assert s2.stats.table_pages == 4
    assert s2.pgt.unmap(IPA(ADDR + SIZE_4K), SIZE_4K) is Errno.OK
    assert s2.stats.table_pages == 2
    assert s2.pgt.get_leaf(IPA(ADDR)) == (0, 1)


@pytest.mark.kvm_row(50)
def test_unmap_of_part_of_a_block_removes_all_of_it(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, RW)
    s2.pgt.unmap(IPA(ADDR + SIZE_4K), SIZE_4K)
    assert not pte_valid(s2.pgt.get_leaf(IPA(ADDR)).pte)


@pytest.mark.kvm_row(52)
def test_unmap_cleans_what_it_removes_unless_write_back_is_forced() -> None:
    for features, cleaned in ((OLD_CPU, 1), (NEW_CPU, 0)):
        s2 = make_stage2(features)
        s2.map(ADDR, SIZE_4K, OUTPUT, RW)
        s2.pe.log.clear()
        s2.pgt.unmap(IPA(ADDR), SIZE_4K)
        assert s2.pe.names().count("CIVAC") == cleaned


def test_device_memory_is_not_cleaned(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW | Prot.DEVICE)
    s2.pgt.unmap(IPA(ADDR), SIZE_4K)
    assert "CIVAC" not in s2.pe.names()


@pytest.mark.kvm_row(51)
def test_unmap_invalidates_once_for_the_range_where_the_machine_can() -> None:
    s2 = make_stage2(NEW_CPU)
    for n in range(8):
        s2.map(ADDR + n * SIZE_4K, SIZE_4K, OUTPUT, RW)
    s2.map(ADDR + SIZE_2M - SIZE_4K, SIZE_4K, OUTPUT, RW)
    s2.pe.log.clear()
    s2.pgt.unmap(IPA(ADDR), 8 * SIZE_4K)
    assert s2.pe.names() == ["RIPAS2E1IS", "VMALLE1IS"]


@pytest.mark.kvm_row(51)
def test_unmap_invalidates_each_leaf_where_the_machine_cannot(s2: Stage2) -> None:
    for n in range(3):
        s2.map(ADDR + n * SIZE_4K, SIZE_4K, OUTPUT, RW)
    s2.pe.log.clear()
    s2.pgt.unmap(IPA(ADDR), 2 * SIZE_4K)
    assert s2.pe.names().count("IPAS2E1IS") == 2


def test_unmap_drops_an_annotation(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    ptep = entry_address(s2, ADDR + SIZE_4K, 3)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    s2.pages.get_page(ptep)
    s2.pgt.unmap(IPA(ADDR), SIZE_2M)
    assert s2.stats.table_pages == 2


# --- attributes --------------------------------------------------------------------------


def test_wrprotect_takes_write_only_and_flushes_nothing(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RWX)
    s2.map(ADDR + 2 * SIZE_4K, SIZE_4K, OUTPUT, Prot.R)
    s2.pe.log.clear()
    assert s2.pgt.wrprotect(IPA(ADDR), SIZE_2M) is Errno.OK
    assert pte_prot(s2.pgt.get_leaf(IPA(ADDR)).pte) == Prot.R | Prot.X
    assert s2.pe.log == []


@pytest.mark.kvm_row(7)
def test_relax_perms_adds_and_never_removes(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, Prot.R | Prot.X)
    s2.pe.log.clear()
    assert s2.pgt.relax_perms(IPA(ADDR), Prot.R | Prot.W) is Errno.OK
    assert pte_prot(s2.pgt.get_leaf(IPA(ADDR)).pte) == RWX
    assert s2.pe.names() == ["IPAS2E1", "VMALLE1"]


@pytest.mark.kvm_row(7)
def test_relax_perms_changes_nothing_but_permissions(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, Prot.R)
    before = s2.pgt.get_leaf(IPA(ADDR)).pte
    s2.pgt.relax_perms(IPA(ADDR), RWX)
    assert (before ^ s2.pgt.get_leaf(IPA(ADDR)).pte) & ~PTE_PERMS == 0
    assert ("IVAU", OUTPUT, SIZE_2M) not in s2.pe.log
    assert ("IALLUIS", None, 1) in s2.pe.log, "a block is too large to invalidate by line"


def test_relax_perms_of_an_unmapped_page_still_invalidates_the_local_tlb(s2: Stage2) -> None:
    assert s2.pgt.relax_perms(IPA(ADDR), RWX) is Errno.EAGAIN
    assert s2.pe.names() == ["IPAS2E1", "VMALLE1"]


def test_relax_perms_beyond_the_ipa_size_does_nothing(s2: Stage2) -> None:
    assert s2.pgt.relax_perms(IPA(1 << 40), RWX) is Errno.ERANGE
    assert s2.pe.log == []


def test_update_that_loses_the_race_is_eagain(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, Prot.R)
    ptep = entry_address(s2, ADDR, 3)
    old = s2.memory.read_u64(ptep)

    def change_first(operation: Operation, at: int) -> None:
        if operation is Operation.CMPXCHG:
            s2.memory.write_u64(PA(at), old & ~PTE_AF)

    s2.pgt.descriptors.observe(change_first)
    assert s2.pgt.mkyoung(IPA(ADDR)) is Errno.OK, "nothing to store, nothing to lose"
    assert s2.pgt.relax_perms(IPA(ADDR), RW) is Errno.EAGAIN
    assert s2.memory.read_u64(ptep) == old & ~PTE_AF


def test_mkyoung_sets_only_the_access_flag(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    ptep = entry_address(s2, ADDR, 3)
    pte = s2.memory.read_u64(ptep)
    s2.memory.write_u64(ptep, pte & ~PTE_AF)
    assert s2.pgt.mkyoung(IPA(ADDR)) is Errno.OK
    assert s2.memory.read_u64(ptep) == pte
    assert s2.pgt.mkyoung(IPA(ADDR + SIZE_4K)) is Errno.EAGAIN


def test_flush_cleans_cacheable_leaves(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    s2.map(ADDR + SIZE_4K, SIZE_4K, OUTPUT, RW | Prot.DEVICE)
    s2.pe.log.clear()
    assert s2.pgt.flush(IPA(ADDR), SIZE_2M) is Errno.OK
    assert s2.pe.log == [("CIVAC", OUTPUT, SIZE_4K)]


def test_flush_is_nothing_where_write_back_is_forced() -> None:
    s2 = make_stage2(NEW_CPU)
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    assert s2.pgt.flush(IPA(ADDR), SIZE_2M) is Errno.OK
    assert "CIVAC" not in s2.pe.names()


# --- access flags ------------------------------------------------------------------------


@pytest.mark.kvm_row(42)
@pytest.mark.parametrize("size", [SIZE_4K, SIZE_2M])
def test_a_page_is_young_until_it_is_made_old(s2: Stage2, size: int) -> None:
    s2.map(ADDR, size, OUTPUT, RW)
    before = s2.pgt.get_leaf(IPA(ADDR)).pte
    s2.pe.log.clear()
    assert s2.pgt.test_clear_young(IPA(ADDR), SIZE_2M, mkold=False)
    assert s2.pgt.test_clear_young(IPA(ADDR), SIZE_2M, mkold=True)
    assert s2.pgt.get_leaf(IPA(ADDR)).pte == before & ~PTE_AF
    assert not s2.pgt.test_clear_young(IPA(ADDR), SIZE_2M, mkold=True)
    assert s2.pgt.mkyoung(IPA(ADDR)) is Errno.OK
    assert s2.pgt.test_clear_young(IPA(ADDR), SIZE_4K, mkold=False)
    assert s2.pe.log == []


def test_nothing_mapped_is_not_young(s2: Stage2) -> None:
    assert not s2.pgt.test_clear_young(IPA(ADDR), SIZE_1G, mkold=True)
    s2.map(ADDR + SIZE_2M, SIZE_4K, OUTPUT, RW)
    assert not s2.pgt.test_clear_young(IPA(ADDR), SIZE_2M, mkold=True)
    assert s2.pgt.test_clear_young(IPA(ADDR), SIZE_1G, mkold=False)


# --- annotations -------------------------------------------------------------------------


def test_annotation_takes_the_place_of_what_is_mapped(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, RW)
    s2.memcache.topup(1)
    s2.pe.log.clear()
    kind = InvalidPteType.HOST_DONATION
    assert s2.pgt.annotate(IPA(ADDR), SIZE_4K, s2.memcache, kind, 1 << 2) is Errno.OK
    pte, level = s2.pgt.get_leaf(IPA(ADDR))
    assert (pte, level) == (annotation_pte(kind, 1 << 2), 3)
    assert not pte_valid(pte)
    assert s2.pe.names()[:2] == ["IPAS2E1IS", "VMALLE1IS"]
    assert s2.pages.page_count(entry_address(s2, ADDR, 3)) == 1 + 1
    assert s2.map(ADDR, SIZE_4K, OUTPUT, RW) is Errno.OK, "and a mapping takes its place"


def test_annotation_of_a_block_needs_no_table(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    kind = InvalidPteType.GUEST_POISONED
    assert s2.pgt.annotate(IPA(ADDR), SIZE_1G, None, kind, 2) is Errno.OK
    assert s2.pgt.get_leaf(IPA(ADDR + SIZE_2M)) == (annotation_pte(kind, 2), 1)
    assert s2.stats.table_pages == 2


def test_annotation_passes_over_a_locked_entry(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    ptep = entry_address(s2, ADDR + SIZE_4K, 3)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    kind = InvalidPteType.HOST_DONATION
    assert s2.pgt.annotate(IPA(ADDR), 2 * SIZE_4K, None, kind, 2) is Errno.OK
    assert s2.pgt.get_leaf(IPA(ADDR)).pte == annotation_pte(kind, 2)
    assert s2.memory.read_u64(ptep) == PTE_LOCKED


@pytest.mark.parametrize(
    ("kind", "annotation"),
    [
        (InvalidPteType.NONE, 2),
        (InvalidPteType.LOCKED, 2),
        (InvalidPteType.HOST_DONATION, 1),
        (InvalidPteType.HOST_DONATION, 1 << 60),
    ],
)
def test_annotation_that_would_mean_something_else_is_refused(
    s2: Stage2, kind: InvalidPteType, annotation: int
) -> None:
    assert s2.pgt.annotate(IPA(ADDR), SIZE_4K, s2.memcache, kind, annotation) is Errno.EINVAL
    assert s2.memory.stores == []


# --- end of life -------------------------------------------------------------------------


@pytest.mark.kvm_row(57)
def test_destroy_gives_every_page_back_without_tlb_invalidation(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RW)
    s2.map(ADDR + SIZE_2M, SIZE_2M, OUTPUT, RW)
    s2.map(1 << 39, SIZE_1G, OUTPUT, RW)
    s2.pe.log.clear()
    s2.memcache.free()
    s2.pgt.destroy()
    assert s2.stats.table_pages == 0
    assert s2.pages.counts == {}
    assert s2.frames.allocated == 0
    assert s2.pe.log == []


def test_a_destroyed_table_refuses_work(s2: Stage2) -> None:
    s2.pgt.destroy()
    s2.pgt.destroy()
    assert s2.map(ADDR, SIZE_4K, OUTPUT, RW) is Errno.EINVAL
    assert s2.pgt.get_leaf(IPA(ADDR)) == (0, 1)


def test_references_are_one_for_the_page_and_one_an_entry(s2: Stage2) -> None:
    for n in range(3):
        s2.map(ADDR + n * SIZE_4K, SIZE_4K, OUTPUT, RW)
    table = entry_address(s2, ADDR, 3)
    assert s2.pages.page_count(table) == 1 + 3
    assert s2.memory.read_u64(table) & PTE_VALID
