"""The terminal as the guest's console, on a pseudo-terminal."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from lab.inputs import Port
from lab.monitor import EndReason
from lab.script import Step, Verb
from lab.terminal import PERIOD, Keyboard, raw_mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.monitor import End

LFLAG = 3


class Desk:
    """A pseudo-terminal, with a keyboard on its far end and a guest behind that."""

    def __init__(self) -> None:
        self.keys, self.fd = pty.openpty()
        self.now = 0
        self.got = bytearray()
        self.breaks = 0
        self.ends: list[End] = []
        self.record, self.notices = io.StringIO(), io.StringIO()
        with raw_mode(self.fd):
            self.keyboard = Keyboard(self.fd, record=self.record, notices=self.notices)
        self.keyboard.connect(
            Port(self, lambda: self.now, self.ends.append, lambda: bool(self.ends))
        )

    def type(self, keys: bytes) -> None:
        with raw_mode(self.fd):
            os.write(self.keys, keys)
            self.keyboard.act()

    def receive(self, data: bytes) -> None:
        self.got += data

    def receive_break(self) -> None:
        self.breaks += 1

    def close(self) -> None:
        os.close(self.fd)
        if self.keys >= 0:
            os.close(self.keys)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


# -- the mode of the terminal


def local_modes(fd: int) -> int:
    modes = termios.tcgetattr(fd)[LFLAG]
    assert isinstance(modes, int)
    return modes


def test_in_raw_mode_keys_come_at_once_and_ctrl_c_is_a_key(desk: Desk) -> None:
    before = termios.tcgetattr(desk.fd)
    with raw_mode(desk.fd):
        assert not local_modes(desk.fd) & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert termios.tcgetattr(desk.fd)[1] == before[1]
    assert termios.tcgetattr(desk.fd) == before


def test_the_terminal_is_as_before_after_an_exception(desk: Desk) -> None:
    before = termios.tcgetattr(desk.fd)
    with pytest.raises(RuntimeError), raw_mode(desk.fd):
        raise RuntimeError
    assert termios.tcgetattr(desk.fd) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_before_after_a_signal_that_ends_the_process(
    desk: Desk, number: signal.Signals
) -> None:
    before = termios.tcgetattr(desk.fd)
    program = (
        "import os, sys\n"
        "from lab.terminal import raw_mode\n"
        "with raw_mode(0):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdin=desk.fd, check=False)
    assert done.returncode == -number
    assert termios.tcgetattr(desk.fd) == before


def test_handlers_of_signals_are_as_before(desk: Desk) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with raw_mode(desk.fd):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_no_terminal_is_left_alone() -> None:
    reader, writer = os.pipe()
    with raw_mode(reader):
        os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.close(writer)


# -- keys


def test_what_is_typed_goes_to_the_guest_ctrl_c_included(desk: Desk) -> None:
    desk.type(b"ls\r\x03")
    assert desk.got == b"ls\r\x03"
    assert desk.ends == []


def test_without_a_key_nothing_is_sent(desk: Desk) -> None:
    desk.keyboard.act()
    assert (bytes(desk.got), desk.keyboard.due) == (b"", PERIOD)


def test_ctrl_a_x_leaves(desk: Desk) -> None:
    desk.type(b"a\x01x")
    assert desk.got == b"a"
    (end,) = desk.ends
    assert (end.reason, end.detail) == (EndReason.LEFT, "left with Ctrl-A X")
    assert desk.keyboard.due is None


def test_ctrl_a_is_remembered_from_one_look_to_the_next(desk: Desk) -> None:
    desk.type(b"\x01")
    desk.type(b"x")
    assert len(desk.ends) == 1
    assert desk.got == b""


@pytest.mark.parametrize("key", [b"\x01", b"a"])
def test_ctrl_a_twice_sends_it(desk: Desk, key: bytes) -> None:
    desk.type(b"1\x01" + key + b"2")
    assert desk.got == b"1\x012"


@pytest.mark.parametrize("key", [b"h", b"H", b"c", b"?"])
def test_ctrl_a_h_shows_help_and_sends_nothing(desk: Desk, key: bytes) -> None:
    desk.type(b"\x01" + key)
    assert desk.got == b""
    assert "Ctrl-A X" in desk.notices.getvalue()


def test_another_key_behind_ctrl_a_does_nothing(desk: Desk) -> None:
    desk.type(b"\x01zq")
    assert desk.got == b"q"


def test_ctrl_a_b_sends_a_break_in_its_place(desk: Desk) -> None:
    desk.type(b"a\x01bh")
    assert (bytes(desk.got), desk.breaks) == (b"ah", 1)
    assert desk.record.getvalue() == 'every 200000\nat 0\nsend "a"\nbreak\nsend "h"\n'


def test_a_terminal_that_is_closed_ends_the_run_in_one_line(desk: Desk) -> None:
    os.close(desk.keys)
    desk.keys = -1
    desk.keyboard.act()
    (end,) = desk.ends
    assert (end.reason, end.detail) == (EndReason.INTERRUPTED, "the terminal has been closed")


def test_a_guest_that_waits_is_given_the_next_key(desk: Desk) -> None:
    with raw_mode(desk.fd):
        os.write(desk.keys, b"k")
        assert desk.keyboard.wait()
    assert desk.got == b"k"
    assert desk.record.getvalue() == 'every 200000\nidle\nsend "k"\n'


def test_a_guest_that_looks_for_a_key_finds_it(desk: Desk) -> None:
    with raw_mode(desk.fd):
        desk.keyboard.looked()
        os.write(desk.keys, b"k")
        desk.keyboard.looked()
    assert desk.got == b"k"
    assert desk.record.getvalue() == 'every 200000\nlook 2\nsend "k"\n'


def test_a_wait_ends_when_the_run_is_to_end(desk: Desk) -> None:
    desk.keyboard.connect(Port(desk, lambda: 0, desk.ends.append, lambda: True))
    assert desk.keyboard.wait()


# -- what was typed, again


def test_what_was_typed_is_sent_again_at_the_same_moments(desk: Desk) -> None:
    desk.now = PERIOD
    desk.type(b"a")
    desk.now = 3 * PERIOD
    desk.type(b"b")
    script = desk.keyboard.again()
    desk.now = 0
    desk.got.clear()
    script.connect(Port(desk, lambda: desk.now, desk.ends.append, lambda: False))
    turns = []
    for _ in range(3):
        assert script.due is not None
        desk.now = script.due
        script.act()
        turns.append((desk.now // PERIOD, bytes(desk.got)))
    assert turns == [(1, b"a"), (2, b"a"), (3, b"ab")]


# -- other files than terminals


def test_a_pipe_is_sent_as_it_is_and_ends_without_ending_the_run(desk: Desk) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"\x01x")
    os.close(writer)
    keyboard = Keyboard(reader)
    keyboard.connect(Port(desk, lambda: 0, desk.ends.append, lambda: False))
    keyboard.act()
    assert desk.got == b"\x01x"
    keyboard.act()
    assert (keyboard.due, desk.ends) == (None, [])
    assert not keyboard.wait()
    os.close(reader)


def test_an_input_that_is_closed_under_it_ends_like_a_pipe(desk: Desk) -> None:
    reader, writer = os.pipe()
    keyboard = Keyboard(reader)
    keyboard.connect(Port(desk, lambda: 0, desk.ends.append, lambda: False))
    os.close(reader)
    os.close(writer)
    keyboard.act()
    assert keyboard.due is None


def test_people_need_not_type(desk: Desk) -> None:
    assert desk.keyboard.unfinished() == ""
    desk.keyboard.printed(b"login: ")
    assert desk.got == b""


def test_a_step_for_each_verb() -> None:
    assert {verb.value for verb in Verb} == {
        "expect",
        "at",
        "look",
        "idle",
        "send",
        "break",
        "end",
        "every",
    }
    assert str(Step(Verb.IDLE)) == "idle"
