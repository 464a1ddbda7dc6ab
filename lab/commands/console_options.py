"""Options of ``stage2 run`` that say what reaches the guest's console from outside."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.inputs import Input

    Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--console",
        is_flag=True,
        help="Talk with the guest: what is typed goes to its console, Ctrl-C included. Ctrl-A X "
        "leaves, Ctrl-A H shows the other keys.",
    ),
    click.option(
        "--record",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write down what is typed, as a script that does it again at the same moments.",
    ),
    click.option(
        "--script",
        "scripts",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help='Talk by a script: lines such as expect "login: " and send "root\\n" '
        "(docs/booting.md). Repeatable: they are done side by side.",
    ),
    click.option(
        "--input",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Have the guest find the contents of a file in its console from the start.",
    ),
)


def console_options(command: Wrapped) -> Wrapped:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Talk:
    """Who talks with the guest."""

    console: bool
    record: Path | None
    scripts: tuple[Path, ...]
    input: Path | None

    def refuse(self) -> None:
        """Refuse all of it.

        Raises
        ------
        UserError
            If there is anything to refuse.
        """
        given = {
            "--console": self.console,
            "--script": self.scripts,
            "--input": self.input,
        }
        for option, value in given.items():
            if value:
                raise UserError(f"{option} is for a run here alone; leave it out")


def talk_of(values: dict[str, Any]) -> Talk:
    """Return what the options say.

    Raises
    ------
    UserError
        If they contradict each other.
    """
    talk = Talk(**{name: values[name] for name in Talk.__slots__})
    if talk.record is not None and not talk.console:
        raise UserError("--record writes down what is typed; add --console")
    return talk


@contextmanager
def open_inputs(talk: Talk) -> Iterator[list[Input]]:
    """Provide those who send; for as long as the block lasts the terminal is in raw mode.

    Raises
    ------
    UserError
        If a file cannot be read or written, or is no script.
    """
    from lab.script import Script, Step, Verb, read_script  # noqa: PLC0415  # start-up time

    inputs: list[Input] = []
    if talk.input is not None:
        inputs.append(Script([Step(Verb.SEND, text=_contents(talk.input))]))
    inputs += [Script(read_script(path)) for path in talk.scripts]
    if not talk.console:
        yield inputs
        return
    from lab.terminal import Keyboard, raw_mode  # noqa: PLC0415  # start-up time

    fd = _standard_input()
    if talk.record is None:
        with raw_mode(fd):
            yield [*inputs, Keyboard(fd)]
        return
    try:
        record = talk.record.open("w", encoding="ascii", newline="\n")
    except OSError as error:
        raise UserError(f"--record: cannot write {talk.record}: {error.strerror}") from error
    with record, raw_mode(fd):
        yield [*inputs, Keyboard(fd, record=record)]


def _standard_input() -> int:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise UserError("--console needs an open standard input; leave it out") from error


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror}") from error
