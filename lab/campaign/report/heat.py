"""The fault space as a map: locations down, time across, binned to what a page can show."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from lab.campaign.severity import severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lab.campaign.row import Row

BANDS: Final = 72
"""Rows of the map, at most."""
COLUMNS: Final = 60
"""Columns of the map, at most."""
UNTOUCHED: Final = "not injected"
"""What cells show in which no fault was injected, though some were planned."""

_NUMBER: Final = re.compile(r"(0x[0-9a-fA-F]+|\d+)")


class Band(NamedTuple):
    """A row of the map: one location, or a few that follow one another."""

    first: str
    last: str
    size: int
    """How many."""


class HeatMap(NamedTuple):
    """A map of the fault space.

    ``cells`` has, by band and column, how many runs came to what; a column is ``step``
    instructions.
    """

    bands: tuple[Band, ...]
    columns: int
    step: int
    cells: Mapping[tuple[int, int], Mapping[str, int]]

    @property
    def end(self) -> int:
        """The first moment behind the last column."""
        return self.columns * self.step

    def worst(self) -> Iterator[tuple[int, int, str]]:
        """Yield each cell with its worst outcome."""
        for (band, column), found in self.cells.items():
            yield band, column, min(found, key=_order)

    def most(self) -> Iterator[tuple[int, int, str]]:
        """Yield each cell with its most frequent outcome; of equal ones, the worst."""
        for (band, column), found in self.cells.items():
            yield band, column, min(found, key=lambda name: (-found[name], _order(name)))


def heat_map(rows: Callable[[], Iterable[Row]]) -> HeatMap:
    """Return the map of rows, which are asked for twice."""
    locations: set[str] = set()
    last = 0
    for row in rows():
        locations.add(row.location)
        last = max(last, row.moment)
    step = -(-(last + 1) // COLUMNS)
    columns = -(-(last + 1) // step)
    bands = tuple(_bands(sorted(locations, key=natural)))
    places = {location: number for number, (_, group) in enumerate(bands) for location in group}
    cells: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for row in rows():
        outcome = row.outcome if row.injected_at is not None else UNTOUCHED
        cells[places[row.location], row.moment // step][outcome] += 1
    return HeatMap(tuple(band for band, _ in bands), columns, step, cells)


def natural(location: str) -> tuple[tuple[str, int], ...]:
    """Return what locations are sorted by: numbers in them by value."""
    parts = _NUMBER.split(location)
    numbers = (int(each, 16 if each[:2] == "0x" else 10) for each in parts[1::2])
    return tuple(zip(parts[0::2], (*numbers, -1), strict=True))


def _bands(locations: list[str]) -> Iterator[tuple[Band, list[str]]]:
    """Cut locations into bands; small kinds of them, such as registers, are cut least."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for location in locations:
        kinds[_NUMBER.split(location)[0]].append(location)
    if len(kinds) > BANDS // 4:
        kinds = defaultdict(list, {"": locations})
    sizes: dict[str, int] = {}
    room = BANDS
    for left, kind in enumerate(sorted(kinds, key=lambda each: len(kinds[each])), -len(kinds)):
        sizes[kind] = -(-len(kinds[kind]) // max(room // -left, 1))
        room -= -(-len(kinds[kind]) // sizes[kind])
    for kind, members in kinds.items():
        for start in range(0, len(members), sizes[kind]):
            group = members[start : start + sizes[kind]]
            yield Band(group[0], group[-1], len(group)), group


def _order(outcome: str) -> tuple[bool, tuple[int, str]]:
    return outcome == UNTOUCHED, severity(outcome)
