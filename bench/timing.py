"""How things are timed: the sides of a comparison in turn, the best of each.

Other work on the host makes a measurement slower and never faster, so the best of several
is the least disturbed. Taking turns lets slow disturbances (a busy neighbour, a change of
the clock rate) hit all sides alike.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Scale(NamedTuple):
    """How much work is timed.

    Parameters
    ----------
    rounds
        How often each side has its turn.
    part
        Sizes are divided by this.
    """

    rounds: int
    part: int

    def of(self, size: int) -> int:
        """Return a full size, scaled; at least 1."""
        return max(1, size // self.part)


FULL: Final = Scale(7, 1)
QUICK: Final = Scale(3, 8)


def best_of(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Let the sides take turns and return the least time of each.

    Parameters
    ----------
    rounds
        How many turns each side has.
    sides
        Each does its work and returns the seconds that counted.
    """
    best = [float("inf")] * len(sides)
    for _ in range(rounds):
        for index, side in enumerate(sides):
            gc.collect()  # what an earlier round left behind is not this one's cost
            best[index] = min(best[index], side())
    return best
