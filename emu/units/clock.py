"""The time of a machine, which all of its PEs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Run(Protocol):
    """A PE that executes."""

    @property
    def in_flight(self) -> int:
        """Instructions that it has retired in the run that is under way."""


class Clock:
    """Time: the instructions that all PEs have retired, and the time in which none ran.

    PEs run in turns. With one clock for all, what one of them writes after it has looked at
    the time is never seen by another at an earlier time.

    Attributes
    ----------
    idle
        The time in which all PEs waited, in instructions.
    """

    __slots__ = ("_past", "_running", "idle")

    def __init__(self) -> None:
        self._past = 0
        self._running: Sequence[Run] = ()
        self.idle = 0

    @property
    def now(self) -> int:
        """The time, in instructions."""
        now = self._past
        for run in self._running:
            now += run.in_flight
        return now

    @property
    def retired(self) -> int:
        """The instructions that all PEs have retired."""
        return self.now - self.idle

    def begin(self, run: Run) -> None:
        """Count what a PE retires from now on. EL2 may run a PE while it handles another's trap."""
        self._running = (*self._running, run)

    def end(self, retired: int) -> None:
        """End the run that began last, in which so many instructions retired."""
        self._running = self._running[:-1]
        self._past += retired

    def wait_until(self, due: int) -> None:
        """Let time pass while nothing executes."""
        waited = max(0, due - self.now)
        self._past += waited
        self.idle += waited
