"""When debug exceptions are enabled, and PSTATE.SS (Arm ARM D2.2, D2.11).

BRK is not concerned: it is always enabled.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.registers.debug import MDSCR_EL1
from emu.arch.registers.exceptions import PSTATE

SS: Final = PSTATE.SS.in_place
_D: Final = PSTATE.D.in_place
_STEP: Final = MDSCR_EL1.SS.in_place
_KERNEL: Final = MDSCR_EL1.KDE.in_place


class DebugControls(NamedTuple):
    """The registers that decide."""

    mdscr: int
    """MDSCR_EL1."""
    locked: bool
    """Whether the OS lock or the OS double lock is set."""
    to_el2: bool
    """MDCR_EL2.TDE or HCR_EL2.TGE: debug exceptions are taken to EL2."""

    @property
    def target(self) -> int:
        """The Exception level that debug exceptions are taken to: 1 or 2."""
        return 2 if self.to_el2 else 1


def is_enabled(controls: DebugControls, pstate: int) -> bool:
    """Whether a PE in ``pstate`` takes debug exceptions (``GenerateDebugExceptionsFrom``)."""
    if controls.locked:
        return False
    el = pstate >> 2 & 3
    if el == controls.target:
        return bool(controls.mdscr & _KERNEL) and not pstate & _D
    return el < controls.target


def is_stepping(controls: DebugControls, pstate: int) -> bool:
    """Whether software step is active in ``pstate``: not pending with PSTATE.SS, else pending."""
    return bool(controls.mdscr & _STEP) and is_enabled(controls, pstate)


def ss_after_return(controls: DebugControls, pstate: int, spsr: int) -> int:
    """Return PSTATE.SS, in place, after an exception return (``DebugExceptionReturnSS``).

    Parameters
    ----------
    controls
        At the return.
    pstate
        The state in which it is executed.
    spsr
        The state that it returns to.
    """
    stays_off = not controls.mdscr & _STEP or is_enabled(controls, pstate)
    return 0 if stays_off or not is_enabled(controls, spsr) else spsr & SS
