"""An interrupt from one vCPU to another and one back: two SGIs, each taken after a WFI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import Native
from bench.guest import GICD_CTLR, RAM, Guest
from bench.programs import COUNT, INTERRUPTS, SUPERVISOR_CALL
from bench.rows import Reference, Row, Unit
from bench.timing import best_of
from emu.arch.address import VA
from emu.arch.registers.exceptions import ELR_EL2
from lab.config import DEFAULT_QUANTUM
from lab.schedule import Schedule

if TYPE_CHECKING:
    from bench.timing import Scale
    from hyp.exits import Exit

TIMES: Final = 4000
FOR_EVER: Final = (1 << 64) - 1

_BUDGET: Final = 1 << 62


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    times = scale.of(TIMES)
    pair, native = Pair(), Native(SUPERVISOR_CALL)
    here, floor = best_of(scale.rounds, lambda: pair.exchange(times), lambda: native.leave(times))
    reference = Reference("leave and enter Unicorn", floor / times * 1e6)
    return [Row("SGI there and back", here / times * 1e6, Unit.MICROSECONDS, (reference,))]


def registers(index: int, times: int) -> dict[int, int]:
    """Return the registers of a vCPU: the first sends ``times`` SGIs, the second answers."""
    other = 1 - index
    return {5: 1 << other, 6: GICD_CTLR, 8: index, COUNT: FOR_EVER if index else times}


class Pair(Guest):
    """Two vCPUs with a GICv3, which run in turns as in ``stage2 run --smp 2``."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTS, cpus=2, gic=3)
        second = self.vcpus[1]
        second.write(ELR_EL2(VA(RAM + 4)))  # only the first parks
        for number, value in registers(1, 0).items():
            second.write_x(number, value)
        self._schedule = Schedule(self.vm, DEFAULT_QUANTUM, 0)

    def exchange(self, times: int) -> float:
        """Have so many SGIs sent and answered; return the seconds."""
        return self.run(registers(0, times))

    def _enter(self) -> Exit:
        return self._schedule.run(_BUDGET)
