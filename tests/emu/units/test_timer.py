"""The generic timer on a clock that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.registers.control import TPIDR_EL1
from emu.arch.registers.timer import (
    CNTFRQ_EL0,
    CNTKCTL_EL1,
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTV_TVAL_EL0,
    CNTVCT_EL0,
    CNTVOFF_EL2,
)
from emu.units.timer import FREQUENCY, INSTRUCTIONS_PER_TICK, GenericTimer, TimerLine

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

ENABLE, IMASK, ISTATUS = 1, 2, 4
BOTH_LINES: Final = TimerLine.VIRTUAL | TimerLine.PHYSICAL
ALL_ONES: Final = (1 << 64) - 1


class Registers(NamedTuple):
    """The registers of one of the two timers."""

    control: type[SystemRegister]
    compare: type[SystemRegister]
    value: type[SystemRegister]
    count: type[SystemRegister]


VIRTUAL: Final = Registers(CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTV_TVAL_EL0, CNTVCT_EL0)
PHYSICAL: Final = Registers(CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTP_TVAL_EL0, CNTPCT_EL0)
BOTH = pytest.mark.parametrize("registers", [VIRTUAL, PHYSICAL], ids=["virtual", "physical"])


class Clock:
    """Time in ticks, and the timer that runs on it."""

    def __init__(self) -> None:
        self.instructions = 0
        self.timer = GenericTimer(lambda: self.instructions)

    def at(self, ticks: int) -> GenericTimer:
        """Move time."""
        self.instructions = ticks * INSTRUCTIONS_PER_TICK
        return self.timer


@pytest.fixture
def clock() -> Clock:
    """Return a clock at zero."""
    return Clock()


def test_one_instruction_takes_a_nanosecond() -> None:
    assert FREQUENCY * INSTRUCTIONS_PER_TICK == 10**9
    assert Clock().timer.read(CNTFRQ_EL0) == 62_500_000


@pytest.mark.parametrize(("instructions", "ticks"), [(0, 0), (15, 0), (16, 1), (31, 1), (32, 2)])
def test_counter_ticks_every_16_instructions(clock: Clock, instructions: int, ticks: int) -> None:
    clock.instructions = instructions
    assert clock.timer.read(CNTPCT_EL0) == clock.timer.read(CNTVCT_EL0) == ticks


def test_offset_moves_the_virtual_counter_only(clock: Clock) -> None:
    timer = clock.at(100)
    timer.write(CNTVOFF_EL2, 30)
    assert [timer.read(r) for r in (CNTPCT_EL0, CNTVCT_EL0, CNTVOFF_EL2)] == [100, 70, 30]


def test_virtual_counter_wraps(clock: Clock) -> None:
    timer = clock.at(1)
    timer.write(CNTVOFF_EL2, 3)
    assert timer.read(CNTVCT_EL0) == ALL_ONES - 1


@BOTH
def test_status_is_set_from_the_compare_value_on(clock: Clock, registers: Registers) -> None:
    timer = clock.at(0)
    timer.write(registers.compare, 50)
    timer.write(registers.control, ENABLE)
    assert clock.at(49).read(registers.control) == ENABLE
    assert clock.at(50).read(registers.control) == ENABLE | ISTATUS
    assert clock.at(51).read(registers.control) == ENABLE | ISTATUS


@BOTH
def test_masked_timer_shows_its_status_but_has_no_event(clock: Clock, registers: Registers) -> None:
    timer = clock.at(60)
    timer.write(registers.compare, 50)
    timer.write(registers.control, ENABLE | IMASK)
    assert timer.read(registers.control) == ENABLE | IMASK | ISTATUS
    assert timer.next_event(BOTH_LINES) is None


@BOTH
def test_disabled_timer_has_no_status(clock: Clock, registers: Registers) -> None:
    timer = clock.at(60)
    timer.write(registers.compare, 50)
    timer.write(registers.control, IMASK)
    assert timer.read(registers.control) == IMASK
    assert timer.next_event(BOTH_LINES) is None


@BOTH
def test_status_cannot_be_written(clock: Clock, registers: Registers) -> None:
    timer = clock.at(0)
    timer.write(registers.compare, 50)
    timer.write(registers.control, ALL_ONES)
    assert timer.read(registers.control) == ENABLE | IMASK


@BOTH
def test_counters_cannot_be_written(clock: Clock, registers: Registers) -> None:
    timer = clock.at(7)
    timer.write(registers.count, 99)
    timer.write(CNTFRQ_EL0, 1)
    assert timer.read(registers.count) == 7
    assert timer.read(CNTFRQ_EL0) == FREQUENCY


@BOTH
@pytest.mark.parametrize(
    ("written", "compare"), [(10, 110), (0, 100), (0xFFFF_FFFF, 99), (0x8000_0000, 100 - (1 << 31))]
)
def test_timer_value_is_signed_and_relative(
    clock: Clock, registers: Registers, written: int, compare: int
) -> None:
    timer = clock.at(100)
    timer.write(registers.value, written)
    assert timer.read(registers.compare) == compare & ALL_ONES
    assert timer.read(registers.value) == written


@BOTH
def test_timer_value_counts_down_through_zero(clock: Clock, registers: Registers) -> None:
    clock.at(0).write(registers.value, 2)
    assert [clock.at(t).read(registers.value) for t in (0, 1, 2, 3)] == [2, 1, 0, 0xFFFF_FFFF]


@BOTH
def test_next_event_is_when_the_compare_value_is_reached(
    clock: Clock, registers: Registers
) -> None:
    timer = clock.at(0)
    timer.write(registers.compare, 50)
    timer.write(registers.control, ENABLE)
    assert timer.next_event(BOTH_LINES) == 50 * INSTRUCTIONS_PER_TICK


def test_next_event_of_the_virtual_timer_is_later_by_its_offset(clock: Clock) -> None:
    timer = clock.at(0)
    timer.write(CNTVOFF_EL2, 30)
    clock.at(40).write(CNTV_CVAL_EL0, 50)
    timer.write(CNTV_CTL_EL0, ENABLE)
    assert timer.next_event(BOTH_LINES) == 80 * INSTRUCTIONS_PER_TICK


def test_next_event_is_the_earlier_of_both(clock: Clock) -> None:
    timer = clock.at(0)
    for registers, compare in ((VIRTUAL, 70), (PHYSICAL, 60)):
        timer.write(registers.compare, compare)
        timer.write(registers.control, ENABLE)
    assert timer.next_event(BOTH_LINES) == 60 * INSTRUCTIONS_PER_TICK


@given(
    now=st.integers(0, 1 << 40),
    offset=st.one_of(st.integers(0, 1 << 40), st.integers(ALL_ONES - (1 << 40), ALL_ONES)),
    compare=st.one_of(st.integers(0, 1 << 41), st.integers(0, ALL_ONES)),
)
def test_status_is_set_exactly_when_the_next_event_has_come(
    now: int, offset: int, compare: int
) -> None:
    clock = Clock()
    timer = clock.at(now)
    timer.write(CNTVOFF_EL2, offset)
    timer.write(CNTV_CVAL_EL0, compare)
    timer.write(CNTV_CTL_EL0, ENABLE)
    event = timer.next_event(BOTH_LINES)
    assert event is not None
    assert bool(timer.read(CNTV_CTL_EL0) & ISTATUS) is (event <= clock.instructions)


@pytest.mark.parametrize("register", [CNTKCTL_EL1, TPIDR_EL1])
def test_other_registers_are_none_of_its(clock: Clock, register: type[SystemRegister]) -> None:
    assert not clock.timer.handles(register)


@pytest.mark.parametrize("register", [*VIRTUAL, *PHYSICAL, CNTFRQ_EL0, CNTVOFF_EL2])
def test_its_registers(clock: Clock, register: type[SystemRegister]) -> None:
    assert clock.timer.handles(register)
