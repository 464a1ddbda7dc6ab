"""The alarm of the real-time clock, which rises between two slices of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.devices.pl031 import PL031


class Alarm:
    """Has a clock look at the time when its alarm is due.

    Parameters
    ----------
    clock : PL031
        The clock, on the machine's time.
    time : Callable[[], int]
        The machine's time, in instructions, time that the guest waited included.
    retired : Callable[[], int]
        The instructions retired so far.
    wait_until : Callable[[int], None]
        Lets the machine's time pass up to a moment.
    """

    def __init__(
        self,
        clock: PL031,
        time: Callable[[], int],
        retired: Callable[[], int],
        wait_until: Callable[[int], None],
    ) -> None:
        self._clock, self._time, self._retired = clock, time, retired
        self._wait_until = wait_until

    @property
    def due(self) -> int | None:
        """The alarm, in instructions retired; None if none is set.

        The guest may wait meanwhile: then it comes after fewer.
        """
        due = self._clock.due
        return None if due is None else self._retired() + max(0, due - self._time())

    def act(self) -> None:
        """Raise the alarm."""
        self._clock.update()

    def wait(self) -> bool:
        """Let time pass until the alarm, because the guest waits; return whether one is set."""
        due = self._clock.due
        if due is None:
            return False
        self._wait_until(due)
        self._clock.update()
        return True
