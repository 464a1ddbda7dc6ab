"""What the debug registers hold and how they are read and written (Arm ARM D19.3).

There is no external debugger: the debug communications channel is always empty, and what is
written to it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.debug import (
    DBGAUTHSTATUS_EL1,
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGCLAIMCLR_EL1,
    DBGCLAIMSET_EL1,
    DBGDTR_EL0,
    DBGDTRRX_EL0,
    DBGPRCR_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDCCINT_EL1,
    MDCCSR_EL0,
    MDRAR_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSDTRRX_EL1,
    OSDTRTX_EL1,
    OSECCR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.identification import ID_AA64DFR0_EL1

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import SystemRegister

OP0: Final = 2
"""op0 of MRS and MSR for debug registers, and those of trace that the machine lacks."""

OSLSR_RESET: Final = OSLSR_EL1.build(OSLM1=1, OSLK=1)
"""There is an OS lock, and it is set."""

WRITE_ONLY: Final = frozenset({OSLAR_EL1})
READ_ONLY: Final = frozenset({OSLSR_EL1, MDRAR_EL1, DBGAUTHSTATUS_EL1, MDCCSR_EL0})

_ALWAYS_EMPTY: Final = frozenset({OSECCR_EL1, DBGDTR_EL0, DBGDTRRX_EL0})
"""Reads as zero, writes are ignored."""

_OSLK: Final = OSLSR_EL1.OSLK.in_place
_CLAIM_TAGS: Final = DBGCLAIMSET_EL1.CLAIM.in_place

MDSCR_WRITABLE: Final = (
    MDSCR_EL1.MDE.in_place
    | MDSCR_EL1.KDE.in_place
    | MDSCR_EL1.TDCC.in_place
    | MDSCR_EL1.SS.in_place
)
_MDSCR_LOCKED: Final = MDSCR_WRITABLE | (
    MDSCR_EL1.RXfull.in_place
    | MDSCR_EL1.TXfull.in_place
    | MDSCR_EL1.RXO.in_place
    | MDSCR_EL1.TXU.in_place
    | MDSCR_EL1.INTdis.in_place
    | MDSCR_EL1.TDA.in_place
    | MDSCR_EL1.HDE.in_place
    | MDSCR_EL1.ERR.in_place
)
"""What can be written while the OS lock is set, for software that restores a debugger's state."""


def _named(register: type[SystemRegister]) -> int:
    mask = 0
    for field in register.FIELDS.values():
        mask |= field.in_place
    return mask


_WRITABLE: Final[dict[type[SystemRegister], int]] = {
    register: _named(register)
    for register in (
        *DBGBCR_EL1,
        *DBGWCR_EL1,
        *DBGWVR_EL1,
        MDCCINT_EL1,
        OSDTRRX_EL1,
        OSDTRTX_EL1,
        OSDLR_EL1,
        DBGPRCR_EL1,
    )
} | dict.fromkeys(DBGBVR_EL1, (1 << 64) - 1)
"""The bits that registers keep which do nothing but keep them."""

_NUMBERED: Final = {
    register: (number, family)
    for family, registers in (
        (ID_AA64DFR0_EL1.BRPs, (DBGBVR_EL1, DBGBCR_EL1)),
        (ID_AA64DFR0_EL1.WRPs, (DBGWVR_EL1, DBGWCR_EL1)),
    )
    for row in registers
    for number, register in enumerate(row)
}
_OTHERS: Final = frozenset(
    {
        *WRITE_ONLY,
        *READ_ONLY,
        *_ALWAYS_EMPTY,
        *(_WRITABLE.keys() - _NUMBERED.keys()),
        MDSCR_EL1,
        DBGCLAIMSET_EL1,
        DBGCLAIMCLR_EL1,
    }
)


def is_implemented(register: type[SystemRegister], dfr0: ID_AA64DFR0_EL1) -> bool:
    """Whether a CPU has a debug register; ID_AA64DFR0_EL1 numbers breakpoints and watchpoints."""
    if register in _NUMBERED:
        number, field = _NUMBERED[register]
        return number <= field.decode(dfr0)
    return register in _OTHERS


def stored(
    register: type[SystemRegister], value: int, held: Callable[[type[SystemRegister]], int]
) -> tuple[type[SystemRegister], int]:
    """Return which register a write changes, and what it then holds.

    Parameters
    ----------
    register
        What is written.
    value
        What with.
    held
        What a register holds before.
    """
    if register is OSLAR_EL1:
        locked = _OSLK if value & OSLAR_EL1.OSLK.in_place else 0
        return OSLSR_EL1, held(OSLSR_EL1) & ~_OSLK | locked
    if register is MDSCR_EL1:
        mask = _MDSCR_LOCKED if held(OSLSR_EL1) & _OSLK else MDSCR_WRITABLE
        return register, held(register) & ~mask | value & mask
    if register is DBGCLAIMSET_EL1:
        return DBGCLAIMCLR_EL1, held(DBGCLAIMCLR_EL1) | value & _CLAIM_TAGS
    if register is DBGCLAIMCLR_EL1:
        return register, held(register) & ~value
    return register, value & _WRITABLE.get(register, 0)


def shown(register: type[SystemRegister], held: Callable[[type[SystemRegister]], int]) -> int:
    """Return what a read of a register gives; ``held`` as for :func:`stored`."""
    return _CLAIM_TAGS if register is DBGCLAIMSET_EL1 else held(register)
