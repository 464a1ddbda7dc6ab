"""What a benchmark answers: figures, beside references that were measured in the same run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Unit(Enum):
    """A unit, and which way is better."""

    MIPS = "MIPS"
    MICROSECONDS = "us"
    SECONDS = "s"
    RUNS = "runs/s"

    @property
    def more_is_better(self) -> bool:
        """Whether a larger figure is the better one."""
        return self in {Unit.MIPS, Unit.RUNS}

    def text(self, value: float) -> str:
        """Return a figure with its unit, to three digits."""
        return f"{three_digits(value)} {self.value}"


def three_digits(value: float) -> str:
    """Return a number to three digits, with decimals only as far as they are among those."""
    decimals = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{decimals}f}"


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that a figure is compared with.

    Parameters
    ----------
    name
        What was measured.
    value
        In the unit of the row.
    limit
        The ratio of the row's figure to this one that is aimed at: at least this where more
        is better, at most this otherwise.
    is_rival
        Whether it did the same work, so that it counts who is cheaper.
    """

    name: str
    value: float
    limit: float | None = None
    is_rival: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Parameters
    ----------
    name
        What was measured.
    value, unit
        The figure.
    references
        What it is compared with.
    limit
        The figure that is aimed at, where the figure itself counts and not a ratio.
    note
        Why there is nothing to compare it with.
    """

    name: str
    value: float
    unit: Unit
    references: tuple[Reference, ...] = ()
    limit: float | None = None
    note: str = ""

    def ratio(self, reference: Reference) -> float:
        """Return this figure as a multiple of a reference."""
        return self.value / reference.value

    def verdict(self, reference: Reference) -> str:
        """Return how this figure compares with a rival's; nothing for other references."""
        if not reference.is_rival:
            return ""
        if self.unit.more_is_better:
            return "faster" if self.value > reference.value else "slower"
        return "cheaper" if self.value < reference.value else "dearer"

    def meets(self, limit: float | None, value: float) -> bool | None:
        """Whether ``value`` keeps to ``limit``; None where nothing is aimed at."""
        if limit is None:
            return None
        return value >= limit if self.unit.more_is_better else value <= limit

    def as_dict(self) -> dict[str, Any]:
        """Return the row as what JSON can hold."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit.value,
            "limit": self.limit,
            "met": self.meets(self.limit, self.value),
            "note": self.note,
            "references": [
                {
                    "name": reference.name,
                    "value": reference.value,
                    "ratio": self.ratio(reference),
                    "limit": reference.limit,
                    "met": self.meets(reference.limit, self.ratio(reference)),
                    "verdict": self.verdict(reference),
                }
                for reference in self.references
            ],
        }
