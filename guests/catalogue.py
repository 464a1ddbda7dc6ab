"""The bundled guests, read from the header comments of their sources.

Every source starts with a block comment: a one-line summary, then labelled
paragraphs. ``Watch:`` says what to look for in the trace, ``Run:`` gives further
options of ``stage2 run``, ``Format:`` is ``Image`` or ``flat`` where the guest is
not an ELF file. There is no second copy of any of this.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GUESTS: Final = Path(__file__).resolve().parent
"""The folder that holds the sources; the built images are in ``elf`` below it."""

SUFFIXES: Final = {"ELF": ".elf", "Image": ".img", "flat": ".bin"}
"""File name suffix of each image format."""

_COMMENT = re.compile(r"\s*/\*(.*?)\*/", re.DOTALL)
_LABEL = re.compile(r"^(Watch|Run|Format):\s*(.*)$")


@dataclass(frozen=True)
class Guest:
    """One bundled guest."""

    name: str
    """The file name of the source without its suffix."""
    summary: str
    """One line: what the guest does."""
    watch: str
    """What to look for in the trace, as running text."""
    run: tuple[str, ...]
    """Options of ``stage2 run`` that the guest needs; often none."""
    source: Path
    image: Path


def parse(source: Path) -> Guest:
    """Read one guest's header comment.

    Raises
    ------
    ValueError
        If the comment is missing, lacks its summary or ``Watch:``, or names an
        unknown format.
    """
    comment = _COMMENT.match(source.read_text(encoding="utf-8"))
    if comment is None:
        raise ValueError(f"{source.name}: a guest starts with a /* */ comment that describes it")
    parts: dict[str, list[str]] = {"": []}
    label = ""
    for line in comment[1].splitlines():
        text = line.strip().removeprefix("*").strip()
        if found := _LABEL.match(text):
            label, text = found[1], found[2]
            parts[label] = []
        if text:
            parts[label].append(text)
    for needed, what in (("", "a one-line summary"), ("Watch", "a `Watch:` paragraph")):
        if not parts.get(needed):
            raise ValueError(f"{source.name}: the header comment lacks {what}")
    format_ = " ".join(parts.get("Format", ["ELF"]))
    if format_ not in SUFFIXES:
        raise ValueError(f"{source.name}: Format: is one of {', '.join(SUFFIXES)}, not {format_!r}")
    return Guest(
        name=source.stem,
        summary=parts[""][0],
        watch=" ".join(parts["Watch"]),
        run=tuple(shlex.split(" ".join(parts.get("Run", [])))),
        source=source,
        image=GUESTS / "elf" / f"{source.stem}{SUFFIXES[format_]}",
    )


def all_guests() -> list[Guest]:
    """Return every bundled guest, in alphabetical order."""
    sources = [path for path in GUESTS.iterdir() if path.suffix in {".c", ".S"}]
    return [parse(path) for path in sorted(sources, key=lambda path: path.stem)]


def find(name: str) -> Guest:
    """Return the guest called ``name``.

    Raises
    ------
    KeyError
        If there is none; the text lists the names that exist.
    """
    guests = {guest.name: guest for guest in all_guests()}
    if name not in guests:
        raise KeyError(f"no guest is called {name!r}; there are {', '.join(guests)}")
    return guests[name]
