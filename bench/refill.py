"""A refill that the architectural TLB answers: the engine asks, no table is walked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import Binding, Native
from bench.guest import PAGES, Guest
from bench.programs import COUNT, READ_PAGES
from bench.rows import Reference, Row, Unit
from bench.timing import best_of
from emu.arch.address import PAGE_SIZE

if TYPE_CHECKING:
    from bench.timing import Scale

PAGE_COUNT: Final = 1024
"""More than the engine's own TLB keeps: each access asks for its page again."""
PASSES: Final = 40
LIMIT: Final = 3.0


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    passes = scale.of(PASSES)
    registers = {1: PAGES, 2: PAGE_SIZE, 3: PAGE_COUNT}
    guest = Guest(READ_PAGES, PAGE_COUNT)
    guest.run({**registers, COUNT: 1})  # the walks
    native, binding = Native(READ_PAGES, PAGE_COUNT), Binding(READ_PAGES, PAGE_COUNT)
    registers[COUNT] = passes
    before = guest.pe.mmu.hits
    guest.run(registers)
    refills = guest.pe.mmu.hits - before
    seconds = best_of(
        scale.rounds,
        lambda: guest.run(registers),
        lambda: native.run(registers),
        lambda: binding.run(registers),
    )
    here, raw, bound = (value / refills * 1e6 for value in seconds)
    return [
        Row(
            "refill, TLB hit",
            here,
            Unit.MICROSECONDS,
            (
                Reference("empty hook, C function", raw, LIMIT),
                Reference("empty hook, binding", bound, LIMIT),
            ),
        )
    ]
