"""Splitting blocks into pages ahead of writes (``kvm_pgtable_stage2_split``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA, PA
from hyp.errors import Errno
from hyp.mapping import MapWalk
from hyp.pte import (
    GRANULE,
    LAST_LEVEL,
    PTE_TABLE,
    PTE_VALID,
    PTRS_PER_PTE,
    pte_prot,
    pte_to_phys,
)
from hyp.walker import SKIP_BBM_TLBI, SKIP_CMO, Walker

if TYPE_CHECKING:
    from hyp.memcache import MemoryCache
    from hyp.pgtable import Stage2PageTable
    from hyp.pte import Prot

TABLES_TO_PAGES: Final = {1: 1 + PTRS_PER_PTE, 2: 1}
"""How many tables a block needs to become pages, by its level."""


def create_unlinked(
    pgt: Stage2PageTable,
    phys: PA,
    level: int,
    prot: Prot,
    memcache: MemoryCache,
    *,
    force_pte: bool,
) -> PA | Errno:
    """Build a table that hangs nowhere yet (``kvm_pgtable_stage2_create_unlinked``).

    Parameters
    ----------
    pgt
        The page table it is for.
    phys, level, prot
        What it maps: as much as one entry of ``level``, which it is to stand in for.
    memcache
        Where tables come from.
    force_pte
        Whether to go down to pages, or one level only.

    Returns
    -------
    PA or Errno
        The table. EINVAL if ``phys`` is not aligned to the entry, or for impossible
        attributes; ENOMEM if the cache ran empty, with nothing left behind.
    """
    attr = pgt.attr(prot)
    if attr is None or phys & (GRANULE[level] - 1):
        return Errno.EINVAL
    table = pgt.pages.zalloc_page(memcache)
    if table is None:
        return Errno.ENOMEM
    walker = MapWalk(
        pgt,
        IPA(0),
        phys,
        attr,
        memcache,
        flags=SKIP_BBM_TLBI | SKIP_CMO,
        collapse=False,
        force_pte=force_pte,
    )
    error = walker.walk_detached(table, level + 1)
    if error:
        pgt.free_unlinked(table, level + 1)
        return error
    return table


class SplitWalk(Walker):
    """Replaces each block of a range by tables that map the same.

    With enough spare tables a block becomes pages at once. With a single one, a block
    of level 1 becomes blocks of level 2, which the walk then comes to.
    """

    __slots__ = ("_flags", "_memcache", "_pgt")

    def __init__(self, pgt: Stage2PageTable, memcache: MemoryCache, flags: int) -> None:
        super().__init__(pgt.descriptors, self.leaf, run=self._pass_over, flags=flags)
        self._flags = flags
        self._pgt = pgt
        self._memcache = memcache

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Split one block."""
        del end
        if level == LAST_LEVEL or not old & PTE_VALID:
            return Errno.OK
        pgt, memcache = self._pgt, self._memcache
        if not len(memcache):
            return Errno.ENOMEM
        child = create_unlinked(
            pgt,
            pte_to_phys(old),
            level,
            pte_prot(old),
            memcache,
            force_pte=len(memcache) >= TABLES_TO_PAGES[level],
        )
        if isinstance(child, Errno):
            return child
        if not pgt.try_break_pte(ptep, old, level, addr, self._flags):
            pgt.free_unlinked(child, level + 1)
            return Errno.EAGAIN
        pgt.make_pte(ptep, child | PTE_TABLE)
        return Errno.OK

    def _pass_over(self, ptep: int, count: int, addr: int) -> bool:
        """Pages cannot be split."""
        del ptep, count, addr
        return True
