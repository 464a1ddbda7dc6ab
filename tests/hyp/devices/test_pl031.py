"""The PL031 real-time clock."""

from __future__ import annotations

import pytest

from hyp.devices.pl031 import PL031, SECOND, Register

BASE = 1_704_067_200


class Clock:
    """A clock with its time and its interrupt line."""

    def __init__(self, base: int = BASE) -> None:
        self.time = 0
        self.line: list[bool] = []
        self.device = PL031(lambda: self.time, base, self.line.append)

    def read(self, register: int) -> int:
        return self.device.read(register, 4)

    def write(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("time", "seconds"), [(0, 0), (SECOND - 1, 0), (SECOND, 1), (90 * SECOND, 90)]
)
def test_it_counts_seconds_of_the_machines_time_from_the_base(
    clock: Clock, time: int, seconds: int
) -> None:
    clock.time = time
    assert clock.read(Register.DR) == BASE + seconds


def test_a_loaded_time_is_counted_on(clock: Clock) -> None:
    clock.time = 5 * SECOND
    clock.write(Register.LR, 1000)
    clock.time = 7 * SECOND
    assert clock.read(Register.DR) == 1002
    assert clock.read(Register.LR) == 1000


def test_the_count_wraps_at_32_bits(clock: Clock) -> None:
    clock.write(Register.LR, 0xFFFF_FFFF)
    clock.time = SECOND
    assert clock.read(Register.DR) == 0


def test_it_runs_and_cannot_be_stopped(clock: Clock) -> None:
    clock.write(Register.CR, 0)
    assert clock.read(Register.CR) == 1


def test_the_match_raises_the_interrupt_until_it_is_cleared(clock: Clock) -> None:
    clock.write(Register.IMSC, 1)
    clock.write(Register.MR, BASE + 3)
    assert clock.device.due == 3 * SECOND
    clock.time = 3 * SECOND - 1
    clock.device.update()
    assert clock.line == []
    clock.time = 3 * SECOND
    clock.device.update()
    assert clock.line == [True]
    assert clock.device.due is None
    assert (clock.read(Register.RIS), clock.read(Register.MIS)) == (1, 1)
    clock.write(Register.ICR, 1)
    assert clock.line == [True, False]
    assert clock.read(Register.RIS) == 0


def test_a_match_that_is_passed_between_two_looks_is_not_missed(clock: Clock) -> None:
    clock.write(Register.MR, BASE + 3)
    clock.time = 10 * SECOND
    assert clock.read(Register.RIS) == 1


def test_a_match_with_the_present_is_raised_at_once_and_once(clock: Clock) -> None:
    clock.write(Register.MR, BASE)
    assert clock.read(Register.RIS) == 1
    clock.write(Register.ICR, 1)
    assert clock.read(Register.RIS) == 0


def test_at_reset_nothing_has_matched() -> None:
    assert Clock(0).read(Register.RIS) == 0


def test_a_masked_interrupt_is_raw_only_and_never_due(clock: Clock) -> None:
    clock.write(Register.MR, BASE + 1)
    assert clock.device.due is None
    clock.time = SECOND
    assert (clock.read(Register.RIS), clock.read(Register.MIS), clock.line) == (1, 0, [])
    clock.write(Register.IMSC, 1)
    assert clock.line == [True]


def test_loading_another_time_moves_the_match(clock: Clock) -> None:
    clock.write(Register.IMSC, 1)
    clock.write(Register.MR, BASE + 100)
    clock.write(Register.LR, BASE + 98)
    assert clock.device.due == 2 * SECOND


def test_identification_registers(clock: Clock) -> None:
    ids = [clock.read(offset) for offset in range(0xFE0, 0x1000, 4)]
    assert ids == [0x31, 0x10, 0x04, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    assert clock.read(0xFE2) == 0


@pytest.mark.parametrize("offset", [Register.ICR, 0x020, 0x800])
def test_write_only_registers_and_reserved_space_read_as_zero(clock: Clock, offset: int) -> None:
    clock.write(offset, 0xFF)
    assert clock.read(offset) == 0


def test_read_only_registers_ignore_writes(clock: Clock) -> None:
    for register in (Register.DR, Register.RIS, Register.MIS, 0xFE0):
        before = clock.read(register)
        clock.write(register, 0xFF)
        assert clock.read(register) == before


def test_what_was_programmed_is_read_back(clock: Clock) -> None:
    clock.write(Register.MR, 0x1_2345_6789)
    clock.write(Register.IMSC, 0xFFFF_FFFF)
    assert (clock.read(Register.MR), clock.read(Register.IMSC)) == (0x2345_6789, 1)


def test_the_interrupt_line_may_lead_nowhere() -> None:
    device = PL031(lambda: 0, 0)
    device.write(Register.IMSC, 4, 1)
    device.write(Register.MR, 4, 0)
    assert device.read(Register.MIS, 4) == 1
