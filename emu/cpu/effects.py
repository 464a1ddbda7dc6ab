"""What follows when EL2, or EL1 itself, has written a system register.

The engine, and what was decoded or planned from registers, have to follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.stack import SP_ALIGNMENT
from emu.arch.registers.exceptions import SP_EL0, SP_EL1
from emu.arch.registers.timer import CNTHCTL_EL2, CNTPCT_EL0, CNTVCT_EL0, CNTVOFF_EL2
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu import interrupts
from emu.cpu.debug import DEBUG_REGISTERS
from emu.cpu.registers import TRANSLATION_CONTROLS
from emu.cpu.sysfilter import SystemCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement

_STACK_POINTERS: Final = frozenset({SP_EL0, SP_EL1})
_COUNTER_CONTROLS: Final = frozenset({CNTHCTL_EL2, CNTVOFF_EL2})
_ONLY_HCR: Final = (HCR_EL2,)
_TDZ: Final = HCR_EL2.TDZ.in_place

CONTROLS: Final = TRANSLATION_CONTROLS | DEBUG_REGISTERS | _STACK_POINTERS | _COUNTER_CONTROLS
"""Registers from which something follows, beside those of the units."""


def follow(
    pe: ProcessingElement,
    registers: tuple[type[SystemRegister], ...],
    values: Sequence[int],
    old_hcr: int,
) -> None:
    """Do what follows from the writing of system registers.

    Parameters
    ----------
    pe
        The PE that they are of.
    registers, values
        What EL2 has written.
    old_hcr
        HCR_EL2 before.
    """
    if not TRANSLATION_CONTROLS.isdisjoint(registers):
        hcr = pe.registers.el2(HCR_EL2)
        pe.blocks.pending = interrupts.pending(hcr)
        if registers != _ONLY_HCR or (hcr ^ old_hcr) & ~interrupts.MADE_PENDING:
            pe.controls_changed()
        if (hcr ^ old_hcr) & _TDZ:
            pe.changed_code.look_again(None)
    if not DEBUG_REGISTERS.isdisjoint(registers):
        pe.debug.stale = True
    if not pe.timer.registers.isdisjoint(registers):
        timer_changed(pe)
    if not _COUNTER_CONTROLS.isdisjoint(registers):
        counters_changed(pe)
    if not pe.pmu.registers.isdisjoint(registers):
        monitors_changed(pe)
    for register, value in zip(registers, values, strict=True):
        if value % SP_ALIGNMENT and register in _STACK_POINTERS:
            pe.strictness.stack_misaligned()


def timer_changed(pe: ProcessingElement) -> None:
    """Note that a timer may interrupt at another time: the run under way is planned again."""
    if pe.execution.running and pe.timer.interrupting:
        pe.execution.timer_changed = True


def monitors_changed(pe: ProcessingElement) -> None:
    """Note that a counter may overflow at another time, or count other events: likewise."""
    if pe.execution.running:
        pe.execution.timer_changed = True
    pe.strictness.choose()


def counters_changed(pe: ProcessingElement) -> None:
    """Have EL1 read the counters without Python, as far as EL2 does not trap that."""
    offset = pe.registers.read(CNTVOFF_EL2)
    trapped = not pe.registers.el2(CNTHCTL_EL2) & CNTHCTL_EL2.EL1PCTEN.in_place
    pe.engine.answer(SystemCounter.VIRTUAL, CNTVCT_EL0.encoding, int(offset))
    pe.engine.answer(SystemCounter.PHYSICAL, CNTPCT_EL0.encoding, None if trapped else 0)
