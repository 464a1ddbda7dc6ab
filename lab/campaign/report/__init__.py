"""The results of a campaign as one page: everything in it, nothing loaded from elsewhere."""

from __future__ import annotations

from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from lab.campaign import numbers
from lab.campaign.extra import extra
from lab.campaign.output import whole_file
from lab.campaign.provenance import MEANINGS, SHORT
from lab.campaign.report import draw
from lab.campaign.report.bits import bit_profile
from lab.campaign.report.heat import UNTOUCHED, heat_map
from lab.campaign.summary import summarize

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.provenance import Provenance
    from lab.campaign.report.heat import HeatMap
    from lab.campaign.store import Store

_MARKS: Final = {
    "isolation escape": ("m.25 .2l.5 .5m0-.5l-.5 .5", "\N{MULTIPLICATION SIGN}"),
    "silent corruption": ("m.25 .45h.5", "\N{EN DASH}"),
}
"""What is drawn into cells beside their colour, and the same as a character."""


def page(store: Store) -> str:
    """Return the HTML of the page.

    Raises
    ------
    UserError
        If jinja2 is not installed.
    """
    with extra("an HTML report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # optional

    environment = Environment(
        loader=PackageLoader(__name__, "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters.update(
        percent=numbers.percent, interval=numbers.interval, confidence=numbers.confidence
    )
    environment.globals["counted"] = numbers.counted
    parts = resources.files(__name__) / "page"
    texts = {
        name: (parts / file).read_text(encoding="utf-8")
        for name, file in (("style", "report.css"), ("script", "report.js"))
    }
    return environment.get_template("page.html").render(texts | _content(store))


def write_report(store: Store, path: Path) -> None:
    """Write the page to a file.

    Raises
    ------
    UserError
        If jinja2 is not installed, or the file cannot be written.
    """
    text = page(store)
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _content(store: Store) -> dict[str, Any]:
    """Return what the template shows."""
    summary = summarize(store)
    heat = heat_map(store.rows)
    profile = bit_profile(store.rows())
    classes = draw.classes(each.outcome for each in summary.outcomes)
    layers = {
        name: {
            "paths": draw.cells(coloured),
            "marks": [draw.marks(coloured, of, shape) for of, (shape, _) in _MARKS.items()],
        }
        for name, coloured in (("worst", list(heat.worst())), ("most", list(heat.most())))
    }
    return {
        "summary": summary,
        "facts": summary.provenance,
        "provenance": _facts(summary.provenance),
        "classes": classes,
        "characters": {outcome: character for outcome, (_, character) in _MARKS.items()},
        "worst": [(key, [*rows]) for key, rows in groupby(summary.worst, lambda row: row.outcome)],
        "heat": heat,
        "layers": layers,
        "untouched": UNTOUCHED,
        "profile": profile,
        "stacks": draw.stacks(profile),
        "data": _data(heat, list(classes)),
    }


def _facts(provenance: Provenance) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of what was recorded."""
    found = []
    for name in SHORT:
        value = getattr(provenance, name)
        if value not in {"", 0} or name == "seed":
            is_count = isinstance(value, int) and name != "seed"
            text = f"{value:,}" if is_count else str(value)
            found.append((name.replace("_", " "), text, MEANINGS[name]))
    return found


def _data(heat: HeatMap, outcomes: list[str]) -> dict[str, Any]:
    """Return what the page's script reads: cells as band, column, then outcome and count."""
    numbered = {outcome: number for number, outcome in enumerate(outcomes)}
    return {
        "outcomes": outcomes,
        "bands": [[band.first, band.last, band.size] for band in heat.bands],
        "columns": heat.columns,
        "step": heat.step,
        "cells": [
            [band, column, *(part for name in found for part in (numbered[name], found[name]))]
            for (band, column), found in sorted(heat.cells.items())
        ],
    }
