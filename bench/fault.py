"""A stage-2 fault, from the guest's instruction to the next one, through the hypervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.guest import PAGES, Guest
from bench.programs import COUNT, TOUCH_PAGES
from bench.rows import Row, Unit
from bench.timing import best_of
from emu.arch.address import PAGE_SIZE

if TYPE_CHECKING:
    from bench.timing import Scale

PAGE_COUNT: Final = 4096
FIRST_TOUCH_LIMIT: Final = 25.0
HUGE_PAGE_COUNT: Final = 64
HUGE_PAGE: Final = 2 << 20


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    pages, huge = scale.of(PAGE_COUNT), scale.of(HUGE_PAGE_COUNT)
    logged = Guest(TOUCH_PAGES, pages, log_dirty=True)
    touch(logged, pages)
    first, block, again = best_of(
        scale.rounds,
        lambda: touch(Guest(TOUCH_PAGES, pages), pages),
        lambda: touch(Guest(TOUCH_PAGES, huge, backing=HUGE_PAGE), huge, HUGE_PAGE),
        lambda: _write_logged(logged, pages),
    )
    each = first / pages * 1e6
    return [
        Row("first write to a page", each, Unit.MICROSECONDS, limit=FIRST_TOUCH_LIMIT),
        Row("first write to 2 MiB", block / huge * 1e6, Unit.MICROSECONDS),
        Row("write to a logged page", again / pages * 1e6, Unit.MICROSECONDS),
    ]


def touch(guest: Guest, pages: int, step: int = PAGE_SIZE) -> float:
    """Have a guest write to each page; return the seconds."""
    return guest.run({1: PAGES, 2: step, COUNT: pages})


def _write_logged(guest: Guest, pages: int) -> float:
    """Have the guest write to pages that dirty logging has write-protected."""
    guest.vm.get_dirty_log(0)
    return touch(guest, pages)
