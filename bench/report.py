"""The table that is printed, and the JSON that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from bench.rows import three_digits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.rows import Row
    from bench.timing import Spent

WIDTH: Final = 126
_MET: Final = {True: "green", False: "bold red", None: ""}


def table(results: Mapping[str, Sequence[Row]], spent: Mapping[str, Spent]) -> Table:
    """Return the table: a section for each benchmark, a line for each reference.

    Parameters
    ----------
    results
        The rows by benchmark.
    spent
        What each benchmark took in all.
    """
    shown = Table(box=box.HORIZONTALS, pad_edge=False, header_style="dim")
    shown.add_column("", no_wrap=True)
    shown.add_column("figure", justify="right", no_wrap=True)
    shown.add_column("reference", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True, style="dim")
    shown.add_column("ratio", justify="right", no_wrap=True)
    shown.add_column("target", justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for name, rows in results.items():
        shown.add_section()
        took = spent[name]
        shown.add_row(
            Text(name, style="bold"),
            *(Text(), Text()),
            Text(f"took {took.wall:.1f} s, {took.cpu:.1f} s CPU"),
        )
        for row in rows:
            for cells in _lines(row):
                shown.add_row(*cells)
    return shown


def _lines(row: Row) -> list[list[Text]]:
    """Return one line for the figure, and one more for each further reference."""
    figure = Text(row.unit.text(row.value), style=_MET[row.meets(row.limit, row.value)])
    first = [Text(f"  {row.name}"), figure]
    own_limit = _limit(row, row.limit, f" {row.unit.value}")
    if not row.references:
        return [[*first, Text(), Text(row.note), Text(), own_limit]]
    lines = []
    for reference in row.references:
        ratio = row.ratio(reference)
        style = _MET[row.meets(reference.limit, ratio)]
        lines.append(
            [
                *first,
                Text(row.unit.text(reference.value)),
                Text(reference.name),
                Text(_times(ratio), style=style),
                _limit(row, reference.limit, "x") if row.limit is None else own_limit,
                Text(row.verdict(reference)),
            ]
        )
        first, own_limit = [Text(), Text()], Text()
    return lines


def _limit(row: Row, limit: float | None, unit: str) -> Text:
    if limit is None:
        return Text()
    return Text(f"{'>=' if row.unit.more_is_better else '<='} {limit:g}{unit}")


def _times(ratio: float) -> str:
    return f"{three_digits(ratio)}x"


def heading(machine: Mapping[str, Any], scale: str) -> str:
    """Return one line on what the figures were measured on."""
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores",
        machine["python"],
        f"Unicorn {machine['unicorn']}",
        f"load {machine['load'][0]:.1f}",
        scale,
    ]
    return " | ".join(parts)


def as_dict(
    results: Mapping[str, Sequence[Row]],
    spent: Mapping[str, Spent],
    skipped: Mapping[str, str],
    machine: Mapping[str, Any],
    scale: str,
) -> dict[str, Any]:
    """Return everything as what JSON can hold."""
    return {
        "machine": dict(machine),
        "scale": scale,
        "skipped": dict(skipped),
        "spent": {name: took._asdict() for name, took in spent.items()},
        "benchmarks": {name: [row.as_dict() for row in rows] for name, rows in results.items()},
    }
