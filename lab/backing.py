"""The host's memory behind a slot, as it is written on the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from emu.arch.address import PAGE_SIZE
from lab.errors import UserError
from lab.sizes import format_size, parse_size

SIZE_2M: Final = 2 << 20
SIZE_1G: Final = 1 << 30


class Kind(Enum):
    """What sort of memory it is."""

    SHARED = "shared"
    """MAP_SHARED: a page comes on first touch."""
    PRIVATE = "private"
    """MAP_PRIVATE: a page that is only read is the page of zeros, and is copied when written."""
    THP = "thp"
    """MAP_PRIVATE with MADV_HUGEPAGE: 2 MiB may come at once."""


@dataclass(frozen=True, slots=True)
class Backing:
    """The host's memory behind a slot.

    Attributes
    ----------
    page_size : int
        Size in bytes of its pages; above 4 KiB they are hugetlb's.
    kind : Kind
        What sort of memory it is.
    offset : int
        The slot begins so many bytes into its memory, which begins at a boundary of the
        largest page that it can have.
    """

    page_size: int = PAGE_SIZE
    kind: Kind = Kind.SHARED
    offset: int = 0

    def __str__(self) -> str:
        name = next(name for name, known in BACKINGS.items() if known == replace(self, offset=0))
        return f"{name}+{format_size(self.offset)}" if self.offset else name

    def area(self, size: int) -> int:
        """Return how much memory the host must have mapped for a slot of ``size`` bytes."""
        return -(-(size + self.offset) // self.page_size) * self.page_size

    def footprint(self, size: int) -> int:
        """Return how much physical memory a slot of ``size`` bytes can take."""
        if self.kind is Kind.THP:
            # Up to a boundary, and the huge page of zeros.
            return self.area(size) + 2 * SIZE_2M
        return self.area(size) + self.page_size


SMALL_PAGES: Final = Backing()

BACKINGS: Final = {
    "4K": SMALL_PAGES,
    "2M": Backing(SIZE_2M),
    "1G": Backing(SIZE_1G),
    "private": Backing(kind=Kind.PRIVATE),
    "private-2M": Backing(SIZE_2M, Kind.PRIVATE),
    "private-1G": Backing(SIZE_1G, Kind.PRIVATE),
    "thp": Backing(kind=Kind.THP),
}
"""By what they are called."""

SYNTAX: Final = f"{'|'.join(BACKINGS)}[+OFFSET]"

_BY_NAME: Final = {name.upper(): backing for name, backing in BACKINGS.items()}


def parse_backing(text: str) -> Backing:
    """Return the backing that ``text`` names, such as ``2M`` or ``thp+64K``.

    Raises
    ------
    UserError
        If there is none of that name, or the offset is not of whole pages.
    """
    name, plus, offset = text.partition("+")
    backing = _BY_NAME.get(name.upper())
    if backing is None:
        raise UserError(
            f"a backing is one of {', '.join(BACKINGS)}, each with +OFFSET if wanted, not {text!r}"
        )
    if not plus:
        return backing
    moved = replace(backing, offset=parse_size(offset, f"the offset in backing {text!r}"))
    if moved.offset % PAGE_SIZE:
        below = moved.offset // PAGE_SIZE * PAGE_SIZE
        raise UserError(
            f"the offset in backing {text!r} is not page aligned; "
            f"the next page is {name}+{below + PAGE_SIZE:#x}"
        )
    return moved
