"""Dirty logging of a VM: manual protection, KVM_CLEAR_DIRTY_LOG, split and rejoined blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultType
from hyp.capabilities import Cap
from hyp.dirty import DirtyBitmap, dirty_pages
from hyp.dirty_log import ManualProtect
from hyp.eager_split import SUPPORTED_BLOCK_SIZES, split_nr_page_tables
from hyp.errors import Errno
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K
from hyp.memslots import KVM_MEM_SLOTS_NUM, MemoryRegion, MemoryRegionFlags
from hyp.pte import Prot, pte_prot, pte_valid
from tests.hyp.fake_machine import NEW_CPU, RAM, FakeMachine, Guest, fetch, load, make_guest, store
from tests.hyp.observable import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hyp.pgtable import Leaf
    from hyp.vm import VM
    from tests.hyp.fake_machine import Trap

LOG, READONLY = MemoryRegionFlags.LOG_DIRTY_PAGES, MemoryRegionFlags.READONLY
PERMISSION = FaultType.PERMISSION
ENABLE, INITIALLY_SET = ManualProtect.ENABLE, ManualProtect.INITIALLY_SET
SIZE = 8 << 20
NPAGES = SIZE // SIZE_4K


def leaf_of(guest: Guest, page: int) -> Leaf:
    return guest.vm.pgt.get_leaf(IPA(RAM + page * SIZE_4K))


def prot_of(guest: Guest, page: int) -> Prot:
    return pte_prot(leaf_of(guest, page).pte)


def write(guest: Guest, *pages: int, fault: FaultType = FaultType.TRANSLATION) -> None:
    guest.run(*(store(RAM + page * SIZE_4K, fault) for page in pages))


def dirty(guest: Guest) -> list[int]:
    return list(dirty_pages(guest.vm.get_dirty_log(0)))


def bitmap_of(pages: Iterable[int], npages: int = NPAGES) -> bytes:
    bitmap = DirtyBitmap(npages)
    for page in pages:
        bitmap.set(page)
    return bitmap.copy()


def manual_guest(value: int = ENABLE, *, chunk: int = 0, page_size: int = SIZE_4K) -> Guest:
    """Return a guest with manual protection whose slot does not log yet."""
    machine = FakeMachine(features=NEW_CPU)
    vm = machine.vm()
    vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, value)
    vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, chunk)
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    hva = vm.host.mmap(SIZE, page_size)
    guest = Guest(machine, vm, vcpu, hva)
    guest.add_slot(0, RAM, SIZE, hva=hva)
    vm.events.subscribe(guest.events.append)
    return guest


# --- manual protection -----------------------------------------------------------------------


@pytest.mark.kvm_row(18)
def test_get_under_manual_protection_changes_nothing() -> None:
    guest = manual_guest()
    guest.set_flags(LOG)
    write(guest, 3, 70)
    guest.pe.log.clear()
    assert dirty(guest) == dirty(guest) == [3, 70]
    assert prot_of(guest, 3) == Prot.R | Prot.W
    assert guest.pe.log == []


@pytest.mark.kvm_row(18)
def test_clear_rearms_only_the_pages_of_its_mask() -> None:
    guest = manual_guest()
    guest.set_flags(LOG)
    write(guest, 3, 70, 200)
    guest.pe.log.clear()
    guest.vm.clear_dirty_log(0, 64, 128, bitmap_of([70 - 64, 90 - 64], 128))
    assert guest.pe.names() == ["RIPAS2E1IS", "VMALLE1IS"], "one flush of the slot"
    assert dirty(guest) == [3, 200]
    assert prot_of(guest, 70) == Prot.R
    assert prot_of(guest, 3) == prot_of(guest, 200) == Prot.R | Prot.W
    write(guest, 70, fault=PERMISSION)
    assert dirty(guest) == [3, 70, 200]


@pytest.mark.kvm_row(18)
def test_clear_of_clean_pages_protects_and_flushes_nothing() -> None:
    guest = manual_guest()
    guest.set_flags(LOG)
    write(guest, 3)
    guest.pe.log.clear()
    guest.vm.clear_dirty_log(0, 0, NPAGES, bitmap_of([4, 700]))
    assert guest.pe.log == []
    assert prot_of(guest, 3) == Prot.R | Prot.W


def test_clear_works_under_automatic_protection_too() -> None:
    guest = make_guest(flags=LOG)
    write(guest, 3, 4)
    guest.vm.clear_dirty_log(0, 0, 64, bitmap_of([3], 64))
    assert dirty(guest) == [4]


def test_bits_beyond_the_end_of_the_slot_are_ignored() -> None:
    guest = make_guest(flags=LOG, size=70 * SIZE_4K)
    write(guest, 69)
    guest.vm.clear_dirty_log(0, 64, 6, b"\xff" * 8)
    assert dirty(guest) == []


def written_guest() -> Guest:
    """Return a guest with two dirty pages in slot 0, of 100 pages; slot 1 does not log."""
    guest = make_guest(flags=LOG, size=100 * SIZE_4K, memory_size=16 << 20)
    guest.add_slot(1, 0x9000_0000, SIZE)
    write(guest, 0, 99)
    return guest


CLEAR_ERRORS = [
    ("first page not a multiple of 64", (0, 1, 64, bytes(8)), Errno.EINVAL, "first_page 1"),
    ("first page negative", (0, -64, 64, bytes(8)), Errno.EINVAL, "-64"),
    ("first page beyond the end", (0, 128, 0, b""), Errno.EINVAL, "has 100"),
    ("pages beyond the end", (0, 64, 37, bytes(8)), Errno.EINVAL, "64 to 100"),
    ("pages negative", (0, 0, -64, b""), Errno.EINVAL, "slot 0"),
    ("pages neither whole words nor the rest", (0, 0, 63, bytes(8)), Errno.EINVAL, "63"),
    ("rest of the slot less one", (0, 64, 35, bytes(8)), Errno.EINVAL, "35"),
    ("bitmap too short", (0, 0, 100, bytes(8)), Errno.EFAULT, "16, whole words"),
    ("slot without a bitmap", (1, 0, 64, bytes(8)), Errno.ENOENT, "slot 1"),
    ("no such slot", (2, 0, 64, bytes(8)), Errno.ENOENT, "slot 2"),
    ("impossible slot", (KVM_MEM_SLOTS_NUM, 0, 64, bytes(8)), Errno.EINVAL, "32766"),
    ("another address space", (1 << 16, 0, 64, bytes(8)), Errno.EINVAL, "32766"),
    ("negative slot", (-1, 0, 64, bytes(8)), Errno.EINVAL, "-1"),
    ("misaligned comes first", (2, 1, 64, bytes(8)), Errno.EINVAL, "first_page 1"),
]


@pytest.mark.parametrize(
    ("arguments", "errno", "text"),
    [row[1:] for row in CLEAR_ERRORS],
    ids=[row[0] for row in CLEAR_ERRORS],
)
@pytest.mark.kvm_row(19)
def test_refused_clear_changes_nothing(
    arguments: tuple[int, int, int, bytes], errno: Errno, text: str
) -> None:
    guest = written_guest()
    error = refusal(lambda: guest.vm.clear_dirty_log(*arguments), guest)
    assert error.errno is errno
    assert text in error.message
    assert prot_of(guest, 0) == Prot.R | Prot.W
    assert dirty(guest) == [0, 99]


@pytest.mark.parametrize(
    ("slot", "errno"),
    [
        (1, Errno.ENOENT),
        (2, Errno.ENOENT),
        (KVM_MEM_SLOTS_NUM, Errno.EINVAL),
        (1 << 16, Errno.EINVAL),
        (-1, Errno.EINVAL),
    ],
)
def test_refused_get_changes_nothing(slot: int, errno: Errno) -> None:
    guest = written_guest()
    assert refusal(lambda: guest.vm.get_dirty_log(slot), guest).errno is errno
    assert dirty(guest) == [0, 99]


@pytest.mark.parametrize(("first", "count"), [(0, 64), (0, 100), (64, 36), (64, 0), (0, 0)])
@pytest.mark.kvm_row(19)
def test_clear_of_whole_words_or_of_the_rest_is_accepted(first: int, count: int) -> None:
    guest = make_guest(flags=LOG, size=100 * SIZE_4K)
    guest.vm.clear_dirty_log(0, first, count, b"\xff" * 16)


@pytest.mark.kvm_row(16)
def test_initially_set_marks_all_and_touches_no_mapping() -> None:
    guest = manual_guest(ENABLE | INITIALLY_SET)
    write(guest, 3, 70)
    guest.pe.log.clear()
    guest.set_flags(LOG)
    assert dirty(guest) == list(range(NPAGES))
    assert prot_of(guest, 3) == Prot.R | Prot.W
    assert guest.pe.log == []
    guest.vm.clear_dirty_log(0, 0, 64, bitmap_of(range(64), 64))
    assert prot_of(guest, 3) == Prot.R
    assert prot_of(guest, 70) == Prot.R | Prot.W


def test_read_only_slot_is_initially_set_too() -> None:
    guest = manual_guest(ENABLE | INITIALLY_SET)
    guest.add_slot(1, 0x9000_0000, 3 * SIZE_4K, LOG | READONLY)
    assert guest.vm.get_dirty_log(1) == b"\x07" + bytes(7)


@pytest.mark.parametrize("value", [2, 4, 7, -1])
@pytest.mark.kvm_row(18)
def test_impossible_manual_protection_is_refused(value: int) -> None:
    vm = FakeMachine().vm()
    for before in (0, ENABLE, ENABLE | INITIALLY_SET):
        vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, before)
        error = refusal(lambda: vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, value), vm)
        assert error.errno is Errno.EINVAL
        assert "ENABLE" in error.message


# --- blocks ----------------------------------------------------------------------------------


def split_guest(chunk: int, value: int = 0) -> Guest:
    """Return a guest whose slot is mapped by blocks of 2 MiB, not logging yet."""
    guest = manual_guest(value, chunk=chunk, page_size=SIZE_2M)
    write(guest, *range(0, NPAGES, 512))
    assert all(leaf_of(guest, page).level == 2 for page in range(0, NPAGES, 512))
    return guest


@pytest.mark.kvm_row(12)
def test_lazy_split_maps_the_written_page_alone() -> None:
    guest = split_guest(0)
    guest.set_flags(LOG)
    assert leaf_of(guest, 5) == leaf_of(guest, 0)
    assert (leaf_of(guest, 5).level, prot_of(guest, 5)) == (2, Prot.R)
    guest.run(store(RAM + 5 * SIZE_4K, PERMISSION, level=2))
    assert (leaf_of(guest, 5).level, prot_of(guest, 5)) == (3, Prot.R | Prot.W)
    assert [page for page in range(512) if pte_valid(leaf_of(guest, page).pte)] == [5]
    assert dirty(guest) == [5]
    guest.run(load(RAM + 6 * SIZE_4K))
    assert (leaf_of(guest, 6).level, prot_of(guest, 6)) == (3, Prot.R)
    assert dirty(guest) == []


@pytest.mark.parametrize("chunk", [SIZE_2M, SIZE_1G])
@pytest.mark.kvm_row(13)
def test_eager_split_leaves_read_only_pages_without_a_fault(chunk: int) -> None:
    guest = split_guest(chunk)
    pages = [leaf_of(guest, page).pte & 0xFFFF_FFFF_F000 for page in range(0, NPAGES, 512)]
    guest.events.clear()
    guest.set_flags(LOG)
    leaves = [leaf_of(guest, page) for page in range(NPAGES)]
    assert all(leaf.level == 3 and pte_prot(leaf.pte) == Prot.R for leaf in leaves)
    assert [leaf.pte & 0xFFFF_FFFF_F000 for leaf in leaves[::512]] == pages
    assert guest.events == []
    write(guest, 700, fault=PERMISSION)
    assert prot_of(guest, 700) == Prot.R | Prot.W
    assert dirty(guest) == [700]


def test_eager_split_by_chunks_of_a_page_splits_blocks_as_well() -> None:
    guest = split_guest(SIZE_4K)
    guest.set_flags(LOG)
    assert all(leaf_of(guest, page).level == 3 for page in range(NPAGES))


@pytest.mark.kvm_row(16)
def test_initially_set_splits_only_what_is_cleared() -> None:
    guest = split_guest(SIZE_2M, value=ENABLE | INITIALLY_SET)
    guest.set_flags(LOG)
    assert leaf_of(guest, 0).level == leaf_of(guest, 600).level == 2
    guest.vm.clear_dirty_log(0, 512, 64, bitmap_of([70], 128)[8:])
    assert leaf_of(guest, 0).level == 2
    assert leaf_of(guest, 600).level == 3
    assert prot_of(guest, 600) == Prot.R


@pytest.mark.kvm_row(13)
def test_split_without_memory_leaves_blocks_to_faults() -> None:
    guest = split_guest(SIZE_2M)
    taken = []
    while (page := guest.vm.host.frames.allocate()) is not None:
        taken.append(page)
    guest.vm.dirty_log.split.free_cache()
    guest.set_flags(LOG)
    assert (leaf_of(guest, 5).level, prot_of(guest, 5)) == (2, Prot.R)
    for page in taken:
        guest.vm.host.frames.free(page)
    guest.run(store(RAM + 5 * SIZE_4K, PERMISSION, level=2))
    assert leaf_of(guest, 5).level == 3


def test_reserve_for_splitting_is_given_back_when_logging_ends() -> None:
    guest = split_guest(SIZE_1G)
    guest.set_flags(LOG)
    assert len(guest.vm.dirty_log.split.cache) > 0
    guest.set_flags(0)
    assert len(guest.vm.dirty_log.split.cache) == 0


def test_tables_that_a_chunk_can_need() -> None:
    sizes = (SIZE_4K, SIZE_2M, SIZE_1G, SIZE_1G + SIZE_4K)
    assert [split_nr_page_tables(size) for size in sizes] == [2, 2, 513, 515]


@pytest.mark.parametrize("trap", [store, fetch])
@pytest.mark.kvm_row(11)
def test_pages_become_blocks_again_after_logging(trap: Callable[..., Trap]) -> None:
    guest = split_guest(SIZE_2M)
    tables = guest.vm.stats.table_pages
    guest.set_flags(LOG)
    write(guest, 1, 2, 600, fault=PERMISSION)
    assert guest.vm.stats.table_pages == tables + 4
    guest.set_flags(0)
    assert leaf_of(guest, 1).level == 3, "nothing changes by itself"
    guest.run(trap(RAM + 5 * SIZE_4K, PERMISSION))
    assert leaf_of(guest, 5).level == leaf_of(guest, 1).level == 2
    assert leaf_of(guest, 600).level == 3
    assert guest.vm.stats.table_pages == tables + 3


@pytest.mark.kvm_row(11)
def test_read_of_a_missing_page_joins_its_neighbours_to_a_block() -> None:
    guest = split_guest(0)
    guest.set_flags(LOG)
    guest.run(store(RAM + 5 * SIZE_4K, PERMISSION, level=2))
    guest.set_flags(0)
    guest.run(load(RAM + 6 * SIZE_4K))
    assert leaf_of(guest, 5) == leaf_of(guest, 6)
    assert leaf_of(guest, 6).level == 2


# --- capabilities ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [SIZE_4K * 2, SIZE_4K | SIZE_2M, SIZE_2M - 1, -SIZE_2M, 1 << 40])
@pytest.mark.kvm_row(14)
def test_chunk_that_is_no_block_is_refused(value: int) -> None:
    vm = FakeMachine().vm()
    refused(vm, value, "no block has")
    assert vm.check_extension(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE) == 0


@pytest.mark.kvm_row(14)
def test_chunk_is_set_before_there_are_slots() -> None:
    vm = FakeMachine().vm()
    for value in (SIZE_4K, SIZE_2M, SIZE_1G, 0, SIZE_2M):
        vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, value)
        assert vm.check_extension(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE) == value
    hva = vm.host.mmap(SIZE_4K)
    vm.set_user_memory_region(MemoryRegion(0, 0, RAM, SIZE_4K, hva))
    refused(vm, SIZE_1G, "1 memory slots exist")
    vm.set_user_memory_region(MemoryRegion(0, 0, RAM, 0, hva))
    vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, SIZE_1G)


def refused(vm: VM, value: int, text: str) -> None:
    error = refusal(lambda: vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, value), vm)
    assert error.errno is Errno.EINVAL
    assert text in error.message


def test_extensions_tell_what_there_is() -> None:
    vm = FakeMachine().vm()
    values = {
        Cap.NR_MEMSLOTS: 32767,
        Cap.MANUAL_DIRTY_LOG_PROTECT2: 3,
        Cap.DIRTY_LOG_RING_ACQ_REL: 65536 * 16,
        Cap.ARM_SUPPORTED_BLOCK_SIZES: SUPPORTED_BLOCK_SIZES,
        Cap.ARM_VM_IPA_SIZE: 44,
        Cap.GUEST_MEMFD_FLAGS: 3,
    }
    assert {cap: vm.check_extension(cap) for cap in values} == values
    assert vm.check_extension(9999) == 0


def test_capability_that_cannot_be_enabled_is_named() -> None:
    for cap in (Cap.NR_MEMSLOTS, 9999):
        vm = FakeMachine().vm()
        error = refusal(lambda cap=cap, vm=vm: vm.enable_cap(cap), vm)  # type: ignore[misc]  # early
        assert error.errno is Errno.EINVAL
        assert "MANUAL_DIRTY_LOG_PROTECT2 (168)" in error.message
