"""A fault together with its moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lab.faults.fault import Fault, Status
    from lab.faults.trigger import Trigger


class PlannedFault(NamedTuple):
    """One fault of a run."""

    trigger: Trigger
    fault: Fault
    lifespan: int | None = None
    """Instructions, of all vCPUs, after which a fault that stays is taken away; None: never."""


class FaultRecord(NamedTuple):
    """What became of a planned fault in one run."""

    status: Status
    detail: str
    at: int | None = None
    """Instructions that all vCPUs had retired when it was injected, or was found invalid."""
    pc: int | None = None
    """Where the vCPU was then: the address of the instruction that it would execute next."""
    vcpu: int | None = None
