"""The page tables of the VMM process: what is behind each page of it right now.

An entry is a number, as in hardware: a frame with flags, or the place of a page in
swap space. Zero is a page that nobody has touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import PA, PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from hyp.host.vma import Vma

PRESENT: Final = 1
WRITE: Final = 2
"""The page may be written without a fault, if its area may."""
OWNED: Final = 4
"""The frame is anonymous: the entry is one of its owners."""
SWAPPED: Final = 8
"""The page is in swap space; the number of its place is where a frame would be."""
POISON: Final = 16
"""The memory behind the page has failed."""

PMD_SHIFT: Final = 21
PUD_SHIFT: Final = 30


def entry_frame(entry: int) -> PA:
    """Return the frame of an entry that is present."""
    return PA(entry & ~PAGE_MASK)


def swap_entry(place: int) -> int:
    """Return the entry of a page in swap space."""
    return place << PAGE_SHIFT | SWAPPED


def swap_place(entry: int) -> int:
    """Return where in swap space a page is."""
    return entry >> PAGE_SHIFT


class HostTables:
    """Entries by the size of what they map.

    Attributes
    ----------
    pte_tables
        Which 2 MiB of areas for transparent huge pages are mapped by small pages:
        there no huge page can come, until it is made of them.
    """

    __slots__ = ("_entries", "_pmds", "_ptes", "pte_tables")

    def __init__(self) -> None:
        self._ptes: dict[int, int] = {}
        self._pmds: dict[int, int] = {}
        self._entries = {PAGE_SHIFT: self._ptes, PMD_SHIFT: self._pmds, PUD_SHIFT: dict[int, int]()}
        self.pte_tables: set[int] = set()

    def lookup(self, vma: Vma, hva: int) -> tuple[int, int]:
        """Return the entry for an address, and log2 of what it maps."""
        if vma.thp:
            pmd = self._pmds.get(hva >> PMD_SHIFT)
            if pmd is not None:
                return pmd, PMD_SHIFT
        shift = vma.page_shift
        return self._entries[shift].get(hva >> shift, 0), shift

    def set(self, hva: int, shift: int, entry: int) -> None:
        """Set the entry of this size at an address; zero removes it."""
        if entry:
            self._entries[shift][hva >> shift] = entry
        else:
            self._entries[shift].pop(hva >> shift, None)

    def present_in(self, start: int, end: int, shift: int) -> list[tuple[int, int]]:
        """Return (address, entry) of all entries of one size in a range, ascending."""
        entries = self._entries[shift]
        first, last = start >> shift, -(-end >> shift)
        if last - first < len(entries):
            found = [index for index in range(first, last) if index in entries]
        else:
            found = sorted(index for index in entries if first <= index < last)
        return [(index << shift, entries[index]) for index in found]
