"""Sentences about data and instruction aborts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.esr.fsc import FaultType
from emu.arch.esr.iss import IssDataAbort
from emu.arch.esr.meanings import meaning
from emu.arch.esr.sentences.words import register, where

if TYPE_CHECKING:
    from emu.arch.esr.report import Report

UNKNOWN_DIRECTION = frozenset(
    {FaultType.UNSUPPORTED_ATOMIC_UPDATE, FaultType.UNSUPPORTED_EXCLUSIVE}
)
"""Faults for which WnR is UNKNOWN."""


def _described_access(access: IssDataAbort) -> str:
    """Say what a load or store with a valid syndrome does."""
    if access.LST:
        return f"execute {meaning(IssDataAbort, 'LST', access.LST)}"
    count = 1 << access.SAS
    size = f"{count} byte{'s' if count > 1 else ''}"
    name = register(access.SRT, sixty_four=bool(access.SF))
    if access.WnR:
        return f"store {size} from {name}" + (", with release semantics" if access.AR else "")
    return (
        f"load {size} into {name}"
        + (", sign-extended" if access.SSE else "")
        + (", with acquire semantics" if access.AR else "")
    )


def _attempt(report: Report) -> str:
    """Say what the abort kept from happening."""
    abort = report.abort
    if not isinstance(abort, IssDataAbort):
        return "fetch an instruction"
    if abort.ISV:
        return _described_access(abort)
    if abort.S1PTW:
        return "access memory"  # WnR is the walk's: it tells nothing about the instruction
    if abort.CM:
        return "maintain a cache or translate an address"
    if report.status is not None and report.status.fault in UNKNOWN_DIRECTION:
        return "access memory"
    return "write to memory" if abort.WnR else "read from memory"


def _fault(report: Report) -> str:
    """Say what went wrong, at which stage and level."""
    if report.status is None:
        return "a fault with a reserved status code"
    stage = "" if report.stage is None else f"stage {report.stage} "
    return f"{stage}{report.status.description}"


def abort(report: Report) -> str:
    """Say who tried to do what, and what kept it from happening."""
    syndrome = report.abort
    assert syndrome is not None  # only aborts are sent here
    who = report.origin
    if isinstance(syndrome, IssDataAbort) and syndrome.VNCR:
        who = "A guest hypervisor at EL1, through VNCR_EL2,"
    walk = " on the stage 1 table walk" if syndrome.S1PTW else ""
    return f"{who} tried to {_attempt(report)}: {_fault(report)}{walk}{where(report)}"
