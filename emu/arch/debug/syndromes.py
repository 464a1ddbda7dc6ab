"""Syndromes of debug exceptions (Arm ARM, ESR_ELx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.esr.build import syndrome
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.iss import IssBreakpoint, IssSoftwareStep, IssWatchpoint

if TYPE_CHECKING:
    from emu.arch.registers.exceptions import ExceptionSyndrome

_DEBUG: Final = 0x22
"""The fault status of a debug exception. In aborts the code means something else."""


def breakpoint_syndrome(*, same_el: bool) -> ExceptionSyndrome:
    """Return the ESR value of a breakpoint exception."""
    ec = ExceptionClass.BREAKPT_CUR if same_el else ExceptionClass.BREAKPT_LOW
    return syndrome(ec, IssBreakpoint.build(IFSC=_DEBUG))


def watchpoint_syndrome(*, same_el: bool, write: bool, CM: bool) -> ExceptionSyndrome:
    """Return the ESR value of a watchpoint exception; CM is for cache maintenance."""
    ec = ExceptionClass.WATCHPT_CUR if same_el else ExceptionClass.WATCHPT_LOW
    return syndrome(ec, IssWatchpoint.build(CM=CM, WnR=write, DFSC=_DEBUG))


def step_syndrome(*, same_el: bool, stepped_exclusive: bool | None) -> ExceptionSyndrome:
    """Return the ESR value of a software step exception.

    Parameters
    ----------
    same_el
        Whether it is taken without a change of Exception level.
    stepped_exclusive
        Whether the instruction that was stepped is a load-exclusive; None if none was stepped.
    """
    ec = ExceptionClass.SOFTSTP_CUR if same_el else ExceptionClass.SOFTSTP_LOW
    iss = IssSoftwareStep.build(
        ISV=stepped_exclusive is not None, EX=bool(stepped_exclusive), IFSC=_DEBUG
    )
    return syndrome(ec, iss)
