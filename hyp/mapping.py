"""The walk that installs a mapping, or an annotation (``stage2_map_walker``)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA, PAGE_SHIFT, PAGE_SIZE
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
from hyp.walker import SKIP_CMO, Walker

if TYPE_CHECKING:
    from hyp.memcache import MemoryCache
    from hyp.pgtable import Stage2PageTable


def install_leaf(
    pgt: Stage2PageTable,
    ptep: int,
    old: int,
    level: int,
    addr: int,
    phys: int,
    attr: int,
    flags: int,
) -> Errno:
    """Put a leaf in the place of ``old`` (``stage2_map_walker_try_leaf``).

    Returns
    -------
    Errno
        EAGAIN if it is there already, permissions aside, or if somebody was faster.
    """
    new = phys | attr | LEAF_TYPE[level]
    if old & PTE_VALID and not (old ^ new) & ~PTE_PERMS:
        return Errno.EAGAIN
    if not pgt.try_break_pte(ptep, old, level, addr, flags):
        return Errno.EAGAIN
    # The guest may use the page as soon as the entry is visible: caches first.
    if not flags & SKIP_CMO:
        granule = GRANULE[level]
        if not pgt.fwb and pgt.cacheable(new):
            pgt.cmo.dcache_clean_inval_poc(PA(phys), granule)
        if not new & PTE_XN:
            pgt.cmo.icache_inval_pou(PA(phys), granule)
    pgt.make_pte(ptep, new)
    return Errno.OK


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
    flags
        Of :class:`hyp.walker.WalkFlags`.
    collapse
        Whether the mapping can be large enough to take the place of a table.
    force_pte
        Whether to use pages only.
    """

    __slots__ = ("_attr", "_flags", "_force_pte", "_memcache", "_offset", "_pgt")

    def __init__(
        self,
        pgt: Stage2PageTable,
        addr: IPA,
        phys: PA,
        attr: int,
        memcache: MemoryCache | None,
        *,
        flags: int,
        collapse: bool,
        force_pte: bool = False,
    ) -> None:
        super().__init__(
            pgt.descriptors,
            self.leaf,
            table_pre=self.table_pre if collapse else None,
            run=self._install_run,
            flags=flags,
        )
        self._pgt = pgt
        self._offset = phys - addr
        self._attr = attr
        self._memcache = memcache
        self._flags = flags
        self._force_pte = force_pte

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
            pgt, child = self._pgt, PA(old & PTE_ADDR)
            pgt.rcu.call(lambda: pgt.free_unlinked(child, level + 1))
        return error

    def _leaf_fits(self, level: int, addr: int, end: int) -> bool:
        """Return whether one leaf of this level can map from ``addr`` on."""
        granule = GRANULE[level]
        return (
            level >= MIN_BLOCK_LEVEL
            and granule <= end - addr
            and not (addr | (addr + self._offset)) & (granule - 1)
            and (level == LAST_LEVEL or not self._force_pte)
        )

    def _install_leaf(self, ptep: int, old: int, level: int, addr: int) -> Errno:
        phys = addr + self._offset
        return install_leaf(self._pgt, ptep, old, level, addr, phys, self._attr, self._flags)

    def _install_run(self, ptep: int, count: int, addr: int) -> bool:
        """Install pages where nothing is, so that there is nothing to break."""
        pgt, phys = self._pgt, addr + self._offset
        if phys & (PAGE_SIZE - 1) or any(pgt.descriptors.load_run(ptep, count)):
            return False
        first, size = phys | self._attr | LEAF_TYPE[LAST_LEVEL], count << PAGE_SHIFT
        if not self._flags & SKIP_CMO:
            cacheable, executable = pgt.cacheable(first), not first & PTE_XN
            for page in range(phys, phys + size, PAGE_SIZE):
                if cacheable:
                    pgt.cmo.dcache_clean_inval_poc(PA(page), PAGE_SIZE)
                if executable:
                    pgt.cmo.icache_inval_pou(PA(page), PAGE_SIZE)
        pgt.descriptors.store_run(ptep, array("Q", range(first, first + size, PAGE_SIZE)))
        pgt.pages.get_page(ptep, count)
        return True

    def _install_table(self, ptep: int, old: int, level: int, addr: int) -> Errno:
        """Put a table in; whatever a block mapped here faults again."""
        if level == LAST_LEVEL:
            return Errno.EINVAL
        pgt = self._pgt
        child = pgt.pages.zalloc_page(self._memcache) if self._memcache is not None else None
        if child is None:
            return Errno.ENOMEM
        if not pgt.try_break_pte(ptep, old, level, addr, self._flags):
            pgt.pages.put_page(child)
            return Errno.EAGAIN
        pgt.make_pte(ptep, child | PTE_TABLE)
        return Errno.OK


class AnnotateWalk(MapWalk):
    """Puts an invalid entry that means something in the place of every mapping of a range."""

    __slots__ = ("_annotation",)

    def __init__(
        self,
        pgt: Stage2PageTable,
        annotation: int,
        memcache: MemoryCache | None,
    ) -> None:
        super().__init__(pgt, IPA(0), PA(0), 0, memcache, flags=0, collapse=True)
        self._run = None
        self._annotation = annotation

    def _install_leaf(self, ptep: int, old: int, level: int, addr: int) -> Errno:
        if not self._pgt.try_break_pte(ptep, old, level, addr, self._flags):
            return Errno.EAGAIN
        self._pgt.make_pte(ptep, self._annotation)
        return Errno.OK
