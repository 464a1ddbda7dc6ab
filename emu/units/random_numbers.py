"""The random number generator of one PE (FEAT_RNG), without chance: equal runs are equal.

The numbers are those of SplitMix64, which has one word of state.
"""

from __future__ import annotations

from typing import Final

_MASK64: Final = (1 << 64) - 1
_STEP: Final = 0x9E37_79B9_7F4A_7C15
_MULTIPLIERS: Final = ((30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB))
"""Shifts, each with what is multiplied with behind it."""


class RandomNumbers:
    """Numbers that follow from a seed and the number of a PE.

    Parameters
    ----------
    index
        The number of the PE.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._state = index << 32

    def seed(self, seed: int) -> None:
        """Begin again.

        Parameters
        ----------
        seed
            Any number. PEs have different numbers with one seed.
        """
        self._state = (self._index << 32 ^ seed) & _MASK64

    def next(self) -> int:
        """Return the next 64 bits."""
        self._state = number = self._state + _STEP & _MASK64
        for shift, multiplier in _MULTIPLIERS:
            number = (number ^ number >> shift) * multiplier & _MASK64
        return number ^ number >> 31
