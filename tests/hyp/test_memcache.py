"""The cache of pages for tables, and their reference counts."""

from __future__ import annotations

import pytest

from emu.arch.address import PA
from emu.memory import PhysicalMemory
from hyp.errors import Errno
from hyp.frames import FrameAllocator
from hyp.host import SIZE_4K
from hyp.memcache import CAPACITY, MemoryCache
from hyp.stats import Stats
from hyp.tablepages import TablePages


def make(pages: int = 64) -> tuple[FrameAllocator, MemoryCache]:
    frames = FrameAllocator(PhysicalMemory(PA(0x8_0000_0000), pages * SIZE_4K))
    return frames, MemoryCache(frames)


def test_topup_fills_to_capacity() -> None:
    _, cache = make()
    assert cache.topup(2) is Errno.OK
    assert len(cache) == CAPACITY == 40


@pytest.mark.kvm_row(49)
def test_topup_does_nothing_while_the_minimum_is_there() -> None:
    frames, cache = make(128)
    cache.topup(2)
    for _ in range(CAPACITY - 2):
        cache.take()
    before = frames.allocated
    assert cache.topup(2) is Errno.OK
    assert frames.allocated == before
    assert cache.topup(3) is Errno.OK
    assert len(cache) == CAPACITY


@pytest.mark.parametrize(("pages", "minimum", "result"), [(2, 2, Errno.OK), (1, 2, Errno.ENOMEM)])
def test_topup_fails_only_below_the_minimum(pages: int, minimum: int, result: Errno) -> None:
    _, cache = make(pages)
    assert cache.topup(minimum) is result
    assert len(cache) == pages


def test_empty_cache_gives_none() -> None:
    _, cache = make()
    assert cache.take() is None


def test_freed_cache_gives_all_pages_back() -> None:
    frames, cache = make()
    cache.topup(1)
    cache.free()
    assert len(cache) == 0
    assert frames.allocated == 0


def test_table_page_lives_as_long_as_its_references() -> None:
    frames, cache = make()
    cache.topup(1)
    stats = Stats()
    pages = TablePages(frames, stats)
    page = pages.zalloc_page(cache)
    assert page is not None
    pages.get_page(page + 8 * 5)
    assert pages.page_count(page) == 2
    pages.put_page(page + 8 * 5)
    assert stats.table_pages == 1
    pages.put_page(page)
    assert stats.table_pages == 0
    assert pages.counts == {}


def test_references_on_a_page_that_is_no_table_change_nothing() -> None:
    frames, cache = make()
    cache.topup(1)
    stats = Stats()
    pages = TablePages(frames, stats)
    page = frames.require(SIZE_4K, "somebody else")
    before = frames.allocated
    pages.put_page(page)
    pages.get_page(page)
    pages.put_page(page)
    assert (pages.counts, stats.table_pages, frames.allocated) == ({}, 0, before)


def test_no_table_page_without_a_cached_page() -> None:
    frames, cache = make()
    stats = Stats()
    assert TablePages(frames, stats).zalloc_page(cache) is None
    assert stats.table_pages == 0
