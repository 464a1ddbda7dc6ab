"""The values that one parameter takes in a fault space, and all combinations of several."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, Final

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def values_of(given: Any) -> Sequence[Any]:  # noqa: ANN401  # of any parameter
    """Return the values that ``given`` stands for: a range or a list, or just itself."""
    if isinstance(given, range):
        return given
    if isinstance(given, list | tuple | set | frozenset):
        return tuple(sorted(given) if isinstance(given, set | frozenset) else given)
    return (given,)


MOST_PLACES: Final = 10_000_000
"""Combinations of values; what an experiment is made from is kept for each."""


class Combinations(Sequence[dict[str, Any]]):
    """All combinations of the values of some parameters; those of the last one change first.

    Parameters
    ----------
    axes : Mapping[str, Sequence[Any]]
        The values of each parameter, by name.

    Raises
    ------
    UserError
        If there are more than :data:`MOST_PLACES`.
    """

    def __init__(self, axes: Mapping[str, Sequence[Any]]) -> None:
        self._axes = tuple(axes.items())
        self._size = prod(_length(values) for _, values in self._axes)
        if self._size > MOST_PLACES:
            raise UserError(
                f"{' and '.join(axes)} have {self._size:,} values together, more than "
                f"{MOST_PLACES:,}; give less, in several spaces if need be"
            )

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]  # no slices
        if not 0 <= index < self._size:
            raise IndexError(f"there are {self._size} combinations, and none of number {index}")
        chosen = {}
        for name, values in reversed(self._axes):
            index, place = divmod(index, len(values))
            chosen[name] = values[place]
        return {name: chosen[name] for name, _ in self._axes}


class Pieces(Sequence[int]):
    """Several ranges of numbers one after the other, ascending and without overlap.

    Parameters
    ----------
    pieces : Iterable[range]
        Any ranges of step 1; they are put in order, and together where they touch.
    """

    def __init__(self, pieces: Iterable[range]) -> None:
        joined: list[range] = []
        for piece in sorted(pieces, key=lambda piece: piece.start):
            if not piece:
                continue
            if joined and piece.start <= joined[-1].stop:
                joined[-1] = range(joined[-1].start, max(joined[-1].stop, piece.stop))
            else:
                joined.append(piece)
        self.ranges = tuple(joined)
        """The ranges, none of which touches another."""
        self._starts = [piece.start for piece in joined]
        self._before = [0, *accumulate(len(piece) for piece in joined)]

    def __len__(self) -> int:
        return self._before[-1]

    def __getitem__(self, index: int) -> int:  # type: ignore[override]  # no slices
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} numbers, and none at place {index}")
        piece = bisect_right(self._before, index) - 1
        return self.ranges[piece][index - self._before[piece]]

    def below(self, limit: int) -> int:
        """Return how many of the numbers are below a limit."""
        piece = bisect_left(self._starts, limit) - 1
        if piece < 0:
            return 0
        return self._before[piece] + min(limit, self.ranges[piece].stop) - self._starts[piece]

    def common(self, other: Pieces) -> Pieces:
        """Return the numbers that both have."""
        found, mine, theirs = [], 0, 0
        while mine < len(self.ranges) and theirs < len(other.ranges):
            a, b = self.ranges[mine], other.ranges[theirs]
            found.append(range(max(a.start, b.start), min(a.stop, b.stop)))
            if a.stop < b.stop:
                mine += 1
            else:
                theirs += 1
        return Pieces(found)


def _length(values: Sequence[Any]) -> int:
    """Return the length of a sequence, of a range with more members than ``len`` can tell, too."""
    if isinstance(values, range):
        return max(0, -(-(values.stop - values.start) // values.step))
    return len(values)
