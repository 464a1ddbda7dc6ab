"""Two fault handlers on one page table: the second runs between any two operations of the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from emu.arch.address import IPA, PA, PAGE_SIZE
from hyp.errors import Errno
from hyp.host import SIZE_2M, SIZE_4K
from hyp.memcache import MemoryCache
from hyp.pte import (
    PTE_AF,
    PTE_LOCKED,
    Prot,
    pte_prot,
    pte_to_phys,
    pte_valid,
)
from hyp.walker import FAULT_WALK
from tests.hyp.fake_machine import NEW_CPU
from tests.hyp.stage2 import OUTPUT, Stage2, entry_address, make_stage2

pytestmark = pytest.mark.kvm_row(9)

ADDR = 0x4000_0000
R, RW, RWX = Prot.R, Prot.R | Prot.W, Prot.R | Prot.W | Prot.X
OTHER = OUTPUT + SIZE_2M
BLOCK: Final = "map the block"
POINTS: Final = [*range(40), *range(40, 2000, 701)]
"""Every operation of a handler; of the many that free a table, some."""

Step = Callable[[Stage2, MemoryCache], Errno]


def mapping(size: int, phys: int, prot: Prot = RW, addr: int = ADDR) -> Step:
    def step(s2: Stage2, cache: MemoryCache) -> Errno:
        return s2.pgt.map(IPA(addr), size, PA(phys), prot, cache)

    return step


def relax(s2: Stage2, _cache: MemoryCache) -> Errno:
    return s2.pgt.relax_perms(IPA(ADDR), RWX)


def split(s2: Stage2, cache: MemoryCache) -> Errno:
    return s2.pgt.split(IPA(ADDR), SIZE_2M, cache, FAULT_WALK)


def mkyoung(s2: Stage2, _cache: MemoryCache) -> Errno:
    return s2.pgt.mkyoung(IPA(ADDR))


def nothing(_s2: Stage2, _cache: MemoryCache) -> Errno:
    return Errno.OK


def old_page(s2: Stage2, cache: MemoryCache) -> Errno:
    """Map a page and take its access flag."""
    error = s2.pgt.map(IPA(ADDR), SIZE_4K, OUTPUT, R, cache)
    s2.pgt.test_clear_young(IPA(ADDR), SIZE_4K, mkold=True)
    return error


BEFORE: Final[dict[str, Step]] = {
    "nothing": nothing,
    "an old page": old_page,
    "another page": mapping(SIZE_4K, OTHER),
    "a neighbour": mapping(SIZE_4K, OUTPUT + SIZE_4K, addr=ADDR + SIZE_4K),
    "a block": mapping(SIZE_2M, OUTPUT, R),
}
STEPS: Final[dict[str, Step]] = {
    "map the page": mapping(SIZE_4K, OUTPUT, R),
    "map another page": mapping(SIZE_4K, OTHER),
    BLOCK: mapping(SIZE_2M, OUTPUT),
    "relax": relax,
    "make young": mkyoung,
    "split": split,
}


def prepared(before: str) -> tuple[Stage2, MemoryCache, MemoryCache]:
    """Return a page table, and full caches for both handlers."""
    s2 = make_stage2(NEW_CPU, memory_size=1 << 20)
    caches = MemoryCache(s2.frames), MemoryCache(s2.frames)
    for cache in caches:
        cache.topup(3)
    BEFORE[before](s2, caches[1])
    return s2, *caches


def interrupted(
    s2: Stage2, victim: Callable[[], Errno], at: int, rival: Callable[[], Errno]
) -> tuple[Errno, Errno] | None:
    """Run ``rival`` before operation ``at`` of ``victim``; ``None`` if it has not so many."""
    count = 0
    answer: Errno | None = None

    def before(*_: object) -> None:
        nonlocal count, answer
        if count == at:
            s2.pgt.descriptors.observe(None)
            answer = rival()
            s2.pgt.descriptors.observe(before)
        count += 1

    s2.pgt.descriptors.observe(before)
    error = victim()
    s2.pgt.descriptors.observe(None)
    return None if answer is None else (error, answer)


def references_are_right(s2: Stage2) -> None:
    for page, count in s2.pages.counts.items():
        words = memoryview(s2.memory.read(PA(page), PAGE_SIZE)).cast("Q").tolist()
        assert count == 1 + len(words) - words.count(0)
        assert PTE_LOCKED not in words


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("second", STEPS)
@pytest.mark.parametrize("first", STEPS)
def test_whatever_comes_between_the_tables_stay_whole(before: str, first: str, second: str) -> None:
    for at in POINTS:
        s2, cache, rivals = prepared(before)
        victim, rival = partial(STEPS[first], s2, cache), partial(STEPS[second], s2, rivals)
        errors = interrupted(s2, victim, at, rival)
        if errors is None:
            return
        assert set(errors) <= {Errno.OK, Errno.EAGAIN}
        assert s2.pgt.rcu.readers == 0
        references_are_right(s2)
        # The guest faults again: now the mapping is there, or is made.
        assert victim() in (Errno.OK, Errno.EAGAIN)
        if first.startswith("map"):
            leaf = s2.pgt.get_leaf(IPA(ADDR))
            assert pte_valid(leaf.pte)
            assert pte_to_phys(leaf.pte) == (OTHER if "another" in first else OUTPUT)
        for spare in (cache, rivals):
            spare.free()
        s2.pgt.destroy()
        assert s2.frames.allocated == 0


@pytest.mark.kvm_row(8, 9)
def test_two_handlers_of_one_page_make_one_mapping() -> None:
    step = STEPS["map the page"]
    for at in POINTS:
        s2, cache, rivals = prepared("nothing")
        if interrupted(s2, partial(step, s2, cache), at, partial(step, s2, rivals)) is None:
            break
        pte, level = s2.pgt.get_leaf(IPA(ADDR))
        assert (pte_to_phys(pte), level, pte_prot(pte)) == (OUTPUT, 3, R)
        assert s2.stats.table_pages == 2 + 2
        assert s2.pages.page_count(entry_address(s2, ADDR, 3)) == 1 + 1
    assert at > 6, "a read at each level, and a lock and a store for each of three entries"


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in STEPS if name not in {BLOCK, "split"}])
def test_an_entry_that_somebody_else_has_locked_is_left_to_him(name: str, level: int) -> None:
    s2, cache, _ = prepared("an old page")
    ptep = entry_address(s2, ADDR, level)
    old = s2.memory.read_u64(ptep)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    assert STEPS[name](s2, cache) is Errno.EAGAIN
    assert s2.memory.read_u64(ptep) == PTE_LOCKED
    s2.memory.invalidated()
    s2.memory.write_u64(ptep, old)
    references_are_right(s2)


@pytest.mark.parametrize("level", [1, 2])
def test_a_block_takes_the_place_of_a_table_with_locked_entries_but_of_no_locked_table(
    level: int,
) -> None:
    s2, cache, _ = prepared("an old page")
    s2.memory.write_u64(entry_address(s2, ADDR, 3), PTE_LOCKED)
    assert STEPS[BLOCK](s2, cache) is Errno.OK
    ptep = entry_address(s2, ADDR, level)
    s2.memory.write_u64(ptep, PTE_LOCKED)
    assert STEPS[BLOCK](s2, cache) is Errno.EAGAIN
    assert s2.memory.read_u64(ptep) == PTE_LOCKED


@pytest.mark.kvm_row(56)
def test_a_walker_that_was_overtaken_stands_in_a_table_that_is_freed_only_behind_it() -> None:
    s2, cache, rivals = prepared("a neighbour")
    table = entry_address(s2, ADDR, 3)
    seen: list[bool] = []

    def collapse() -> Errno:
        error = STEPS[BLOCK](s2, rivals)
        seen.append(table in s2.pages.counts)
        return error

    # Its third read is the first in the last table.
    victim = partial(mapping(SIZE_4K, OUTPUT + SIZE_4K, addr=ADDR + SIZE_4K), s2, cache)
    assert interrupted(s2, victim, 2, collapse) == (Errno.EAGAIN, Errno.OK)
    assert seen == [True]
    assert table not in s2.pages.counts
    assert s2.pgt.get_leaf(IPA(ADDR)).level == 2
    references_are_right(s2)


def test_the_access_flag_that_hardware_sets_meanwhile_is_not_lost() -> None:
    s2, cache, _ = prepared("an old page")
    ptep = entry_address(s2, ADDR, 3)
    old = s2.memory.read_u64(ptep)

    def hardware() -> Errno:
        s2.memory.write_u64(ptep, old | PTE_AF)
        return Errno.OK

    assert interrupted(s2, partial(relax, s2, cache), 3, hardware) == (Errno.EAGAIN, Errno.OK)
    assert s2.memory.read_u64(ptep) == old | PTE_AF
