"""The stage-2 table walker (``kvm_pgtable_walk``).

A walker goes through the entries that cover a range of addresses and shows
them to visitors: a table before its children (``table_pre``) and after them
(``table_post``), and everything else, invalid entries included, as ``leaf``.
A table that a leaf visitor installs is descended into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hyp.errors import Errno
from hyp.pte import GRANULE, GRANULE_SHIFT, LAST_LEVEL, PTE_ADDR, PTE_TABLE

if TYPE_CHECKING:
    from emu.arch.address import IPA, PA
    from hyp.descriptors import Descriptors

Visitor = Callable[[int, int, int, int, int], Errno]
"""Called with the entry's address, its value, its level, the address walked to and
the end of the walk; what is not OK ends the walk. Addresses are plain integers
here, on the way of every fault: naming their type costs a call each time."""

OK = Errno.OK
EAGAIN = Errno.EAGAIN


class Walker:
    """Shows the entries of a range to visitors.

    Parameters
    ----------
    descriptors
        How entries are read.
    leaf, table_pre, table_post
        The visitors; what is ``None`` is not visited.
    ignore_eagain
        Whether EAGAIN from a visitor means to go on. A fault handler stops:
        the guest will fault again.
    """

    __slots__ = ("_end", "_ignore_eagain", "_leaf", "_post", "_pre", "_read")

    def __init__(
        self,
        descriptors: Descriptors,
        leaf: Visitor,
        *,
        table_pre: Visitor | None = None,
        table_post: Visitor | None = None,
        ignore_eagain: bool = True,
    ) -> None:
        self._read = descriptors.read
        self._leaf = leaf
        self._pre = table_pre
        self._post = table_post
        self._ignore_eagain = ignore_eagain
        self._end = 0

    def walk(self, table: PA, level: int, addr: IPA, end: IPA) -> Errno:
        """Walk from ``addr`` up to ``end``.

        Parameters
        ----------
        table
            The first table. Concatenated tables count as one, whose entry 0
            covers address 0.
        level
            Its level.
        """
        self._end = end
        return self._walk_entries(table + (addr >> GRANULE_SHIFT[level] << 3), level, addr, end)

    def walk_detached(self, table: PA, level: int) -> Errno:
        """Walk all 512 entries of a table that hangs nowhere; addresses count from it."""
        end = self._end = GRANULE[level - 1]
        return self._walk_entries(table, level, 0, end)

    def _walk_entries(self, ptep: int, level: int, addr: int, limit: int) -> Errno:
        """Walk the entries of one table, from ``ptep`` on, up to ``limit``."""
        below_granule = GRANULE[level] - 1
        while addr < limit:
            pte = self._read(ptep)
            is_table = pte & PTE_TABLE == PTE_TABLE and level < LAST_LEVEL
            visitor = self._pre if is_table else self._leaf
            error = OK
            if visitor is not None:
                error = visitor(ptep, pte, level, addr, self._end)
                if level < LAST_LEVEL:
                    # The visitor may have put a table here, or taken one away.
                    pte = self._read(ptep)
                    is_table = pte & PTE_TABLE == PTE_TABLE
            after = (addr | below_granule) + 1
            if is_table and not error:
                error = self._walk_table(ptep, pte, level, addr, min(after, limit))
            if error and not (error is EAGAIN and self._ignore_eagain):
                return error
            addr = after
            ptep += 8
        return OK

    def _walk_table(self, ptep: int, pte: int, level: int, addr: int, limit: int) -> Errno:
        """Walk what is below a table entry, then show the entry itself once more."""
        index = addr >> GRANULE_SHIFT[level + 1] & 511
        error = self._walk_entries((pte & PTE_ADDR) + (index << 3), level + 1, addr, limit)
        if error or self._post is None:
            return error
        return self._post(ptep, pte, level, addr, self._end)
