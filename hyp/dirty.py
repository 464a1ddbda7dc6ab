"""Dirty logging: which pages of a slot the guest has written."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD_BITS = 64


class DirtyBitmap:
    """The bitmap of one slot, in 64-bit words, bit 0 of word 0 for the first page.

    Parameters
    ----------
    npages
        The size of the slot.
    """

    __slots__ = ("_words", "npages")

    def __init__(self, npages: int) -> None:
        self.npages = npages
        self._words = array("Q", bytes(8 * -(-npages // _WORD_BITS)))

    def set(self, page: int) -> None:
        """Mark the page at this offset in the slot."""
        self._words[page >> 6] |= 1 << (page & 63)

    def test(self, page: int) -> bool:
        """Return whether the page at this offset is marked."""
        return bool(self._words[page >> 6] >> (page & 63) & 1)

    def take_words(self) -> Iterator[tuple[int, int]]:
        """Yield (offset of the first page, mask) of each word that is not zero; clear it first."""
        for index, mask in enumerate(self._words):
            if mask:
                self._words[index] = 0
                yield index * _WORD_BITS, mask

    def copy(self) -> bytes:
        """Return the bitmap as KVM_GET_DIRTY_LOG copies it out."""
        return self._words.tobytes()


def dirty_pages(bitmap: bytes) -> Iterator[int]:
    """Yield the offsets of the pages marked in a bitmap that KVM_GET_DIRTY_LOG gave."""
    for index, byte in enumerate(bitmap):
        while byte:
            lowest = byte & -byte
            yield index * 8 + lowest.bit_length() - 1
            byte ^= lowest  # noqa: PLW2901  # the bits of one byte, lowest first


def mask_range(mask: int) -> tuple[int, int]:
    """Return the first and last set bit of a mask: KVM protects all pages between them."""
    return (mask & -mask).bit_length() - 1, mask.bit_length() - 1
