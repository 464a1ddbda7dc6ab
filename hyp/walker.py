"""The stage-2 table walker (``kvm_pgtable_walk``).

A walker goes through the entries that cover a range of addresses and shows
them to visitors: a table before its children (``table_pre``) and after them
(``table_post``), and everything else, invalid entries included, as ``leaf``.
A table that a visitor installs is descended into.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_SHIFT
from hyp.errors import Errno
from hyp.pte import GRANULE, GRANULE_SHIFT, LAST_LEVEL, PTE_ADDR, PTE_TABLE

if TYPE_CHECKING:
    from emu.arch.address import IPA, PA
    from hyp.descriptors import Descriptors


class WalkFlags(IntFlag):
    """``enum kvm_pgtable_walk_flags``.

    LEAF, TABLE_PRE and TABLE_POST say which visits a walk makes. Here a walker has them
    if it has the visitor.
    """

    LEAF = 1
    TABLE_PRE = 2
    TABLE_POST = 4
    SHARED = 8
    """Others walk and change the tables at the same time. Without it, nobody does."""
    HANDLE_FAULT = 16
    """EAGAIN ends the walk: the guest will fault again. Others go on (IGNORE_EAGAIN)."""
    SKIP_BBM_TLBI = 32
    """No translation can be cached: what is changed was never in use."""
    SKIP_CMO = 64
    """The caches have been seen to."""


# Flags as plain integers: a test of an IntFlag costs more than a visit.
LEAF: Final = int(WalkFlags.LEAF)
TABLE_PRE: Final = int(WalkFlags.TABLE_PRE)
TABLE_POST: Final = int(WalkFlags.TABLE_POST)
SHARED: Final = int(WalkFlags.SHARED)
HANDLE_FAULT: Final = int(WalkFlags.HANDLE_FAULT)
SKIP_BBM_TLBI: Final = int(WalkFlags.SKIP_BBM_TLBI)
SKIP_CMO: Final = int(WalkFlags.SKIP_CMO)

FAULT_WALK: Final = SHARED | HANDLE_FAULT
"""How a fault handler walks."""

Visitor = Callable[[int, int, int, int, int], Errno]
"""Called with the entry's address, its value, its level, the address walked to and
the end of the walk; what is not OK ends the walk. Addresses are plain integers
here, on the way of every fault: naming their type costs a call each time."""

RunVisitor = Callable[[int, int, int], bool]
"""Called with the address of the first of many neighbouring entries of the last level,
their number, and the address that the first maps. It does what the leaf visitor would
have done with each, or returns False and leaves them to it."""

SHORTEST_RUN: Final = 16
"""From here on a run is faster than as many visits."""

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
    run
        A leaf visitor for many entries at once. It is used only where no other walker
        could tell the difference.
    flags
        SHARED and HANDLE_FAULT of :class:`WalkFlags`.
    """

    __slots__ = ("_end", "_ignore_eagain", "_leaf", "_post", "_pre", "_read", "_run", "shared")

    def __init__(
        self,
        descriptors: Descriptors,
        leaf: Visitor,
        *,
        table_pre: Visitor | None = None,
        table_post: Visitor | None = None,
        run: RunVisitor | None = None,
        flags: int = 0,
    ) -> None:
        self.shared = flags & SHARED
        self._read = descriptors.read
        self._leaf = leaf
        self._pre = table_pre
        self._post = table_post
        self._run = None if self.shared or descriptors.observed else run
        self._ignore_eagain = not flags & HANDLE_FAULT
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
        if level == LAST_LEVEL:
            return self._walk_last_level(ptep, addr, limit)
        below_granule = GRANULE[level] - 1
        while addr < limit:
            pte = self._read(ptep)
            is_table = pte & PTE_TABLE == PTE_TABLE
            visitor = self._pre if is_table else self._leaf
            if visitor is not None:
                error = visitor(ptep, pte, level, addr, self._end)
                if error and not (error is EAGAIN and self._ignore_eagain):
                    return error
                # The visitor may have put a table here, or taken one away.
                pte = self._read(ptep)
                is_table = pte & PTE_TABLE == PTE_TABLE
            after = (addr | below_granule) + 1
            if is_table:
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

    def _walk_last_level(self, ptep: int, addr: int, limit: int) -> Errno:
        """Walk pages: there is nothing below them, and there may be many."""
        if self._run is not None:
            count = limit - addr >> PAGE_SHIFT
            if count >= SHORTEST_RUN and self._run(ptep, count, addr):
                return OK
        leaf, end = self._leaf, self._end
        while addr < limit:
            error = leaf(ptep, self._read(ptep), LAST_LEVEL, addr, end)
            if error and not (error is EAGAIN and self._ignore_eagain):
                return error
            addr += GRANULE[LAST_LEVEL]
            ptep += 8
        return OK
