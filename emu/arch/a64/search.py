"""Find the words of a page of code that match any of some masks.

Each half of a word is looked up in a table of bytes, whose bits are kinds of matches; both halves
must agree on one. So the work for a page is done by a few calls of C functions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_HALF: Final = 16
_LOW: Final = 0xFFFF
_FOUND: Final = re.compile(rb"[^\0]")
_KINDS: Final = 8
_WORD: Final = 4


def searcher(masks: Iterable[tuple[int, int]]) -> Callable[[bytes], list[tuple[int, int]]]:
    """Return a function that lists offset and word of all matches in code, in address order.

    Parameters
    ----------
    masks
        (mask, value): a word matches if ``word & mask == value``.

    Raises
    ------
    ValueError
        If the masks differ in more than eight ways in the lower half of a word.
    """
    halves = [(mask >> _HALF, value >> _HALF, mask & _LOW, value & _LOW) for mask, value in masks]
    lows = list(dict.fromkeys((mask, value) for _, _, mask, value in halves))
    if len(lows) > _KINDS:
        raise ValueError(f"the lower halves of the masks are {len(lows)}, more than {_KINDS}")
    high = _table((lows.index((low, bits)), mask, value) for mask, value, low, bits in halves)
    low = _table((kind, mask, value) for kind, (mask, value) in enumerate(lows))

    def search(code: bytes) -> list[tuple[int, int]]:
        halves = memoryview(code).cast("H").tolist()
        matches = int.from_bytes(bytes(map(high.__getitem__, halves[1::2])), "little")
        matches &= int.from_bytes(bytes(map(low.__getitem__, halves[::2])), "little")
        kinds = matches.to_bytes(len(code) // _WORD, "little")
        words = memoryview(code).cast("I")
        found = map(re.Match.start, _FOUND.finditer(kinds))
        return [(_WORD * index, words[index]) for index in found]

    return search


def _table(rules: Iterable[tuple[int, int, int]]) -> bytes:
    """Return, for every half of a word, the kinds that it matches as bits of a byte.

    Parameters
    ----------
    rules
        Kind, mask and value.
    """
    rows = [0] * 256
    for kind, mask, value in rules:
        matching = (byte & mask & 0xFF == value & 0xFF for byte in range(256))
        row = int.from_bytes(bytes(match << kind for match in matching), "little")
        for upper in range(256):
            if upper & mask >> 8 == value >> 8:
                rows[upper] |= row
    return b"".join(row.to_bytes(256, "little") for row in rows)
