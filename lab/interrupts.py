"""Ctrl-C while the guest runs.

The execution engine must not be left in the middle of what it does, so the signal
only sets a flag; the monitor looks at it between two slices of the run.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@dataclass(slots=True)
class Interrupt:
    """Whether the user pressed Ctrl-C."""

    NOT_STATE: ClassVar = frozenset({"requested"})

    requested: bool = False


@contextmanager
def catch_interrupt(
    interrupt: Interrupt, on_request: Callable[[], None] | None = None
) -> Iterator[None]:
    """Catch SIGINT within the block; the handler that was there comes back behind it.

    Outside the main thread signals cannot be caught: the flag then stays as it is.

    Parameters
    ----------
    interrupt : Interrupt
        The flag to set.
    on_request : Callable[[], None] or None
        Called by the signal handler, between two steps of whatever runs; it must only
        arrange something for later.
    """

    def handler(_signal: int, _frame: FrameType | None) -> None:
        interrupt.requested = True
        if on_request is not None:
            on_request()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
