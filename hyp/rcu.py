"""Deferred freeing: what a reader may still look at is kept until it has gone (RCU).

A shared walker that was overtaken may stand in a table that has been taken out. It
reads entries that nobody uses any more, and stores, at worst, into one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Rcu:
    """Readers, and what waits for them.

    The grace period lasts until there is no reader at all, which is at least as
    long as it has to be.

    Attributes
    ----------
    readers
        How many read sections are open.
    """

    __slots__ = ("_waiting", "readers")

    def __init__(self) -> None:
        self.readers = 0
        self._waiting: list[Callable[[], None]] = []

    def read_lock(self) -> None:
        """Open a read section."""
        self.readers += 1

    def read_unlock(self) -> None:
        """Close a read section; after the last, do what has been waiting."""
        self.readers -= 1
        if self._waiting and not self.readers:
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                callback()

    def call(self, callback: Callable[[], None]) -> None:
        """Call back when no reader is left (``call_rcu``): at once, if there is none."""
        if self.readers:
            self._waiting.append(callback)
        else:
            callback()
