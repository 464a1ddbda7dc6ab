"""The alarm of the real-time clock."""

from hyp.devices.pl031 import PL031, SECOND, Register
from lab.alarm import Alarm


def test_the_alarm_is_due_after_the_instructions_that_are_left_if_the_guest_does_not_wait() -> None:
    time, retired = [0], [0]
    line: list[bool] = []
    clock = PL031(lambda: time[0], 0, line.append)
    alarm = Alarm(clock, lambda: time[0], lambda: retired[0])
    assert alarm.due is None
    clock.write(Register.IMSC, 4, 1)
    clock.write(Register.MR, 4, 2)
    assert alarm.due == 2 * SECOND
    time[0], retired[0] = 3 * SECOND // 2, SECOND
    assert alarm.due == 3 * SECOND // 2
    time[0] = 2 * SECOND
    assert alarm.due == retired[0]
    alarm.act()
    assert line == [True]
    assert alarm.due is None
