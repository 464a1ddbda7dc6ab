"""A stage-2 fault, from the guest's instruction to the next one, through the hypervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.guest import PAGES, Guest
from bench.programs import COUNT, TOUCH_PAGES
from bench.rows import Reference, Row, Unit
from bench.timing import best_of
from emu.arch.address import PAGE_SIZE

if TYPE_CHECKING:
    from bench.timing import Scale

PAGE_COUNT: Final = 4096
FIRST_TOUCH_LIMIT: Final = 25.0
RECORDED_KVM: Final = 63.0
"""us a fault in kvm_page_table_test: Linux KVM as a guest of QEMU TCG, measured once."""


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    pages = scale.of(PAGE_COUNT)
    logged = Guest(TOUCH_PAGES, pages, log_dirty=True)
    touch(logged, pages)
    first, again = best_of(
        scale.rounds,
        lambda: touch(Guest(TOUCH_PAGES, pages), pages),
        lambda: _write_logged(logged, pages),
    )
    recorded = Reference("KVM in QEMU TCG, recorded", RECORDED_KVM)
    return [
        Row(
            "first write to a page",
            first / pages * 1e6,
            Unit.MICROSECONDS,
            (recorded,),
            FIRST_TOUCH_LIMIT,
        ),
        Row("write to a logged page", again / pages * 1e6, Unit.MICROSECONDS),
    ]


def touch(guest: Guest, pages: int) -> float:
    """Have a guest write to each page; return the seconds."""
    return guest.run({1: PAGES, 2: PAGE_SIZE, COUNT: pages})


def _write_logged(guest: Guest, pages: int) -> float:
    """Have the guest write to pages that dirty logging has write-protected."""
    guest.vm.get_dirty_log(0)
    return touch(guest, pages)
