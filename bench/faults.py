"""Fault injection: what it costs while it waits, and how fast campaigns are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.guest import DATA, PAGES, Guest
from bench.programs import COUNT, LOAD_STORE, READ_PAGES
from bench.rows import Reference, Row, Unit
from bench.timing import clock, median_of
from emu.arch.address import PAGE_SIZE
from lab.campaign.planning import plan_campaign
from lab.campaign.prepare import prepare
from lab.campaign.read import read_campaign
from lab.campaign.shipped import find_campaign
from lab.faults.injector import Injector
from lab.faults.models.registers import RegisterFlip
from lab.faults.planned import PlannedFault
from lab.faults.triggers.retired import Retired

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.timing import Scale

IDLE_LIMIT: Final = 1.03
"""Of what the same takes without fault injection."""
RUNS_LIMIT: Final = 250.0
"""A second, on one CPU."""
CAMPAIGN: Final = "checksum"
RUNS: Final = 400
_NEVER: Final = 1 << 60
_ROUNDS: Final = 101
"""Turns: a difference of a few hundredths shows in the median of many only."""
_ITERATIONS: Final = 750_000
_PAGES: Final = 1024
_PASSES: Final = 5


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    loop = Guest(LOAD_STORE)
    loop_registers = {1: DATA, COUNT: _ITERATIONS}
    refill = Guest(READ_PAGES, _PAGES)
    refill_registers = {1: PAGES, 2: PAGE_SIZE, 3: _PAGES, COUNT: _PASSES}
    return [
        _idle("load/store loop, injector armed", loop, lambda: loop.run(loop_registers)),
        _idle("refills, injector armed", refill, lambda: refill.run(refill_registers)),
        _campaign(scale),
    ]


def _idle(name: str, guest: Guest, run: Callable[[], float]) -> Row:
    """Time the same with and without an injector whose fault does not come."""
    injector = Injector(
        guest.vm, [PlannedFault(Retired(_NEVER), RegisterFlip(register="x0", bit=0))]
    )

    def armed() -> float:
        with injector:
            return run()

    run()
    with_it, without = median_of(_ROUNDS, armed, run)
    reference = Reference("no injector", without * 1e6, IDLE_LIMIT)
    return Row(name, with_it * 1e6, Unit.MICROSECONDS, (reference,))


def _campaign(scale: Scale) -> Row:
    """Time runs of a campaign in one process."""
    prepared = prepare(read_campaign(find_campaign(CAMPAIGN)))
    plan = plan_campaign(prepared)
    runner = prepared.runner()
    count = min(len(plan.experiments), max(20, scale.of(RUNS)))
    started = clock()
    for number in range(count):
        runner.run(plan.experiments[number])
    return Row(
        f"runs of the campaign {CAMPAIGN}, one CPU",
        count / (clock() - started),
        Unit.RUNS,
        limit=RUNS_LIMIT,
    )
