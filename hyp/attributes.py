"""Walks that change leaves in place (``stage2_update_leaf_attrs``, ``stage2_age_walker``)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from hyp.errors import Errno
from hyp.pte import GRANULE, PTE_AF, PTE_VALID, PTE_XN, pte_to_phys
from hyp.walker import SKIP_CMO, Walker

if TYPE_CHECKING:
    from hyp.pgtable import Stage2PageTable


class AttributeWalk(Walker):
    """Sets and clears bits of the valid leaves of a range; EAGAIN where there is none.

    Attributes
    ----------
    level
        Of the leaf seen last.
    """

    __slots__ = ("_clear", "_flags", "_pgt", "_set", "level")

    def __init__(
        self, pgt: Stage2PageTable, *, set_bits: int = 0, clear_bits: int = 0, flags: int = 0
    ) -> None:
        # A run is for bits that concern no cache.
        run = None if clear_bits & PTE_XN else self._change_run
        super().__init__(pgt.descriptors, self.leaf, run=run, flags=flags)
        self._pgt = pgt
        self._set = set_bits
        self._clear = clear_bits
        self._flags = flags
        self.level = pgt.geometry.start_level

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Change one leaf."""
        del addr, end
        self.level = level
        if not old & PTE_VALID:
            return Errno.EAGAIN
        new = old & ~self._clear | self._set
        if new == old:
            return Errno.OK
        pgt = self._pgt
        if old & ~new & PTE_XN and not self._flags & SKIP_CMO:
            # What was data may be executed as soon as the entry says so.
            pgt.cmo.icache_inval_pou(pte_to_phys(new), GRANULE[level])
        return Errno.OK if pgt.try_set_pte(ptep, old, new, self._flags) else Errno.EAGAIN

    def _change_run(self, ptep: int, count: int, addr: int) -> bool:
        del addr
        descriptors, set_bits, keep = self._pgt.descriptors, self._set, ~self._clear
        entries = descriptors.load_run(ptep, count)
        changed = array("Q", [pte & keep | set_bits if pte & PTE_VALID else pte for pte in entries])
        if changed != entries:
            descriptors.store_run(ptep, changed)
        return True


class AgeWalk(Walker):
    """Finds out whether a range was accessed, and forgets it if asked to.

    Attributes
    ----------
    young
        Whether an access flag was set.
    """

    __slots__ = ("_mkold", "_pgt", "young")

    def __init__(self, pgt: Stage2PageTable, *, mkold: bool) -> None:
        super().__init__(pgt.descriptors, self.leaf, run=self._age_run)
        self._pgt = pgt
        self._mkold = mkold
        self.young = False

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        """Look at one leaf."""
        del level, addr, end
        if old & (PTE_AF | PTE_VALID) == PTE_AF | PTE_VALID:
            self.young = True
            if self._mkold:
                self._pgt.try_set_pte(ptep, old, old & ~PTE_AF, 0)
        return Errno.OK

    def _age_run(self, ptep: int, count: int, addr: int) -> bool:
        del addr
        both = PTE_AF | PTE_VALID
        descriptors = self._pgt.descriptors
        entries = descriptors.load_run(ptep, count)
        aged = array("Q", [pte & ~PTE_AF if pte & both == both else pte for pte in entries])
        if aged != entries:
            self.young = True
            if self._mkold:
                descriptors.store_run(ptep, aged)
        return True
