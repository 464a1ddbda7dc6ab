"""Eager splitting: blocks become pages that map the same, as far as spare tables go."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, PA
from hyp.errors import Errno
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K
from hyp.memcache import MemoryCache
from hyp.pte import PTE_LOCKED, PTE_VALID, Prot, pte_prot, pte_to_phys
from hyp.splitting import create_unlinked
from tests.hyp.fake_machine import NEW_CPU
from tests.hyp.stage2 import OUTPUT, Stage2, entry_address, make_stage2

ADDR = 0x4000_0000
RX = Prot.R | Prot.X


class Budget(MemoryCache):
    """A cache that holds exactly as many pages as a test says."""

    def __init__(self, s2: Stage2, pages: int) -> None:
        super().__init__(s2.frames)
        self._pages = [s2.frames.require(SIZE_4K, "the test") for _ in range(pages)]


@pytest.fixture
def s2() -> Stage2:
    return make_stage2(NEW_CPU)


def give_up(s2: Stage2, budget: Budget) -> None:
    """End a test: all that was taken is given back."""
    budget.free()
    s2.memcache.free()
    s2.pgt.destroy()
    assert s2.stats.table_pages == 0
    assert s2.frames.allocated == 0


@pytest.mark.kvm_row(13)
@pytest.mark.parametrize("prot", [Prot.R, RX, Prot.R | Prot.W, Prot.R | Prot.W | Prot.DEVICE])
def test_split_keeps_output_permissions_and_memory_type(s2: Stage2, prot: Prot) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, prot)
    budget = Budget(s2, 1)
    assert s2.pgt.split(IPA(ADDR), SIZE_2M, budget) is Errno.OK
    for page in (0, 1, 511):
        pte, level = s2.pgt.get_leaf(IPA(ADDR + page * SIZE_4K))
        assert (level, pte_to_phys(pte), pte_prot(pte)) == (3, OUTPUT + page * SIZE_4K, prot)
    assert s2.pages.page_count(entry_address(s2, ADDR, 3)) == 1 + 512
    give_up(s2, budget)


@pytest.mark.kvm_row(13)
def test_split_breaks_the_block_and_touches_no_cache(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, RX)
    ptep = entry_address(s2, ADDR, 2)
    s2.pe.log.clear()
    s2.memory.stores.clear()
    s2.pgt.split(IPA(ADDR), SIZE_2M, Budget(s2, 1))
    assert s2.pe.names() == ["IPAS2E1IS", "VMALLE1IS"]
    assert [new & PTE_VALID or new for at, _, new in s2.memory.stores if at == ptep] == [
        PTE_LOCKED,
        PTE_VALID,
    ]


def test_513_tables_turn_a_gigabyte_into_pages_at_once(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_1G, OUTPUT, RX)
    budget = Budget(s2, 513)
    s2.pe.log.clear()
    assert s2.pgt.split(IPA(ADDR), SIZE_1G, budget) is Errno.OK
    assert len(budget) == 0
    assert s2.pe.names() == ["IPAS2E1IS", "VMALLE1IS"], "one block is broken, and no more"
    pte, level = s2.pgt.get_leaf(IPA(ADDR + SIZE_1G - SIZE_4K))
    assert (level, pte_to_phys(pte)) == (3, OUTPUT + SIZE_1G - SIZE_4K)
    give_up(s2, budget)


def test_fewer_tables_split_a_gigabyte_step_by_step(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_1G, OUTPUT, RX)
    budget = Budget(s2, 3)
    assert s2.pgt.split(IPA(ADDR), SIZE_1G, budget) is Errno.ENOMEM
    levels = [s2.pgt.get_leaf(IPA(ADDR + block * SIZE_2M)).level for block in range(4)]
    assert levels == [3, 3, 2, 2], "one table for the gigabyte, two for its first blocks"
    budget.topup(1)
    assert s2.pgt.split(IPA(ADDR), 4 * SIZE_2M, budget) is Errno.OK
    levels = [s2.pgt.get_leaf(IPA(ADDR + block * SIZE_2M)).level for block in range(5)]
    assert levels == [3, 3, 3, 3, 2]
    give_up(s2, budget)


def test_split_without_a_table_changes_nothing(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_2M, OUTPUT, RX)
    s2.memory.stores.clear()
    s2.pe.log.clear()
    assert s2.pgt.split(IPA(ADDR), SIZE_2M, Budget(s2, 0)) is Errno.ENOMEM
    assert s2.memory.stores == []
    assert s2.pe.log == []


def test_pages_and_holes_need_no_table(s2: Stage2) -> None:
    s2.map(ADDR, SIZE_4K, OUTPUT, RX)
    s2.memory.stores.clear()
    assert s2.pgt.split(IPA(ADDR), SIZE_1G, Budget(s2, 0)) is Errno.OK
    assert s2.memory.stores == []


def test_split_leaves_a_block_alone_that_only_touches_the_range(s2: Stage2) -> None:
    s2.map(ADDR, 2 * SIZE_2M, OUTPUT, RX)
    budget = Budget(s2, 2)
    s2.pgt.split(IPA(ADDR), SIZE_2M, budget)
    assert s2.pgt.get_leaf(IPA(ADDR + SIZE_2M)).level == 2
    assert len(budget) == 1


@pytest.mark.parametrize(
    ("phys", "prot", "budget", "error"),
    [
        (OUTPUT + SIZE_4K, RX, 1, Errno.EINVAL),
        (OUTPUT, RX | Prot.DEVICE, 1, Errno.EINVAL),
        (OUTPUT, RX, 0, Errno.ENOMEM),
    ],
)
def test_unlinked_table_that_cannot_be_built(
    s2: Stage2, phys: int, prot: Prot, budget: int, error: Errno
) -> None:
    cache = Budget(s2, budget)
    found = create_unlinked(s2.pgt, PA(phys), 2, prot, cache, force_pte=True)
    assert found is error
    assert len(cache) == budget


def test_unlinked_tables_that_are_too_few_are_all_given_back(s2: Stage2) -> None:
    tables = s2.stats.table_pages
    found = create_unlinked(s2.pgt, OUTPUT, 1, RX, Budget(s2, 3), force_pte=True)
    assert found is Errno.ENOMEM
    assert s2.stats.table_pages == tables
