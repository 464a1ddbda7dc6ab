"""What it costs to listen: the guest of the fault benchmark with its events recorded."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from bench.fault import touch
from bench.guest import Guest
from bench.programs import TOUCH_PAGES
from bench.rows import Reference, Row, Unit
from bench.timing import best_of
from lab.trace import JsonTrace, TextTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.timing import Scale
    from hyp.events import Event

PAGE_COUNT: Final = 2048

LISTENERS: Final[dict[str, Callable[[], Callable[[Event], None]]]] = {
    "fault, events to a list": lambda: _list().append,
    "fault, events to text": lambda: TextTrace(io.StringIO()),
    "fault, events to JSON": lambda: JsonTrace(io.StringIO()),
}


def _list() -> list[Event]:
    return []


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    pages = scale.of(PAGE_COUNT)

    def recorded(listener: Callable[[Event], None]) -> float:
        guest = Guest(TOUCH_PAGES, pages)
        guest.vm.events.subscribe(listener)
        return touch(guest, pages)

    off, *on = best_of(
        scale.rounds,
        lambda: touch(Guest(TOUCH_PAGES, pages), pages),
        *(lambda new=new: recorded(new()) for new in LISTENERS.values()),
    )
    reference = Reference("events off", off / pages * 1e6)
    return [
        Row(name, value / pages * 1e6, Unit.MICROSECONDS, (reference,))
        for name, value in zip(LISTENERS, on, strict=True)
    ]
