"""The generic timer of one PE, on deterministic time (Arm ARM D12).

Time is counted in retired instructions; the counter ticks once every
:data:`INSTRUCTIONS_PER_TICK` of them. It never looks at a host clock.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.registers.timer import (
    CNTFRQ_EL0,
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTPCTSS_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTV_TVAL_EL0,
    CNTVCT_EL0,
    CNTVCTSS_EL0,
    CNTVOFF_EL2,
    TimerControl,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import SystemRegister

FREQUENCY: Final = 62_500_000
"""CNTFRQ_EL0 in Hz, QEMU's value for its virt machine."""

INSTRUCTIONS_PER_TICK: Final = 16
"""One instruction a nanosecond: 10**9 / :data:`FREQUENCY`."""

_MASK64: Final = (1 << 64) - 1
_ENABLE: Final = TimerControl.ENABLE.in_place
_IMASK: Final = TimerControl.IMASK.in_place
_ISTATUS: Final = TimerControl.ISTATUS.in_place


class TimerLine(IntFlag):
    """The timers of EL1, by the line with which each asks for an interrupt."""

    VIRTUAL = 1
    PHYSICAL = 2


class _Comparator:
    """One timer: a compare value and a control register over some count."""

    def __init__(self) -> None:
        self.control = 0
        self.compare = 0

    def read_control(self, count: Callable[[], int]) -> int:
        fired = self.control & _ENABLE and count() >= self.compare
        return self.control | (_ISTATUS if fired else 0)

    def due(self) -> int | None:
        """Return the count at which the timer asserts its interrupt, or None if it will not."""
        return self.compare if self.control & (_ENABLE | _IMASK) == _ENABLE else None


class GenericTimer:
    """The counters and the EL1 virtual and physical timers.

    Parameters
    ----------
    now
        Returns the time, in retired instructions (idle time included).

    Attributes
    ----------
    registers
        Those that live here.
    interrupting
        The lines that interrupt the PE: those that its interrupt controller passes on.
    """

    NOT_STATE: ClassVar = frozenset({"_readers"})

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._virtual = _Comparator()
        self._physical = _Comparator()
        self._offset = 0
        self.interrupting = TimerLine(0)
        self._readers: dict[type[SystemRegister], Callable[[], int]] = {
            CNTFRQ_EL0: lambda: FREQUENCY,
            CNTPCT_EL0: self.physical_count,
            CNTPCTSS_EL0: self.physical_count,
            CNTVCT_EL0: self.virtual_count,
            CNTVCTSS_EL0: self.virtual_count,
            CNTVOFF_EL2: lambda: self._offset,
            CNTV_CTL_EL0: lambda: self._virtual.read_control(self.virtual_count),
            CNTV_CVAL_EL0: lambda: self._virtual.compare,
            CNTV_TVAL_EL0: lambda: self._virtual.compare - self.virtual_count() & 0xFFFF_FFFF,
            CNTP_CTL_EL0: lambda: self._physical.read_control(self.physical_count),
            CNTP_CVAL_EL0: lambda: self._physical.compare,
            CNTP_TVAL_EL0: lambda: self._physical.compare - self.physical_count() & 0xFFFF_FFFF,
        }

        self.registers = frozenset(self._readers)

    def physical_count(self) -> int:
        """CNTPCT_EL0."""
        return self._now() // INSTRUCTIONS_PER_TICK

    def virtual_count(self) -> int:
        """CNTVCT_EL0: the physical count less CNTVOFF_EL2."""
        return self.physical_count() - self._offset & _MASK64

    def handles(self, register: type[SystemRegister]) -> bool:
        """Whether ``register`` lives here."""
        return register in self._readers

    def read(self, register: type[SystemRegister]) -> int:
        """Read one of the timer's registers."""
        return self._readers[register]()

    def write(self, register: type[SystemRegister], value: int) -> None:
        """Write one of the timer's registers; the counters themselves are read-only."""
        if register is CNTVOFF_EL2:
            self._offset = value
        elif register in {CNTV_CTL_EL0, CNTP_CTL_EL0}:
            self._comparator(register).control = value & (_ENABLE | _IMASK)
        elif register in {CNTV_CVAL_EL0, CNTP_CVAL_EL0}:
            self._comparator(register).compare = value
        elif register is CNTV_TVAL_EL0:
            self._virtual.compare = self.virtual_count() + _signed32(value) & _MASK64
        elif register is CNTP_TVAL_EL0:
            self._physical.compare = self.physical_count() + _signed32(value) & _MASK64

    def _comparator(self, register: type[SystemRegister]) -> _Comparator:
        virtual = register in {CNTV_CTL_EL0, CNTV_CVAL_EL0}
        return self._virtual if virtual else self._physical

    def next_event(self, lines: TimerLine) -> int | None:
        """Return when the first of some timers asks for an interrupt; None if none will.

        Times are in instructions. One in the past means that a line is asserted now.
        """
        virtual, physical = self._virtual.due(), self._physical.due()
        if virtual is None and physical is None:
            return None
        now = self.physical_count()
        left = []
        if virtual is not None and TimerLine.VIRTUAL in lines:
            left.append(virtual - self.virtual_count())
        if physical is not None and TimerLine.PHYSICAL in lines:
            left.append(physical - now)
        return (now + max(0, min(left))) * INSTRUCTIONS_PER_TICK if left else None

    def next_interrupt(self) -> int | None:
        """Return when a timer next interrupts the PE; None if none will."""
        return self.next_event(self.interrupting) if self.interrupting else None


def _signed32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (value >> 31 << 32)
