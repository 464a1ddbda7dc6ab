"""The statistics of samples: how many runs a margin needs, and what a sample says.

Proportions are of a finite space of faults. Sources: Leveugle et al., Statistical fault
injection (DATE 2009), for the size of a sample; Wilson 1927 for the interval; Kish 1965 for the
effective size of a weighted sample.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Interval(NamedTuple):
    """A proportion, and where it lies with some confidence."""

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def scaled(self, factor: float) -> Interval:
        """Return it as a part of a whole that is larger by ``1 / factor``."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)

    def moved(self, by: float) -> Interval:
        """Return it with a share added that is known exactly."""
        return Interval(self.estimate + by, self.low + by, self.high + by)


def quantile(confidence: float) -> float:
    """Return how many standard deviations a two-sided confidence is: 1.96 for 0.95.

    Raises
    ------
    UserError
        If the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence is between 0 and 1, such as 0.95, not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def planned_size(margin: float, confidence: float, space: int, proportion: float = 0.5) -> int:
    """Return how many faults to draw, without replacement, from a space.

    Parameters
    ----------
    margin : float
        Half the width of the interval wanted: 0.01 for one percentage point.
    confidence : float
        That the proportion is in it.
    space : int
        Faults that there are. The fewer, the fewer are needed (finite population correction).
    proportion : float
        What is expected; 0.5 is the worst case.

    Raises
    ------
    UserError
        If the margin or the confidence is not between 0 and 1.
    """
    if not 0 < margin < 1:
        raise UserError(f"margin is between 0 and 1, such as 0.01, not {margin}")
    z = quantile(confidence)
    if space <= 0:
        return 0
    needed = space / (1 + margin**2 * (space - 1) / (z**2 * proportion * (1 - proportion)))
    return min(space, math.ceil(needed - 1e-9))


def wilson(hits: float, n: float, confidence: float, space: int | None = None) -> Interval:
    """Return Wilson's score interval of a proportion.

    Parameters
    ----------
    hits, n : float
        How many of how many. No integers if the sample is weighted.
    confidence : float
        That the proportion is in the interval.
    space : int or None
        The size of the space that the sample was drawn from without replacement: the interval
        shrinks to nothing as ``n`` comes near it. None: infinite.
    """
    if n <= 0:
        return Interval(0.0, 0.0, 1.0)
    p = hits / n
    if space is not None:
        if n >= space:
            return Interval(p, p, p)
        # The variance of the mean of a sample without replacement is smaller by this factor:
        # it says as much as a larger sample with replacement.
        n = n * (space - 1) / (space - n) if space > 1 else n
    z2 = quantile(confidence) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def weighted(
    hits: Iterable[float], weights: Iterable[float], confidence: float, space: int | None = None
) -> Interval:
    """Return the interval of a proportion that members of a sample weigh differently in.

    Parameters
    ----------
    hits : Iterable[float]
        The weights of the members that have the property.
    weights : Iterable[float]
        The weights of all members, those included.
    confidence : float
        That the proportion is in the interval.
    space : int or None
        How many members there are to draw from, without replacement.

    Notes
    -----
    The estimate is the ratio of the two sums. Its variance is that of the linearised ratio,
    the sum of ``w**2 * (y - p)**2`` over the square of the sum of weights; Wilson's interval
    is taken at the size of an unweighted sample with that variance. Where no member, or every
    member, has the property, that variance says nothing: Kish's effective size,
    ``(sum of w)**2 / (sum of w**2)``, is used.
    """
    positive, everything = list(hits), list(weights)
    total = sum(everything)
    if total <= 0:
        return Interval(0.0, 0.0, 1.0)
    squares = sum(w * w for w in everything)
    p = sum(positive) / total
    effective = total * total / squares
    if 0 < p < 1:
        hit = sum(w * w for w in positive)
        variance = (hit * (1 - p) ** 2 + (squares - hit) * p**2) / total**2
        effective = min(p * (1 - p) / variance, float(len(everything)))
    if space is not None and len(everything) >= space:
        return Interval(p, p, p)
    if space is not None and space > 1:
        effective *= (space - 1) / (space - len(everything))
    return wilson(p * effective, effective, confidence)
