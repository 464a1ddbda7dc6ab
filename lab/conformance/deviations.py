"""The listed deviations: where the machine may differ from a recording, and why."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.conformance.compare import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.conformance.cases import Case
    from lab.conformance.compare import Difference

FILE: Final = Path(__file__).with_name("deviations.toml")

_KEYS: Final = ("pattern", "field", "rule", "reason")


@dataclass(frozen=True, slots=True)
class Deviation:
    """One entry of the list."""

    pattern: str
    """Of case names, as in :mod:`fnmatch`."""
    field: str
    """Which of :data:`lab.conformance.compare.FIELDS` may differ."""
    rule: str
    """What the Arm ARM says."""
    reason: str
    """What the machine does."""

    def covers(self, case: Case, difference: Difference) -> bool:
        """Whether the entry allows a difference."""
        return difference.field == self.field and fnmatchcase(case.name, self.pattern)


def load(path: Path = FILE) -> tuple[Deviation, ...]:
    """Read a list of deviations.

    Raises
    ------
    ValueError
        If an entry lacks a key, has an unknown one, or names a field that is not compared.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("deviation", [])
    return tuple(_entry(path, number, entry) for number, entry in enumerate(entries, start=1))


@cache
def listed() -> tuple[Deviation, ...]:
    """Return the project's own list."""
    return load()


def _entry(path: Path, number: int, entry: dict[str, str]) -> Deviation:
    if sorted(entry) != sorted(_KEYS) or not all(entry.values()):
        raise ValueError(f"{path}: deviation {number} has the keys {', '.join(_KEYS)}, all given")
    if entry["field"] not in FIELDS:
        raise ValueError(
            f"{path}: deviation {number}: field is one of {', '.join(FIELDS)}, "
            f"not {entry['field']!r}"
        )
    return Deviation(**entry)


def covering(
    deviations: Iterable[Deviation], case: Case, differences: Iterable[Difference]
) -> tuple[Deviation, ...] | None:
    """Return the entries that allow all differences of a case; None if one is not allowed."""
    chosen: dict[Deviation, None] = {}
    for difference in differences:
        entry = next((each for each in deviations if each.covers(case, difference)), None)
        if entry is None:
            return None
        chosen[entry] = None
    return tuple(chosen)
