"""Numbers as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.campaign.statistics import Interval


def percent(share: float) -> str:
    """Return a share with two digits; what is little is not nothing, and most is not all."""
    if 0 < share < 0.000_05:
        return "<0.01%"
    if 0.999_95 <= share < 1:
        return ">99.99%"
    return f"{share:.2%}"


def interval(found: Interval) -> str:
    """Return where a share lies; empty if it is known."""
    if found.low == found.high:
        return ""
    return f"{percent(found.low)} to {percent(found.high)}"


def confidence(level: float) -> str:
    """Return the confidence of intervals: ``95%``."""
    return f"{100 * level:.4g}%"


def counted(number: int, what: str) -> str:
    """Return a count with its noun: ``1 run``, ``2,000 runs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
