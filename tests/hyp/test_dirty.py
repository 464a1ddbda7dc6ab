"""Dirty logging: the bitmap, and KVM_GET_DIRTY_LOG."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultType
from hyp.dirty import DirtyBitmap, dirty_pages, mask_range
from hyp.errors import Errno, KvmError
from hyp.host import SIZE_4K
from hyp.memslots import KVM_MEM_SLOTS_NUM, MemoryRegionFlags
from hyp.pte import Prot, pte_prot
from tests.hyp.fake_machine import NEW_CPU, RAM, Guest, load, make_guest, store

LOG = MemoryRegionFlags.LOG_DIRTY_PAGES
FAULT = FaultType.PERMISSION


@given(st.sets(st.integers(0, 199)))
def test_bitmap_holds_what_was_marked(pages: set[int]) -> None:
    bitmap = DirtyBitmap(200)
    for page in pages:
        bitmap.set(page)
    copied = bitmap.copy()
    assert len(copied) == 32, "whole 64-bit words"
    assert set(dirty_pages(copied)) == pages
    assert all(bitmap.test(page) == (page in pages) for page in range(200))
    taken = {first + n for first, mask in bitmap.take_words() for n in range(64) if mask >> n & 1}
    assert taken == pages
    assert not any(bitmap.copy())


def test_bitmap_of_one_page_is_one_word() -> None:
    assert DirtyBitmap(1).copy() == bytes(8)


@pytest.mark.parametrize(("mask", "first", "last"), [(1, 0, 0), (1 << 63, 63, 63), (0x90, 4, 7)])
def test_mask_covers_from_its_first_to_its_last_bit(mask: int, first: int, last: int) -> None:
    assert mask_range(mask) == (first, last)


def prot_of(guest: Guest, page: int) -> Prot:
    return pte_prot(guest.vm.pgt.get_leaf(IPA(RAM + page * SIZE_4K)).pte)


def write(guest: Guest, *pages: int) -> None:
    guest.run(*(store(RAM + page * SIZE_4K) for page in pages))


@pytest.fixture
def guest() -> Guest:
    return make_guest(flags=LOG)


@pytest.mark.kvm_row(17)
def test_get_returns_each_write_once(guest: Guest) -> None:
    write(guest, 3, 70, 1024)
    assert list(dirty_pages(guest.vm.get_dirty_log(0))) == [3, 70, 1024]
    assert list(dirty_pages(guest.vm.get_dirty_log(0))) == []


@pytest.mark.kvm_row(17)
def test_get_protects_the_pages_again_so_that_the_next_write_is_seen(guest: Guest) -> None:
    write(guest, 3)
    guest.vm.get_dirty_log(0)
    assert prot_of(guest, 3) == Prot.R
    guest.run(store(RAM + 3 * SIZE_4K, FAULT))
    assert list(dirty_pages(guest.vm.get_dirty_log(0))) == [3]


def test_get_protects_one_range_a_word_clean_pages_between_included(guest: Guest) -> None:
    write(guest, 3, 7)
    guest.vm.get_dirty_log(0)
    write(guest, 5)
    write(guest, 70)
    guest.run(store(RAM + 3 * SIZE_4K, FAULT), store(RAM + 7 * SIZE_4K, FAULT))
    guest.vm.get_dirty_log(0)
    assert prot_of(guest, 5) == Prot.R
    assert prot_of(guest, 70) == Prot.R


def test_get_without_writes_protects_and_flushes_nothing(guest: Guest) -> None:
    guest.run(load(RAM))
    guest.pe.log.clear()
    assert not any(guest.vm.get_dirty_log(0))
    assert guest.pe.log == []


def test_get_flushes_the_slot_once() -> None:
    guest = make_guest(NEW_CPU, flags=LOG)
    write(guest, 3, 70, 1024)
    guest.pe.log.clear()
    guest.vm.get_dirty_log(0)
    assert guest.pe.names() == ["RIPAS2E1IS", "VMALLE1IS"]


def test_slot_without_bitmap_is_enoent() -> None:
    guest = make_guest()
    for slot in (0, 5):
        with pytest.raises(KvmError, match="LOG_DIRTY_PAGES") as caught:
            guest.vm.get_dirty_log(slot)
        assert caught.value.errno is Errno.ENOENT


def test_impossible_slot_number_is_einval(guest: Guest) -> None:
    with pytest.raises(KvmError) as caught:
        guest.vm.get_dirty_log(KVM_MEM_SLOTS_NUM)
    assert caught.value.errno is Errno.EINVAL
