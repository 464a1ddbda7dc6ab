"""The time that all PEs share."""

from __future__ import annotations

import pytest

from emu.arch.registers.exceptions import ELR_EL2, SPSR_EL2
from emu.arch.registers.timer import CNTPCT_EL0, CNTVCT_EL0
from emu.cpu.pe import EL2Entry
from emu.units.clock import Clock
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL1H, Bare


class Run:
    """A PE that has retired so much."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight


def test_time_is_what_all_runs_retired_those_under_way_included() -> None:
    clock = Clock()
    assert clock.now == 0
    outer, inner = Run(3), Run(0)
    clock.begin(outer)
    assert clock.now == 3
    clock.begin(inner)  # EL2 runs another PE while it handles the trap of the first
    inner.in_flight = 10
    assert clock.now == 13
    clock.end(11)
    assert clock.now == 14
    outer.in_flight = 5
    assert clock.now == 16
    clock.end(6)
    assert (clock.now, clock.idle) == (17, 0)


def test_waiting_lets_time_pass_but_never_back() -> None:
    clock = Clock()
    clock.wait_until(100)
    assert (clock.now, clock.idle) == (100, 100)
    clock.wait_until(40)
    assert (clock.now, clock.idle) == (100, 100)
    clock.begin(Run(20))
    clock.wait_until(150)
    assert (clock.now, clock.idle) == (150, 130)
    clock.end(20)
    assert clock.now == 150


def two_pes(*words: int) -> Bare:
    bare = Bare(pe_count=2)
    bare.code(*words)
    for pe in bare.machine.pes:
        pe.write(ELR_EL2(CODE))
        pe.write(SPSR_EL2(EL1H))
    return bare


def test_the_counters_of_all_pes_agree_while_they_run_in_turns() -> None:
    bare = two_pes(*[a64.NOP] * 200)
    first, second = bare.machine.pes
    for pe, budget in ((first, 48), (second, 16), (first, 7), (second, 9)):
        before = first.time
        assert pe.run(budget) is EL2Entry.IRQ
        assert first.time == second.time == bare.machine.clock.now == before + budget
        assert first.read(CNTPCT_EL0) == second.read(CNTPCT_EL0) == bare.machine.clock.now // 16
    assert (first.retired, second.retired) == (55, 25)


@pytest.mark.parametrize("turn", [1, 5, 16])
def test_what_a_pe_has_read_of_the_time_another_never_sees_at_an_earlier_one(turn: int) -> None:
    bare = two_pes(a64.mrs(1, CNTVCT_EL0), *[a64.NOP] * 14, a64.b(-15 * 4))
    seen = 0
    for number in range(60):
        pe = bare.machine.pes[number % 2]
        pe.write_x(1, 0)
        pe.run(turn)
        read = pe.read_x(1)
        assert not read or read >= seen
        seen = read or seen
    assert seen


def test_idle_time_of_one_pe_is_the_time_of_all() -> None:
    bare = two_pes(a64.NOP)
    first, second = bare.machine.pes
    bare.machine.clock.wait_until(160)
    assert first.read(CNTPCT_EL0) == second.read(CNTPCT_EL0) == 10
    assert (first.retired, second.retired) == (0, 0)
