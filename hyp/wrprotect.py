"""Taking the right to write from many pages at once.

A dirty log may name hundreds of thousands of pages all over a slot. The tables are
walked for all of them together, a level at a time. KVM holds the MMU lock for
writing here, so nobody else walks in between, and a permission may be taken in
place: the caller flushes the TLB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA, PAGE_SHIFT, PAGE_SIZE
from hyp.pte import GRANULE_SHIFT, LAST_LEVEL, PTE_ADDR, PTE_TABLE, PTE_VALID, PTE_W, PTRS_PER_PTE

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory
    from hyp.dirty import DirtyWords, Indices
    from hyp.pgtable import Stage2PageTable


def wrprotect_words(
    pgt: Stage2PageTable, memory: PhysicalMemory, base_gfn: int, words: DirtyWords
) -> None:
    """Take the right to write from the pages of a bitmap, one range a word.

    Parameters
    ----------
    pgt
        The page table.
    memory
        Where it lies.
    base_gfn, words
        The pages, and what their numbers count from. A block that holds one of them is
        protected as a whole.
    """
    if pgt.descriptors.observed:
        for first, count in words.ranges():
            pgt.wrprotect(IPA((base_gfn + first) << PAGE_SHIFT), count << PAGE_SHIFT)
    elif pgt.pgd is not None:
        _wrprotect_at_once(pgt, memory, words.pages() + base_gfn)


def _wrprotect_at_once(pgt: Stage2PageTable, memory: PhysicalMemory, gfn: Indices) -> None:
    import numpy as np  # noqa: PLC0415  # start-up time

    assert pgt.pgd is not None
    words = np.frombuffer(memory.writable_view(memory.base, memory.size), "<u8")
    # Where the entries are, counted in words of memory.
    at = (pgt.pgd - memory.base >> 3) + (gfn >> GRANULE_SHIFT[pgt.geometry.start_level] - 12)
    for level in range(pgt.geometry.start_level, LAST_LEVEL + 1):
        entries = words[at]
        is_table = (
            entries & np.uint64(PTE_TABLE) == np.uint64(PTE_TABLE)
            if level < LAST_LEVEL
            else np.zeros(at.size, bool)
        )
        is_leaf = (entries & np.uint64(PTE_VALID) != 0) & ~is_table
        words[at[is_leaf]] = entries[is_leaf] & np.uint64(~PTE_W & 0xFFFF_FFFF_FFFF_FFFF)
        for page in np.unique(at[is_leaf] >> PAGE_SHIFT - 3).tolist():
            memory.wrote(PA(memory.base + (page << PAGE_SHIFT)), PAGE_SIZE)
        if level == LAST_LEVEL:
            return
        gfn = gfn[is_table]
        tables = (entries[is_table] & np.uint64(PTE_ADDR)).astype(np.int64)
        index = (gfn >> GRANULE_SHIFT[level + 1] - 12) & (PTRS_PER_PTE - 1)
        at = (tables - memory.base >> 3) + index
