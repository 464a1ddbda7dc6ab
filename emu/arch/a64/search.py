"""Find the words of a page of code that match any of some masks.

Each byte of a word is looked up in a table, whose bits are the masks that it matches; all four
bytes must agree on one. So the work for a page is done by a few calls of C functions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_FOUND: Final = re.compile(rb"[^\0]")
_BITS: Final = 8
"""Masks that one pass looks for: each has a bit of a byte."""
_WORD: Final = 4


def searcher(masks: Iterable[tuple[int, int]]) -> Callable[[bytes], list[tuple[int, int]]]:
    """Return a function that lists offset and word of all matches in code, in address order.

    Parameters
    ----------
    masks
        (mask, value): a word matches if ``word & mask == value``.
    """
    all_masks = tuple(masks)
    passes = [_tables(all_masks[at : at + _BITS]) for at in range(0, len(all_masks), _BITS)]

    def search(code: bytes) -> list[tuple[int, int]]:
        matches = 0
        for tables in passes:
            matches |= _matches(code, tables)
        if not matches:
            return []
        marks = matches.to_bytes(len(code) // _WORD, "little")
        words = memoryview(code).cast("I")
        return [(_WORD * found.start(), words[found.start()]) for found in _FOUND.finditer(marks)]

    return search


def _matches(code: bytes, tables: Sequence[bytes]) -> int:
    """Return a byte for each word of ``code``: the bits of the masks that all its bytes match."""
    matches = -1
    for index, table in enumerate(tables):
        matches &= int.from_bytes(code[index::_WORD].translate(table), "little")
    return matches


def _tables(masks: Sequence[tuple[int, int]]) -> tuple[bytes, ...]:
    """Return, for each byte of a word and each of its values, which masks it matches."""
    return tuple(
        bytes(_matched(masks, byte, shift) for byte in range(256))
        for shift in range(0, 8 * _WORD, 8)
    )


def _matched(masks: Sequence[tuple[int, int]], byte: int, shift: int) -> int:
    """Return the bits of the masks that ``byte`` matches, ``shift`` bits up in a word."""
    return sum(
        1 << bit
        for bit, (mask, value) in enumerate(masks)
        if not (byte ^ value >> shift) & mask >> shift & 0xFF
    )
