"""The alarm of the real-time clock, which rises between two slices of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.units.clock import Clock
    from hyp.devices.pl031 import PL031


class Alarm:
    """Has a clock look at the time when its alarm is due.

    Parameters
    ----------
    clock : PL031
        The clock, on the machine's time.
    time : Clock
        The machine's time.
    retired : Callable[[], int]
        The instructions retired so far.
    """

    def __init__(self, clock: PL031, time: Clock, retired: Callable[[], int]) -> None:
        self._clock, self._time, self._retired = clock, time, retired

    @property
    def due(self) -> int | None:
        """The alarm, in instructions retired; None if none is set.

        The guest may wait meanwhile: then it comes after fewer.
        """
        due = self._clock.due
        return None if due is None else self._retired() + max(0, due - self._time.now)

    def act(self) -> None:
        """Raise the alarm."""
        self._clock.update()

    def wait(self) -> bool:
        """Let time pass to the alarm, because the guest waits; return whether one is set."""
        due = self._clock.due
        if due is None:
            return False
        self._time.wait_until(due)
        self.act()
        return True
