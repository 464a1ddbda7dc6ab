"""Images of physical memory: what it held, by the page, sharing pages with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from emu.arch.address import PA, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ZERO_PAGE: Final = bytes(PAGE_SIZE)


class MemoryImage:
    """What a memory held. It never changes.

    Parameters
    ----------
    pages
        Contents by address, without pages that are all zero.

    Attributes
    ----------
    pages
        As given. Images that were made from each other share the contents that are equal.
    """

    __slots__ = ("__weakref__", "_differences", "pages")

    def __init__(self, pages: Mapping[PA, bytes]) -> None:
        self.pages = pages
        self._differences: WeakKeyDictionary[MemoryImage, frozenset[PA]] = WeakKeyDictionary()

    def page(self, pa: PA) -> bytes:
        """Return the contents of the page at ``pa``."""
        return self.pages.get(pa, ZERO_PAGE)

    def changed(self, pages: Iterable[tuple[PA, bytes]]) -> MemoryImage:
        """Return an image with other pages; this one if they hold what they did."""
        new: dict[PA, bytes] | None = None
        for pa, contents in pages:
            if contents == self.page(pa):
                continue
            if new is None:
                new = dict(self.pages)
            if contents == ZERO_PAGE:
                del new[pa]
            else:
                new[pa] = contents
        return self if new is None else MemoryImage(new)

    def differences(self, other: MemoryImage) -> frozenset[PA]:
        """Return the pages that may differ: those that are not shared."""
        found = self._differences.get(other)
        if found is None:
            mine, theirs = self.pages, other.pages
            differing = {pa for pa, contents in mine.items() if theirs.get(pa) is not contents}
            found = frozenset(differing | (theirs.keys() - mine.keys()))
            self._differences[other] = found
        return found


EMPTY: Final = MemoryImage({})
"""Memory as it is at first."""
