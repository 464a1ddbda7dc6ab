"""The dirty bitmap of a slot: which of its pages the guest has written.

One page is marked on the way of a fault, so that is plain Python. What user space
asks for concerns all pages at once, and numpy does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
    Indices = NDArray[np.int64]

WORD_BITS: Final = 64
"""The bitmap is harvested in words of this many pages (BITS_PER_LONG)."""


@dataclass(frozen=True, slots=True)
class DirtyWords:
    """The words of a bitmap that are not zero.

    Parameters
    ----------
    position
        Where in the bitmap they are, ascending.
    mask
        Their values.
    """

    position: Indices
    mask: Words

    def __bool__(self) -> bool:
        """Whether any bit is set."""
        return self.position.size > 0

    def pages(self) -> Indices:
        """Return the pages from the first to the last set bit of each word.

        KVM works on one range a word (``kvm_arch_mmu_enable_log_dirty_pt_masked``),
        so that clean pages in between are protected, too.
        """
        import numpy as np  # noqa: PLC0415  # start-up time, as everywhere below

        start, count = self._ranges()
        before = np.cumsum(count) - count
        return np.repeat(start - before, count) + np.arange(int(count.sum()))

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield first page and number of pages of each word's range."""
        start, count = self._ranges()
        yield from zip(start.tolist(), count.tolist(), strict=True)

    def _ranges(self) -> tuple[Indices, Indices]:
        import numpy as np  # noqa: PLC0415

        lowest = self.mask & (~self.mask + np.uint64(1))
        first = np.bitwise_count(lowest - np.uint64(1)).astype(np.int64)
        spread = self.mask.copy()
        for shift in (1, 2, 4, 8, 16, 32):
            spread |= spread >> np.uint64(shift)
        count = np.bitwise_count(spread).astype(np.int64) - first
        return self.position * WORD_BITS + first, count


class DirtyBitmap:
    """The bitmap of one slot, in 64-bit words, bit 0 of word 0 for the first page.

    Parameters
    ----------
    npages
        The size of the slot.
    """

    __slots__ = ("_bytes", "npages")

    def __init__(self, npages: int) -> None:
        self.npages = npages
        self._bytes = bytearray(8 * -(-npages // WORD_BITS))

    def set(self, page: int) -> None:
        """Mark the page at this offset in the slot."""
        self._bytes[page >> 3] |= 1 << (page & 7)

    def set_all(self) -> None:
        """Mark every page (KVM_DIRTY_LOG_INITIALLY_SET)."""
        whole, rest = divmod(self.npages, 8)
        self._bytes[:whole] = b"\xff" * whole
        if rest:
            self._bytes[whole] = (1 << rest) - 1

    def test(self, page: int) -> bool:
        """Return whether the page at this offset is marked."""
        return bool(self._bytes[page >> 3] >> (page & 7) & 1)

    def copy(self) -> bytes:
        """Return the bitmap as KVM_GET_DIRTY_LOG copies it out."""
        return bytes(self._bytes)

    def take(self) -> DirtyWords:
        """Return the words that are not zero, and clear them."""
        import numpy as np  # noqa: PLC0415

        words = self._words()
        index = np.flatnonzero(words)
        taken = DirtyWords(index, words[index])
        words[index] = 0
        return taken

    def clear(self, first_page: int, bitmap: bytes) -> DirtyWords:
        """Clear the bits of ``bitmap``, which begins at ``first_page``.

        Parameters
        ----------
        first_page
            A multiple of 64.
        bitmap
            Whole words, none of them beyond the end of this bitmap.

        Returns
        -------
        DirtyWords
            The bits that really were set.
        """
        import numpy as np  # noqa: PLC0415

        mask = np.frombuffer(bitmap, "<u8")
        first = first_page // WORD_BITS
        window = self._words()[first : first + mask.size]
        cleared = window & mask
        window &= ~mask
        index = np.flatnonzero(cleared)
        return DirtyWords(index + first, cleared[index])

    def _words(self) -> Words:
        import numpy as np  # noqa: PLC0415

        return np.frombuffer(self._bytes, "<u8")


def dirty_pages(bitmap: bytes) -> Iterator[int]:
    """Yield the offsets of the pages marked in a bitmap that KVM_GET_DIRTY_LOG gave."""
    for index, byte in enumerate(bitmap):
        while byte:
            lowest = byte & -byte
            yield index * 8 + lowest.bit_length() - 1
            byte ^= lowest  # noqa: PLW2901  # the bits of one byte, lowest first
