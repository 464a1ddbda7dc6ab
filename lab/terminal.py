"""The user's terminal as the guest's console: what is typed goes to the guest.

What people type is the only thing in a run that is not decided beforehand. So it is taken at
moments only that a script (:mod:`lab.script`) can name, and can be written down as one that does
the same again.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from lab.monitor import EndReason
from lab.script import Script, Step, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from lab.inputs import Input, Port

PERIOD = 200_000
"""Instructions between two looks at the keyboard."""

PATIENCE = 0.1
"""Seconds of the host after which a guest that waits for a key lets Ctrl-C through."""

ESCAPE = 0x01
"""Ctrl-A: the next key is for the terminal, not for the guest."""

HELP = """
Ctrl-A X       leave
Ctrl-A B       send a break (Linux: magic SysRq)
Ctrl-A Ctrl-A  send Ctrl-A
Ctrl-A H       this help, also Ctrl-A C
Ctrl-C goes to the guest.
"""

_OFLAG, _CFLAG = 1, 2
_CHUNK = 4096


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Have a terminal pass every key on at once; behind the block it is as it was.

    That holds for exceptions, and for signals that end the process, too. Output is still
    processed, so that a line feed begins a new line. What is no terminal stays as it is.
    """
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)

    def restore() -> None:
        # If the terminal has gone, its settings are, too.
        with suppress(termios.error, OSError):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)

    with _at_termination(restore):
        try:
            tty.setraw(fd, termios.TCSADRAIN)
            now = termios.tcgetattr(fd)
            now[_OFLAG] = before[_OFLAG]
            termios.tcsetattr(fd, termios.TCSADRAIN, now)
            yield
        finally:
            restore()


@contextmanager
def _at_termination(action: Callable[[], None]) -> Iterator[None]:
    """Do something before SIGTERM or SIGHUP ends the process."""

    def handler(number: int, _frame: FrameType | None) -> None:
        action()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    previous = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, previous, strict=True):
            signal.signal(number, old)


class Keyboard:
    """Sends what comes from a file descriptor, normally standard input.

    Parameters
    ----------
    fd : int
        A terminal, a pipe or a file. Ctrl-A is special on a terminal alone.
    record : TextIO or None
        Where what was sent is written down, as a script.
    notices : TextIO or None
        Where the help goes; standard error if it is None.

    Attributes
    ----------
    due : int or None
        When it looks again, in instructions retired.
    """

    def __init__(
        self, fd: int, *, record: TextIO | None = None, notices: TextIO | None = None
    ) -> None:
        self._fd, self._record = fd, record
        self._notices = sys.stderr if notices is None else notices
        self._is_terminal = os.isatty(fd)
        self._escaped = False
        self._ended = False
        self._looks = 0
        self._port: Port | None = None
        self._sent: list[Step] = []
        self._note([Step(Verb.EVERY, number=PERIOD)])
        self.due: int | None = PERIOD

    def save_state(self) -> None:
        """Take no part in snapshots: who types is no state of the machine."""

    def load_state(self, _state: None) -> None:
        """Go on as before."""

    def connect(self, port: Port) -> None:
        """Take the console."""
        self._port = port

    def printed(self, data: bytes) -> None:
        """Take note of what the guest printed; the terminal has it already."""

    def looked(self) -> None:
        """Send what has been typed, because the guest looks for it."""
        self._looks += 1
        if not self._ended:
            self._look(Step(Verb.LOOK, number=self._looks), seconds=0)

    def act(self) -> None:
        """Send what has been typed."""
        assert self._port is not None, "it is connected before the guest starts"
        now = self._port.now()
        self._look(Step(Verb.AT, number=now), seconds=0)
        self.due = None if self._ended else now + PERIOD

    def wait(self) -> bool:
        """Wait for a key, because the guest does; return False if none will come."""
        assert self._port is not None, "it is connected before the guest starts"
        while not self._ended:
            if self._port.is_over() or self._look(Step(Verb.IDLE), seconds=PATIENCE):
                return True
        return False

    def unfinished(self) -> str:
        """Return nothing: people need not type."""
        return ""

    def again(self) -> Input:
        """Return a script that sends what was typed, at the same moments."""
        return Script(self._sent)

    def _look(self, moment: Step, seconds: float) -> bool:
        """Send what has been typed, if anything; return whether the guest can go on."""
        try:
            if not select.select([self._fd], [], [], seconds)[0]:
                return False
            data = os.read(self._fd, _CHUNK)
        except OSError:  # how a terminal that was closed answers
            data = b""
        if not data:
            self._end()
            return self._is_terminal
        return self._send(moment, data)

    def _end(self) -> None:
        self._ended = True
        if self._is_terminal:
            assert self._port is not None
            self._port.leave("the terminal has been closed", EndReason.INTERRUPTED)

    def _send(self, moment: Step, data: bytes) -> bool:
        """Send what is not for the terminal itself; return whether that ends a wait."""
        assert self._port is not None
        steps = list(self._steps(data)) if self._is_terminal else [Step(Verb.SEND, text=data)]
        if steps:
            self._note([moment, *steps])
        for step in steps:
            if step.verb is Verb.SEND:
                self._port.send(step.text)
            elif step.verb is Verb.BREAK:
                self._port.send_break()
            else:
                self._ended = True
                self._port.leave("left with Ctrl-A X")
        return bool(steps)

    def _steps(self, data: bytes) -> Iterator[Step]:
        """Yield what keys stand for."""
        plain = bytearray()
        for key in data:
            if not self._escaped and key != ESCAPE:
                plain.append(key)
            elif not self._escaped:
                self._escaped = True
            else:
                self._escaped = False
                step = self._command(key)
                if step is not None and step.verb is Verb.SEND:
                    plain += step.text
                elif step is not None:
                    if plain:
                        yield Step(Verb.SEND, text=bytes(plain))
                        plain.clear()
                    yield step
        if plain:
            yield Step(Verb.SEND, text=bytes(plain))

    def _command(self, key: int) -> Step | None:
        """Return what a key behind Ctrl-A stands for."""
        match chr(key).lower():
            case "\x01" | "a":
                return Step(Verb.SEND, text=bytes([ESCAPE]))
            case "x":
                return Step(Verb.END)
            case "b":
                return Step(Verb.BREAK)
            case "h" | "c" | "?":
                self._notices.write(HELP)
                self._notices.flush()
        return None

    def _note(self, steps: list[Step]) -> None:
        self._sent += steps
        if self._record is not None:
            self._record.writelines(f"{step}\n" for step in steps)
            self._record.flush()
