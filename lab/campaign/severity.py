"""Outcomes from the worst to the best, with room for those that nobody knows yet."""

from __future__ import annotations

from typing import Final

from lab.campaign.row import LOST

WORST: Final = "isolation escape"
"""An access reached memory outside of the VM's slots."""
HARMLESS: Final = "masked"
"""The fault changed nothing that can be seen."""
_UNKNOWN: Final = ""

SEVERITY: Final = (
    WORST,
    "silent corruption",
    _UNKNOWN,  # what a predicate of the user says: asked for, so worth a look
    LOST,
    "hang",
    "crash",
    "detected",
    HARMLESS,
)
"""Known outcomes, worst first; the empty one stands for all others."""

_RANKS: Final = {outcome: rank for rank, outcome in enumerate(SEVERITY)}


def severity(outcome: str) -> tuple[int, str]:
    """Return what outcomes are sorted by: less is worse; unknown ones by name."""
    return _RANKS.get(outcome, _RANKS[_UNKNOWN]), outcome


def is_known(outcome: str) -> bool:
    """Whether an outcome is one that campaigns have without predicates of a user."""
    return outcome in _RANKS and outcome != _UNKNOWN
