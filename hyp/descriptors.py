"""Atomic accesses to page-table entries.

Every read and every store of a descriptor by the hypervisor goes through here.
Between two of these operations other PEs may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.memory import PhysicalMemory


class Descriptors:
    """The four operations that page-table code is made of.

    Attributes
    ----------
    read
        READ_ONCE of an entry.
    store
        WRITE_ONCE of an entry.
    store_release
        A store that becomes visible after everything before it.
    """

    __slots__ = ("read", "store", "store_release")

    def __init__(self, memory: PhysicalMemory) -> None:
        # Tables lie in RAM, where a fetch never fails.
        self.read = cast("Callable[[int], int]", memory.fetch_u64)
        self.store = cast("Callable[[int, int], None]", memory.write_u64)
        self.store_release = self.store

    def cmpxchg(self, ptep: int, old: int, new: int) -> bool:
        """Store ``new`` if the entry still is ``old``; return whether it was."""
        if self.read(ptep) != old:
            return False
        self.store(ptep, new)
        return True
