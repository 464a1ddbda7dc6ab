"""How an entry was changed before there was ``relax_perms``: as a whole (``stage2_set_pte``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.errors import Errno
from hyp.pte import GRANULE, LEAF_TYPE, pte_valid
from hyp.walker import Walker

if TYPE_CHECKING:
    from emu.arch.address import IPA, PA
    from hyp.pgtable import Stage2PageTable
    from hyp.pte import Prot


def stage2_set_pte(
    pgt: Stage2PageTable, addr: IPA, size: int, phys: PA, prot: Prot, *, bbm: bool
) -> Errno | None:
    """Give the leaf at ``addr`` another value.

    Parameters
    ----------
    pgt
        The page table.
    addr, size, phys, prot
        What is to be mapped there.
    bbm
        Whether the entry is broken first. Without it a TLB may hold the old and the new
        entry at once, which the architecture forbids.

    Returns
    -------
    Errno or None
        ``None`` if there is no leaf of this size: it is to be mapped. EAGAIN if it has
        that value already.
    """
    leaf = pgt.get_leaf(addr)
    if not pte_valid(leaf.pte) or GRANULE[leaf.level] != size:
        return None
    attr = pgt.attr(prot)
    if attr is None:
        return Errno.EINVAL
    new = phys | attr | LEAF_TYPE[leaf.level]
    if new == leaf.pte:
        return Errno.EAGAIN

    def visit(ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        del old, end
        if bbm:
            pgt.descriptors.store(ptep, 0)
            pgt.tlb.flush_vmid_ipa(addr, level)  # type: ignore[arg-type]  # walkers use integers
            pgt.descriptors.store(ptep, new)
        else:
            pgt.descriptors.store(ptep, new)
            pgt.tlb.flush_vmid_ipa(addr, level)  # type: ignore[arg-type]  # as above
        return Errno.OK

    return pgt.walk(Walker(pgt.descriptors, visit), addr, 1)
