"""What faults of each bit position come to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from lab.campaign.severity import HARMLESS, severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.campaign.row import Row

_TOPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 0.75, 1.0)
"""Shares that an axis may end with."""


class BitProfile(NamedTuple):
    """For each bit position from 0 up, how many faults came to what.

    Faults that were not injected, or that name no bit, are left out.
    """

    positions: tuple[Mapping[str, int], ...]

    def harm(self, bit: int) -> dict[str, float]:
        """Return the share of each outcome but masked, the worst first."""
        found = self.positions[bit]
        every = sum(found.values())
        return {
            name: found[name] / every for name in sorted(found, key=severity) if name != HARMLESS
        }

    @property
    def top(self) -> float:
        """The end of an axis that shows the harm of all bits."""
        most = max((sum(self.harm(bit).values()) for bit in range(len(self.positions))), default=0)
        # A sum of shares may be a little more than 1.
        return next((top for top in _TOPS if most <= top), 1.0)


def bit_profile(rows: Iterable[Row]) -> BitProfile:
    """Return the profile of rows, each counted as often as it stands for faults."""
    found: dict[int, Counter[str]] = {}
    for row in rows:
        if row.bit is not None and row.injected_at is not None:
            found.setdefault(row.bit, Counter())[row.outcome] += row.weight
    return BitProfile(tuple(found.get(bit, Counter()) for bit in range(max(found, default=-1) + 1)))
