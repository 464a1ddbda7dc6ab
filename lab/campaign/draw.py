"""Random numbers that follow from a seed, and draws without replacement by them.

The generator is a published function of its seed and a counter, so that a plan is the same on
every version of Python: the n-th block of 256 bits is the SHA-256 of ``stage2 draw SEED N``, in
ASCII with decimal numbers; its bytes are four 64-bit numbers, each little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD: Final = 64


class Generator:
    """A stream of random numbers.

    Parameters
    ----------
    seed : int
        Decides all of it.
    """

    def __init__(self, seed: int) -> None:
        self._words = _words(seed)

    def below(self, limit: int) -> int:
        """Return a number from 0 to ``limit - 1``, each as likely as the others.

        The least number of 64-bit words that hold ``limit - 1`` is taken, the first one
        lowest, and cut to as many bits as ``limit - 1`` has; what is too large is dropped, and
        drawn again.
        """
        if limit < 1:
            raise ValueError(f"there is no number below {limit}")
        bits = (limit - 1).bit_length()
        while True:
            number = 0
            for word in range(-(-bits // _WORD)):
                number |= next(self._words) << _WORD * word
            number &= (1 << bits) - 1
            if number < limit:
                return number


def _words(seed: int) -> Iterator[int]:
    block = 0
    while True:
        digest = hashlib.sha256(f"stage2 draw {seed} {block}".encode()).digest()
        yield from struct.unpack("<4Q", digest)
        block += 1


def draw(size: int, n: int, seed: int) -> Iterator[int]:
    """Yield ``n`` different numbers below ``size``, in random order.

    The first ones are the same for every ``n``: a larger sample continues a smaller one. Memory
    is taken for what was drawn, not for the whole.

    Notes
    -----
    Fisher and Yates' shuffle: the i-th draw takes a position from i to the end, and exchanges
    what is there with what is at i. Only positions that were exchanged are stored.
    """
    generator = Generator(seed)
    moved: dict[int, int] = {}
    for i in range(min(n, size)):
        chosen = i + generator.below(size - i)
        yield moved.get(chosen, chosen)
        moved[chosen] = moved.pop(i, i)
