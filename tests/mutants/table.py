"""The mutants: faults of one line, each with the tests that must notice it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, NamedTuple

TABLE: Final = Path(__file__).with_name("mutants.toml")


class TableError(Exception):
    """The table does not fit the code."""


class Mutant(NamedTuple):
    """One fault."""

    breaks: str
    """What is wrong then, in words."""
    file: str
    """From the top of the tree."""
    line: str
    """The line as it is, without its indentation; there is one such line in the file."""
    becomes: str
    noticed_by: list[str]
    """Test files or folders."""


def read_table(path: Path = TABLE) -> list[Mutant]:
    """Return the mutants of a table.

    Raises
    ------
    TableError
        If an entry has other keys than those of :class:`Mutant`.
    """
    found = []
    for number, entry in enumerate(tomllib.loads(path.read_text())["mutant"], start=1):
        if entry.keys() != set(Mutant._fields):
            raise TableError(
                f"{path.name}: mutant {number} has the keys {', '.join(entry)}; "
                f"a mutant has {', '.join(Mutant._fields)}"
            )
        found.append(Mutant(**entry))
    return found


def mutated(mutant: Mutant, source: str) -> str:
    """Return ``source`` with the mutant's line replaced.

    Raises
    ------
    TableError
        If the line is not there exactly once.
    """
    lines = source.splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.strip() == mutant.line]
    if len(places) != 1:
        raise TableError(
            f"{mutant.file} has the line {mutant.line!r} {len(places)} times, not once; "
            f"bring tests/mutants/{TABLE.name} up to date"
        )
    number = places[0]
    lines[number] = lines[number].replace(mutant.line, mutant.becomes)
    return "".join(lines)
