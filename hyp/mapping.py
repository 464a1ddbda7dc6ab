"""The walk that installs a mapping (``stage2_map_walker``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA
from hyp.errors import Errno
from hyp.pte import (
    GRANULE,
    LAST_LEVEL,
    LEAF_TYPE,
    MIN_BLOCK_LEVEL,
    PTE_ADDR,
    PTE_PERMS,
    PTE_TABLE,
    PTE_VALID,
    PTE_XN,
)
from hyp.walker import Walker

if TYPE_CHECKING:
    from hyp.memcache import MemoryCache
    from hyp.pgtable import Stage2PageTable


class MapWalk(Walker):
    """Maps ``addr`` and what follows to ``phys`` and what follows.

    Parameters
    ----------
    pgt
        The page table to change.
    addr, phys
        Where the mapping starts, and what it starts with.
    attr
        The attribute bits of its leaves.
    memcache
        Where new tables come from.
    collapse
        Whether the mapping can be large enough to take the place of a table.
    """

    __slots__ = ("_attr", "_memcache", "_offset", "_pgt")

    def __init__(
        self,
        pgt: Stage2PageTable,
        addr: IPA,
        phys: PA,
        attr: int,
        memcache: MemoryCache | None,
        *,
        collapse: bool,
    ) -> None:
        # As in any fault handler, EAGAIN ends the walk.
        super().__init__(
            pgt.descriptors,
            self.leaf,
            table_pre=self.table_pre if collapse else None,
            ignore_eagain=False,
        )
        self._pgt = pgt
        self._offset = phys - addr
        self._attr = attr
        self._memcache = memcache

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Install a leaf, or a table on the way to one."""
        if not self._leaf_fits(level, addr, end):
            return self._install_table(ptep, old, level, addr)
        return self._install_leaf(ptep, old, level, addr)

    def table_pre(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Replace a table by a block where one fits."""
        if not self._leaf_fits(level, addr, end):
            return Errno.OK
        error = self._install_leaf(ptep, old, level, addr)
        if not error:
            self._pgt.free_unlinked(PA(old & PTE_ADDR), level + 1)
        return error

    def _leaf_fits(self, level: int, addr: int, end: int) -> bool:
        """Return whether one leaf of this level can map from ``addr`` on."""
        granule = GRANULE[level]
        return (
            level >= MIN_BLOCK_LEVEL
            and granule <= end - addr
            and not (addr | (addr + self._offset)) & (granule - 1)
        )

    def _install_leaf(self, ptep: int, old: int, level: int, addr: int) -> Errno:
        phys = PA(addr + self._offset)
        new = phys | self._attr | LEAF_TYPE[level]
        if old & PTE_VALID and not (old ^ new) & ~PTE_PERMS:
            return Errno.EAGAIN
        pgt = self._pgt
        if not pgt.try_break_pte(ptep, old, level, addr):
            return Errno.EAGAIN
        # The guest may use the page as soon as the entry is visible: caches first.
        granule = GRANULE[level]
        if not pgt.fwb and pgt.cacheable(new):
            pgt.cmo.dcache_clean_inval_poc(phys, granule)
        if not new & PTE_XN:
            pgt.cmo.icache_inval_pou(phys, granule)
        pgt.make_pte(ptep, new)
        return Errno.OK

    def _install_table(self, ptep: int, old: int, level: int, addr: int) -> Errno:
        """Put a table in; whatever a block mapped here faults again."""
        if level == LAST_LEVEL:
            return Errno.EINVAL
        pgt = self._pgt
        child = pgt.pages.zalloc_page(self._memcache) if self._memcache is not None else None
        if child is None:
            return Errno.ENOMEM
        if not pgt.try_break_pte(ptep, old, level, addr):
            pgt.pages.put_page(child)
            return Errno.EAGAIN
        pgt.make_pte(ptep, child | PTE_TABLE)
        return Errno.OK
