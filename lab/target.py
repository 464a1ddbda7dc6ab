"""What the user asks to run: a bundled guest by name, or a file by path."""

from __future__ import annotations

import difflib
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guests import catalogue
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guests.catalogue import Guest

SOURCE_SUFFIXES = {".S", ".c"}


@dataclass(frozen=True, slots=True)
class Target:
    """Something to run: a title, the image, and options of ``stage2 run`` that it asks for."""

    name: str
    image: Path
    options: tuple[str, ...] = ()


def bundled_guest(name: str) -> Guest:
    """Return the bundled guest called ``name``.

    Raises
    ------
    UserError
        If there is none; the text suggests a similar name.
    """
    try:
        return catalogue.find(name)
    except KeyError:
        raise UserError(f"no guest is called {name!r}{_suggestion(name)}") from None


@contextmanager
def open_target(text: str) -> Iterator[Target]:
    """Provide what ``text`` names; source code is built for as long as the block lasts.

    A bundled guest's name comes first; write ``./hello`` for a file of that name.

    Raises
    ------
    UserError
        If it is neither a guest nor a file, or the source cannot be built.
    """
    path = Path(text)
    if path.name == text and not path.suffix:
        names = {guest.name: guest for guest in catalogue.all_guests()}
        if text in names:
            guest = names[text]
            yield Target(guest.name, guest.image, guest.run)
            return
        if not path.exists():
            raise UserError(f"no guest is called {text!r}, and no file{_suggestion(text)}")
    if path.suffix not in SOURCE_SUFFIXES:
        yield Target(path.name, path)
        return
    with tempfile.TemporaryDirectory(prefix="stage2-") as folder:
        image = Path(folder) / f"{path.stem}.elf"
        _build(path, image)
        yield Target(path.name, image, _header_options(path))


def _build(source: Path, image: Path) -> None:
    from firmware.build import BuildError, compile_guest  # noqa: PLC0415  # start-up time

    try:
        compile_guest(source, image)
    except BuildError as error:
        message, _, detail = str(error).partition("\n")
        raise UserError(message, detail) from error


def _header_options(source: Path) -> tuple[str, ...]:
    """Return the ``Run:`` options of a source whose header comment has the bundled form."""
    try:
        return catalogue.parse(source).run
    except (ValueError, OSError):
        return ()


def _suggestion(name: str) -> str:
    names = [guest.name for guest in catalogue.all_guests()]
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else "; 'stage2 guests' lists the bundled ones"
