"""The plan of a campaign: its experiments, numbered, in an order that never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lab.faults.planned import PlannedFault


class Experiment(NamedTuple):
    """One run to be made."""

    id: int
    """Its number in the plan, from 0."""
    faults: tuple[PlannedFault, ...]
    weight: int
    """How many faults of the space it stands for."""
    location: str
    """Where the fault is, for people and heat maps."""
    bit: int | None
    time: int
    """The moment, in instructions of the golden run that all vCPUs have retired."""
