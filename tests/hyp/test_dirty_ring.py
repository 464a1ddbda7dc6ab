"""Dirty rings: entries by fault, the soft limit, harvest and reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultType
from hyp.capabilities import Cap
from hyp.dirty import dirty_pages
from hyp.dirty_ring import (
    COALESCED_PAGES,
    ENTRY_SIZE,
    MAX_ENTRIES,
    RESERVED_ENTRIES,
    DirtyGfnFlags,
    DirtyRing,
    ResetMask,
    RingReader,
)
from hyp.errors import Errno
from hyp.exits import DirtyRingFull, Intr
from hyp.host import SIZE_4K
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.pte import Prot, pte_prot
from tests.hyp.fake_machine import RAM, FakeMachine, Guest, store
from tests.hyp.observable import refusal

if TYPE_CHECKING:
    from hyp.vm import VM

LOG = MemoryRegionFlags.LOG_DIRTY_PAGES
PERMISSION = FaultType.PERMISSION
SMALL = 4096
"""The smallest ring: 256 entries, full with 192."""
LIMIT = SMALL // ENTRY_SIZE - RESERVED_ENTRIES


def ring_guest(*, bitmap: bool = True, pe_count: int = 1, size: int = 4 << 20) -> Guest:
    machine = FakeMachine(pe_count=pe_count)
    vm = machine.vm()
    vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, SMALL)
    if bitmap:
        vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
    vcpus = [vm.create_vcpu(index) for index in range(pe_count)]
    for vcpu in vcpus:
        vcpu.init()
    hva = vm.host.mmap(size)
    guest = Guest(machine, vm, vcpus[0], hva)
    vm.set_user_memory_region(MemoryRegion(0, LOG, RAM, size, hva))
    return guest


def ring_of(guest: Guest, index: int = 0) -> DirtyRing:
    ring = guest.vm.vcpus[index].dirty_ring
    assert ring is not None
    return ring


def write(guest: Guest, *pages: int, fault: FaultType = FaultType.TRANSLATION) -> None:
    guest.run(*(store(RAM + page * SIZE_4K, fault) for page in pages))


def prot_of(guest: Guest, page: int) -> Prot:
    return pte_prot(guest.vm.pgt.get_leaf(IPA(RAM + page * SIZE_4K)).pte)


@pytest.mark.kvm_row(20)
def test_entries_are_the_pages_in_the_order_of_their_first_write() -> None:
    guest = ring_guest()
    write(guest, 7, 3, 900)
    reader = RingReader(ring_of(guest))
    assert reader.harvest() == [(0, 7), (0, 3), (0, 900)]
    assert reader.harvest() == []
    assert not any(guest.vm.get_dirty_log(0)), "a vCPU's writes are in its ring, not the bitmap"


@pytest.mark.kvm_row(20)
def test_reset_counts_what_was_harvested_and_protects_it_again() -> None:
    guest = ring_guest()
    write(guest, 3, 7)
    reader = RingReader(ring_of(guest))
    reader.harvest()
    write(guest, 100)
    flushes = guest.vm.stats.tlb_flushes["vmid"]
    assert guest.vm.reset_dirty_rings() == 2
    assert guest.vm.stats.tlb_flushes["vmid"] == flushes + 1
    assert prot_of(guest, 3) == prot_of(guest, 7) == Prot.R
    assert prot_of(guest, 100) == Prot.R | Prot.W, "it was not harvested"
    write(guest, 7, fault=PERMISSION)
    assert reader.harvest() == [(0, 100), (0, 7)]


def test_reset_of_nothing_flushes_nothing() -> None:
    guest = ring_guest()
    write(guest, 3)
    guest.pe.log.clear()
    assert guest.vm.reset_dirty_rings() == 0
    assert guest.pe.log == []


@pytest.mark.kvm_row(20)
def test_full_ring_keeps_the_vcpu_out_of_the_guest_until_it_is_reset() -> None:
    guest = ring_guest()
    stores = [store(RAM + page * SIZE_4K) for page in range(LIMIT + 1)]
    assert guest.run(*stores) == DirtyRingFull()
    assert ring_of(guest).used == LIMIT
    assert guest.run() == DirtyRingFull(), "and again, while nothing was reset"
    retired = guest.pe.retired
    reader = RingReader(ring_of(guest))
    assert len(reader.harvest()) == LIMIT
    assert guest.run() == DirtyRingFull(), "harvested is not reset"
    assert guest.pe.retired == retired
    assert guest.vm.reset_dirty_rings() == LIMIT
    assert isinstance(guest.run(), Intr)
    assert reader.harvest() == [(0, LIMIT)]


def test_each_vcpu_has_its_own_ring() -> None:
    guest = ring_guest(pe_count=2)
    write(guest, 1)
    guest.machine.pes[1].guest.append(store(RAM + 2 * SIZE_4K))
    guest.vm.vcpus[1].run(10)
    readers = [RingReader(ring_of(guest, index)) for index in (0, 1)]
    assert [reader.harvest() for reader in readers] == [[(0, 1)], [(0, 2)]]
    assert guest.vm.reset_dirty_rings() == 2


def test_writer_without_a_vcpu_marks_the_bitmap() -> None:
    guest = ring_guest()
    slot = guest.vm.memslots.find(RAM >> 12)
    assert slot is not None
    guest.vm.dirty_log.mark_page_dirty_in_slot(slot, slot.base_gfn + 5, None)
    assert list(dirty_pages(guest.vm.get_dirty_log(0))) == [5]


def test_reset_of_a_deleted_slots_entries_is_harmless() -> None:
    guest = ring_guest()
    write(guest, 3)
    RingReader(ring_of(guest)).harvest()
    guest.vm.set_user_memory_region(MemoryRegion(0, 0, RAM, 0, guest.hva))
    assert guest.vm.reset_dirty_rings() == 1


def test_without_bitmap_the_log_cannot_be_read_nor_cleared() -> None:
    guest = ring_guest(bitmap=False)
    write(guest, 3)
    for call in (
        lambda: guest.vm.get_dirty_log(0),
        lambda: guest.vm.clear_dirty_log(0, 0, 64, bytes(8)),
        # That comes before all other reasons.
        lambda: guest.vm.get_dirty_log(-1),
        lambda: guest.vm.clear_dirty_log(-1, 0, 64, bytes(8)),
        lambda: guest.vm.clear_dirty_log(0, 1, 64, bytes(8)),
    ):
        error = refusal(call, guest)
        assert error.errno is Errno.ENXIO
        assert "harvest them" in error.message
    slot = guest.vm.memslots.find(RAM >> 12)
    assert slot is not None
    assert slot.dirty_bitmap is None


@pytest.mark.parametrize(
    ("size", "errno"),
    [
        (0, Errno.EINVAL),
        (-SMALL, Errno.EINVAL),
        (SMALL // 2, Errno.EINVAL),
        (SMALL * 3, Errno.EINVAL),
        (MAX_ENTRIES * ENTRY_SIZE * 2, Errno.E2BIG),
    ],
)
@pytest.mark.kvm_row(20)
def test_impossible_ring_size_is_refused(size: int, errno: Errno) -> None:
    vm = FakeMachine().vm()
    error = refusal(lambda: vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, size), vm)
    assert error.errno is errno


def refused(vm: VM, cap: Cap, value: int, text: str) -> None:
    error = refusal(lambda: vm.enable_cap(cap, value), vm)
    assert error.errno is Errno.EINVAL
    assert text in error.message


@pytest.mark.kvm_row(20)
def test_rings_are_set_up_once_and_before_vcpus_and_slots() -> None:
    vm = FakeMachine().vm()
    refused(vm, Cap.DIRTY_LOG_RING_WITH_BITMAP, 0, "enable DIRTY_LOG_RING_ACQ_REL first")
    error = refusal(vm.reset_dirty_rings, vm)
    assert error.errno is Errno.EINVAL
    assert "no dirty ring" in error.message
    vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, SMALL)
    refused(vm, Cap.DIRTY_LOG_RING_ACQ_REL, SMALL, "keep them")
    vm.set_user_memory_region(MemoryRegion(0, 0, RAM, SIZE_4K, vm.host.mmap(SIZE_4K)))
    refused(vm, Cap.DIRTY_LOG_RING_WITH_BITMAP, 0, "1 memory slots exist")
    late = FakeMachine().vm()
    late.create_vcpu(0)
    refused(late, Cap.DIRTY_LOG_RING_ACQ_REL, SMALL, "before create_vcpu")


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 300)), max_size=150))
def test_reset_masks_hold_each_harvested_page_and_no_other(pages: list[tuple[int, int]]) -> None:
    ring = DirtyRing(SMALL)
    for slot, offset in pages:
        ring.push(slot, offset)
    assert RingReader(ring).harvest() == pages
    masks = list(ring.reset())
    held = {(slot, offset + n) for slot, offset, mask in masks for n in range(64) if mask >> n & 1}
    assert held == set(pages)
    assert all(mask & 1 and mask < 1 << COALESCED_PAGES for _, _, mask in masks)
    assert ring.used == 0
    assert all(entry.flags == DirtyGfnFlags(0) for entry in ring.entries)


@pytest.mark.parametrize(
    ("offsets", "masks"),
    [
        ([5, 6, 68], [ResetMask(0, 5, 3 | 1 << 63)]),
        ([5, 69], [ResetMask(0, 5, 1), ResetMask(0, 69, 1)]),
        ([68, 5], [ResetMask(0, 5, 1 | 1 << 63)]),
        ([69, 5], [ResetMask(0, 69, 1), ResetMask(0, 5, 1)]),
        ([40, 80, 20], [ResetMask(0, 20, 1 | 1 << 20 | 1 << 60)]),
        ([40, 80, 16], [ResetMask(0, 40, 1 | 1 << 40), ResetMask(0, 16, 1)]),
    ],
)
def test_neighbours_within_64_pages_are_reset_together(
    offsets: list[int], masks: list[ResetMask]
) -> None:
    ring = DirtyRing(SMALL)
    for offset in offsets:
        ring.push(0, offset)
    RingReader(ring).harvest()
    assert list(ring.reset()) == masks
