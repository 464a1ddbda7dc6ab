"""The PL031 real-time clock (Arm DDI 0224).

It counts the seconds of the machine's time, from a date that is chosen with the machine: the
host's clock is not looked at.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from hyp.devices.primecell import SIZE, identification

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PL031", "SIZE", "Register"]

SECOND: Final = 10**9
"""Of the machine's time, which is counted in instructions."""

_PERIPHERAL: Final = (0x31, 0x10, 0x04, 0x00)
_MASK: Final = 0xFFFF_FFFF


class Register(IntEnum):
    """Register offsets."""

    DR = 0x000
    MR = 0x004
    LR = 0x008
    CR = 0x00C
    IMSC = 0x010
    RIS = 0x014
    MIS = 0x018
    ICR = 0x01C


class PL031:
    """A real-time clock.

    Software finds it running, as a firmware leaves it: CR reads as one, and it cannot be stopped.

    Parameters
    ----------
    now
        Returns the machine's time, in instructions.
    base
        What the clock shows at time 0, in seconds since 1970.
    interrupt
        Called with the level of the interrupt line whenever it changes.
    """

    def __init__(
        self,
        now: Callable[[], int],
        base: int,
        interrupt: Callable[[bool], None] | None = None,
    ) -> None:
        self._now = now
        self._interrupt = interrupt
        self._offset = base
        self._load = base & _MASK
        self._match = 0
        self._mask = 0
        self._raw = 0
        self._level = False
        self._alarm = self._next_match()

    @property
    def due(self) -> int | None:
        """The time in instructions at which the line rises by itself; None if it does not."""
        return self._alarm * SECOND if self._mask and not self._raw else None

    def update(self) -> None:
        """Take note of the time: raise the interrupt if the count has reached the match."""
        if self._seconds() >= self._alarm:
            self._raw = 1
            self._alarm = self._next_match()
        level = bool(self._raw & self._mask)
        if level != self._level:
            self._level = level
            if self._interrupt is not None:
                self._interrupt(level)

    def read(self, offset: int, length: int) -> int:
        """Return a register; reserved space and write-only registers read as zero."""
        del length
        self.update()
        match offset:
            case Register.DR:
                return self._count()
            case Register.MR:
                return self._match
            case Register.LR:
                return self._load
            case Register.CR:
                return 1
            case Register.IMSC:
                return self._mask
            case Register.RIS:
                return self._raw
            case Register.MIS:
                return self._raw & self._mask
        return identification(_PERIPHERAL, offset) or 0

    def write(self, offset: int, length: int, value: int) -> None:
        """Write a register; writes to read-only and reserved ones are ignored."""
        del length
        self.update()
        value &= _MASK
        match offset:
            case Register.MR:
                self._match = value
                self._alarm = self._seconds() + self._until_match()
            case Register.LR:
                self._load = value
                self._offset = value - self._seconds()
                self._alarm = self._seconds() + self._until_match()
            case Register.IMSC:
                self._mask = value & 1
            case Register.ICR:
                self._raw &= ~value
        self.update()

    def _seconds(self) -> int:
        return self._now() // SECOND

    def _count(self) -> int:
        return self._offset + self._seconds() & _MASK

    def _next_match(self) -> int:
        """Return the second at which the count will be equal to the match value, again."""
        return self._seconds() + (self._until_match() or _MASK + 1)

    def _until_match(self) -> int:
        """Return the seconds after which the count will be equal to the match value."""
        return self._match - self._count() & _MASK
