"""Dirty logging: the bitmap, and KVM_GET_DIRTY_LOG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultType
from hyp.dirty import DirtyBitmap, DirtyWords, dirty_pages
from hyp.errors import Errno, KvmError
from hyp.host import SIZE_4K
from hyp.memslots import KVM_MEM_SLOTS_NUM, MemoryRegionFlags
from hyp.pte import Prot, pte_prot
from tests.hyp.fake_machine import NEW_CPU, RAM, Guest, load, make_guest, store

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    taken = bitmap.take()
    assert bool(taken) == bool(pages)
    assert bits_of(taken) == pages
    assert not any(bitmap.copy())


@given(st.sets(st.integers(0, 199)), st.sets(st.integers(0, 127)))
def test_clear_takes_only_bits_that_are_set_and_asked_for(dirty: set[int], asked: set[int]) -> None:
    bitmap = DirtyBitmap(200)
    for page in dirty:
        bitmap.set(page)
    cleared = bitmap.clear(64, bitmap_of(asked, 128))
    expected = dirty & {page + 64 for page in asked}
    assert bits_of(cleared) == expected
    assert set(dirty_pages(bitmap.copy())) == dirty - expected


@given(st.sets(st.integers(0, 199)))
def test_pages_of_words_are_one_range_a_word(pages: set[int]) -> None:
    bitmap = DirtyBitmap(200)
    for page in pages:
        bitmap.set(page)
    words = {page // 64: [p for p in pages if p // 64 == page // 64] for page in pages}
    ranges = [(min(bits), max(bits) - min(bits) + 1) for _, bits in sorted(words.items())]
    taken = bitmap.take()
    assert list(taken.ranges()) == ranges
    assert list(taken.pages()) == [page for first, n in ranges for page in range(first, first + n)]


@pytest.mark.parametrize("npages", [1, 63, 64, 65, 200])
def test_set_all_marks_every_page_and_nothing_behind_the_last(npages: int) -> None:
    bitmap = DirtyBitmap(npages)
    bitmap.set_all()
    assert list(dirty_pages(bitmap.copy())) == list(range(npages))


def test_bitmap_of_one_page_is_one_word() -> None:
    assert DirtyBitmap(1).copy() == bytes(8)


def bits_of(words: DirtyWords) -> set[int]:
    at = zip(words.position.tolist(), words.mask.tolist(), strict=True)
    return {position * 64 + n for position, mask in at for n in range(64) if mask >> n & 1}


def bitmap_of(pages: Iterable[int], npages: int) -> bytes:
    return sum(1 << page for page in pages).to_bytes(-(-npages // 64) * 8, "little")


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
