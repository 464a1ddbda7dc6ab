"""The event stream: who hears of what the hypervisor does.

Recording is off until somebody subscribes; a place that records reads ``events.emit``
once and compares it with ``None``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.events import Event


class Events:
    """The place where events are given out.

    Attributes
    ----------
    emit
        Takes an event; ``None`` while nobody listens.
    """

    __slots__ = ("_listeners", "emit")

    NOT_STATE: ClassVar = frozenset({"_listeners", "emit"})

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Event], None], ...] = ()
        self.emit: Callable[[Event], None] | None = None

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event from now on, in the order of subscription."""
        self._listeners = (*self._listeners, listener)
        self._rewire()

    def unsubscribe(self, listener: Callable[[Event], None]) -> None:
        """Stop calling ``listener``.

        Raises
        ------
        ValueError
            If it is not subscribed.
        """
        kept = list(self._listeners)
        kept.remove(listener)
        self._listeners = tuple(kept)
        self._rewire()

    def _rewire(self) -> None:
        if not self._listeners:
            self.emit = None
        elif len(self._listeners) == 1:
            self.emit = self._listeners[0]
        else:
            self.emit = self._broadcast

    def _broadcast(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
