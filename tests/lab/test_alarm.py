"""The alarm of the real-time clock."""

from emu.units.clock import Clock
from hyp.devices.pl031 import PL031, SECOND, Register
from lab.alarm import Alarm


def test_the_alarm_is_due_after_the_instructions_that_are_left_if_the_guest_does_not_wait() -> None:
    time, retired = Clock(), [0]
    line: list[bool] = []
    clock = PL031(lambda: time.now, 0, line.append)
    alarm = Alarm(clock, time, lambda: retired[0])
    assert alarm.due is None
    clock.write(Register.IMSC, 4, 1)
    clock.write(Register.MR, 4, 2)
    assert alarm.due == 2 * SECOND
    time.wait_until(3 * SECOND // 2)
    retired[0] = SECOND
    assert alarm.due == 3 * SECOND // 2
    time.wait_until(2 * SECOND)
    assert alarm.due == retired[0]
    alarm.act()
    assert line == [True]
    assert alarm.due is None


def test_a_guest_that_waits_has_time_pass_to_the_alarm() -> None:
    time = Clock()
    line: list[bool] = []
    clock = PL031(lambda: time.now, 0, line.append)
    alarm = Alarm(clock, time, lambda: 0)
    assert not alarm.wait()
    assert time.now == 0
    clock.write(Register.IMSC, 4, 1)
    clock.write(Register.MR, 4, 2)
    assert alarm.wait()
    assert (time.now, line) == (2 * SECOND, [True])
    assert not alarm.wait()
