r"""Scripts: what is sent to the guest's console, and what for.

A script is text, one step a line; steps are done in order:

==================  =================================================================
``expect "login:"``  wait until the guest has printed this, since the last such match
``at 1200000``       wait until at least so many instructions have retired
``look 500``         wait until the guest looks for input in vain, for the 500th time
``idle``             wait until the guest waits for an interrupt that nothing brings
``send "root\n"``    send this
``break``            send a break (the line held low)
``end``              end the run
``every 200000``     from now on the run is cut so often, as it is for a keyboard
``# ...``            nothing
==================  =================================================================

A step is done the moment the one before it is: what an ``expect`` waits for is found at its last
byte, before the guest runs on. So equal runs with equal scripts are equal.

Where the run is cut, an exclusive monitor is lost: the guest repeats the access. So a script that
is to repeat a session has to cut the run where it was cut then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.inputs import Port

SYNTAX = 'expect "TEXT", send "TEXT", at N, look N, idle, break, end or every N'


class Verb(Enum):
    """What a step does."""

    EXPECT = "expect"
    AT = "at"
    LOOK = "look"
    IDLE = "idle"
    SEND = "send"
    BREAK = "break"
    END = "end"
    EVERY = "every"


_WITH_TEXT = {Verb.EXPECT, Verb.SEND}
_WITH_NUMBER = {
    Verb.AT: "a number of instructions",
    Verb.LOOK: "a number of looks",
    Verb.EVERY: "a number of instructions",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes
    ----------
    verb : Verb
        What it does.
    text : bytes
        Of ``expect`` and ``send``.
    number : int
        Of ``at`` and ``every``, in instructions, and of ``look``.
    place : str
        Where it stands, for messages; empty if nowhere.
    """

    verb: Verb
    text: bytes = b""
    number: int = 0
    place: str = ""

    def __str__(self) -> str:
        """Return the step as a script has it."""
        match self.verb:
            case Verb.EXPECT | Verb.SEND:
                return f"{self.verb.value} {quoted(self.text)}"
            case Verb.AT | Verb.LOOK | Verb.EVERY:
                return f"{self.verb.value} {self.number}"
            case Verb.IDLE | Verb.BREAK | Verb.END:
                return str(self.verb.value)


# --- text

_ESCAPES = {
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "0": b"\0",
    "e": b"\x1b",
    "\\": b"\\",
    '"': b'"',
}
_NAMES = {value[0]: f"\\{name}" for name, value in _ESCAPES.items()}
_PIECE = re.compile(r'\\x([0-9a-fA-F]{2})|\\(.)|([^\\"]+)')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def quoted(text: bytes) -> str:
    """Return bytes as a script has them, in ASCII."""
    return '"' + "".join(_character(byte) for byte in text) + '"'


def _character(byte: int) -> str:
    if byte in _NAMES:
        return _NAMES[byte]
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _unquoted(text: str) -> bytes | None:
    """Return the bytes of a text in quotes; None if it is none."""
    match = _QUOTED.fullmatch(text)
    if match is None:
        return None
    content = bytearray()
    for piece in _PIECE.finditer(match.group(1)):
        code, name, plain = piece.groups()
        if code is not None:
            content.append(int(code, 16))
        elif plain is not None:
            content += plain.encode()
        elif name in _ESCAPES:
            content += _ESCAPES[name]
        else:
            return None
    return bytes(content)


# --- reading


def read_script(path: Path) -> tuple[Step, ...]:
    """Return the steps of the script in a file.

    Raises
    ------
    UserError
        If it cannot be read, or has a line that is no step.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--script: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--script: {path} is not UTF-8 text ({error.reason})") from error
    return parse_script(text, str(path))


def parse_script(text: str, name: str) -> tuple[Step, ...]:
    """Return the steps of a script; ``name`` says in messages where it comes from.

    Raises
    ------
    UserError
        For a line that is no step.
    """
    lines = enumerate(text.splitlines(), start=1)
    steps = (_step(line.strip(), f"{name} line {number}") for number, line in lines)
    return tuple(step for step in steps if step is not None)


def _step(line: str, place: str) -> Step | None:
    if not line or line.startswith("#"):
        return None
    word, _, rest = line.partition(" ")
    argument = rest.strip()
    try:
        verb = Verb(word)
    except ValueError:
        raise UserError(f"{place}: {word!r} is no step; a step is {SYNTAX}") from None
    if verb in _WITH_TEXT:
        content = _unquoted(argument)
        if not content:
            raise UserError(
                f'{place}: write it as {word} "TEXT", where TEXT is not empty and may have '
                r"\n \r \t \e \0 \\ \" \xNN"
            )
        return Step(verb, text=content, place=place)
    if verb in _WITH_NUMBER:
        if not re.fullmatch(r"[0-9](_?[0-9])*", argument) or not int(argument):
            raise UserError(f"{place}: write it as {word} N, {_WITH_NUMBER[verb]}")
        return Step(verb, number=int(argument), place=place)
    if argument:
        raise UserError(f"{place}: nothing follows {word}, not {argument!r}")
    return Step(verb, place=place)


# --- doing


class Script:
    """Does the steps of a script.

    Parameters
    ----------
    steps : Sequence[Step]
        In order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._next = 0
        # The run must stop at each of them: which step is done then is not known before.
        self._times = sorted({step.number for step in steps if step.verb is Verb.AT})
        self._printed = bytearray()
        self._looks = 0
        self._period = 0
        self._next_cut = 0
        self._port: Port | None = None

    @property
    def due(self) -> int | None:
        """When it has its turn, in instructions retired."""
        moments = self._times[:1] + ([self._next_cut] if self._period else [])
        return min(moments, default=None)

    def connect(self, port: Port) -> None:
        """Take the console, and do the steps that wait for nothing."""
        self._port = port
        self._go_on()

    def printed(self, data: bytes) -> None:
        """See whether the guest has printed what the script waits for."""
        for byte in data:
            step = self._waiting_for
            if step is None or step.verb is not Verb.EXPECT:
                return
            self._printed.append(byte)
            del self._printed[: -len(step.text)]
            if self._printed == step.text:
                self._printed.clear()
                self._done()

    def looked(self) -> None:
        """Go on if the guest has looked for input often enough."""
        self._looks += 1
        step = self._waiting_for
        if step is not None and step.verb is Verb.LOOK and self._looks >= step.number:
            self._done()

    def act(self) -> None:
        """Go on if the script waits for this moment."""
        assert self._port is not None, "it is connected before the guest starts"
        now = self._port.now()
        self._times = [time for time in self._times if time > now]
        if self._period and now >= self._next_cut:
            self._next_cut += self._period
        step = self._waiting_for
        if step is not None and step.verb is Verb.AT:
            self._go_on()

    def wait(self) -> bool:
        """Go on if the script waits for the guest to wait, or for a time that will not come."""
        step = self._waiting_for
        if step is None or step.verb is not Verb.IDLE:
            return False
        self._done()
        return True

    def unfinished(self) -> str:
        """Return the step that the guest has not reached."""
        step = self._waiting_for
        return (
            "" if step is None else f"{step.place}: the guest has not come to {step}".lstrip(": ")
        )

    def again(self) -> Script:
        """Return the script at its start."""
        return Script(self._steps)

    @property
    def _waiting_for(self) -> Step | None:
        return self._steps[self._next] if self._next < len(self._steps) else None

    def _done(self) -> None:
        self._next += 1
        self._go_on()

    def _go_on(self) -> None:
        """Do steps up to one that waits."""
        port = self._port
        assert port is not None, "it is connected before the guest starts"
        while (step := self._waiting_for) is not None:
            match step.verb:
                case Verb.SEND:
                    port.send(step.text)
                case Verb.BREAK:
                    port.send_break()
                case Verb.END:
                    port.leave(f"{step.place}: the script ends the run".lstrip(": "))
                case Verb.EVERY:
                    self._period = step.number
                    self._next_cut = port.now() + step.number
                case Verb.AT:
                    if port.now() < step.number:
                        return
                case Verb.EXPECT | Verb.LOOK | Verb.IDLE:
                    return
            self._next += 1
