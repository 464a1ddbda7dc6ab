"""The alarm of the real-time clock."""

from hyp.devices.pl031 import PL031, SECOND, Register
from lab.alarm import Alarm


def test_the_alarm_is_due_after_the_instructions_that_are_left_if_the_guest_does_not_wait() -> None:
    time, retired = [0], [0]
    line: list[bool] = []
    clock = PL031(lambda: time[0], 0, line.append)
    alarm = Alarm(clock, lambda: time[0], lambda: retired[0], lambda _due: None)
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


def test_a_guest_that_waits_with_an_alarm_is_woken_by_it_once() -> None:
    time = [0]
    line: list[bool] = []
    clock = PL031(lambda: time[0], 0, line.append)

    def wait_until(due: int) -> None:
        time[0] = due

    alarm = Alarm(clock, lambda: time[0], lambda: 0, wait_until)
    assert not alarm.wait()
    clock.write(Register.IMSC, 4, 1)
    clock.write(Register.MR, 4, 2)
    assert alarm.wait()
    assert (time, line) == ([2 * SECOND], [True])
    assert not alarm.wait()
