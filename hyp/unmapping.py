"""The walks that remove mappings (``stage2_unmap_walker``, ``stage2_free_walker``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA
from hyp.errors import Errno
from hyp.pte import PTE_VALID, pte_counted, pte_to_phys, pte_valid
from hyp.walker import Walker

if TYPE_CHECKING:
    from hyp.pgtable import Stage2PageTable


class UnmapWalk(Walker):
    """Clears every entry of a range and frees the tables that become empty.

    Where :attr:`Stage2PageTable.deferred_tlbi` holds, invalidating the TLB for the
    leaves is left to the caller.
    """

    __slots__ = ("_pgt",)

    def __init__(self, pgt: Stage2PageTable) -> None:
        super().__init__(
            pgt.descriptors,
            self.leaf,
            table_post=self.table_post,
            run=self._clear_run if pgt.deferred_tlbi else None,
        )
        self._pgt = pgt

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Clear one entry; a block goes as a whole."""
        del end
        if not old:
            return Errno.OK
        pgt = self._pgt
        old = pgt.descriptors.exchange(ptep, 0)
        if old & PTE_VALID and not pgt.deferred_tlbi:
            pgt.tlb.flush_vmid_ipa(IPA(addr), level)
        pgt.pages.put_page(ptep)
        if pte_valid(old):
            pgt.clean(old, level)
        return Errno.OK

    def _clear_run(self, ptep: int, count: int, addr: int) -> bool:
        """Clear pages. The TLB is the caller's; with FEAT_S2FWB nothing needs cleaning."""
        del addr
        pgt = self._pgt
        entries = pgt.descriptors.load_run(ptep, count)
        counted = count - entries.count(0)
        if counted:
            pgt.descriptors.store_run(ptep, entries.__class__("Q", bytes(count << 3)))
            pgt.pages.put_page(ptep, counted)
        return True

    def table_post(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Free a table that has become empty. Its leaves are gone already."""
        del level, end
        pgt, child = self._pgt, pte_to_phys(old)
        if pgt.pages.page_count(child) != 1:
            return Errno.OK
        pgt.descriptors.store(ptep, 0)
        pgt.tlb.flush_vmid_ipa(IPA(addr), None)
        pgt.pages.put_page(ptep)
        pgt.pages.put_page(child)
        return Errno.OK


class FreeWalk(Walker):
    """Drops the references of all entries; their values stay, and nobody looks at them any more."""

    __slots__ = ("_pgt",)

    def __init__(self, pgt: Stage2PageTable) -> None:
        super().__init__(pgt.descriptors, self.leaf, table_post=self.table_post, run=self._drop_run)
        self._pgt = pgt

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Drop the reference of one entry."""
        del level, addr, end
        if pte_counted(old):
            self._pgt.pages.put_page(ptep)
        return Errno.OK

    def _drop_run(self, ptep: int, count: int, addr: int) -> bool:
        del addr
        pgt = self._pgt
        counted = count - pgt.descriptors.load_run(ptep, count).count(0)
        if counted:
            pgt.pages.put_page(ptep, counted)
        return True

    def table_post(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Free a table, and drop the reference of the entry that leads to it."""
        del level, addr, end
        pages = self._pgt.pages
        pages.put_page(ptep)
        pages.put_page(pte_to_phys(old))
        return Errno.OK
