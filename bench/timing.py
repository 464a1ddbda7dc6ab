"""How things are timed: the sides of a comparison in turn, the best of each or the median.

Other work on the host makes a measurement slower and never faster, so the best of several
is the least disturbed; the medians of many show small differences. Taking turns lets slow
disturbances (a busy neighbour, a change of the clock rate) hit all sides alike. What is timed
is the CPU time of the process, which does not pass while others have the CPU.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


clock: Final = time.process_time
"""Seconds of CPU that this process has used."""


class Spent(NamedTuple):
    """Seconds, by different clocks."""

    user: float
    """Of the CPU, outside the host's kernel."""
    cpu: float
    """Of the CPU."""
    wall: float

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(self, earlier, strict=True)))

    @classmethod
    def by_children(cls) -> Spent:
        """Return what processes that have been waited for have used, and the time."""
        return cls._of(resource.RUSAGE_CHILDREN)

    @classmethod
    def by_all(cls) -> Spent:
        """Return the same with this process."""
        here = cls._of(resource.RUSAGE_SELF)
        children = cls._of(resource.RUSAGE_CHILDREN)
        return cls(here.user + children.user, here.cpu + children.cpu, here.wall)

    @classmethod
    def _of(cls, who: int) -> Spent:
        used = resource.getrusage(who)
        return cls(used.ru_utime, used.ru_utime + used.ru_stime, time.perf_counter())


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
    return [min(times) for times in _turns(rounds, sides)]


def median_of(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Let the sides take turns and return the median time of each.

    For sides that differ by a few hundredths: which of them has met the quietest moment of a
    busy host decides about the least times, and hardly about the medians of many turns.
    Parameters are those of `best_of`.
    """
    return [statistics.median(times) for times in _turns(rounds, sides)]


def _turns(rounds: int, sides: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Return the seconds of every turn, by side."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for index, side in enumerate(sides):
            gc.collect()  # what an earlier round left behind is not this one's cost
            times[index].append(side())
    return times
