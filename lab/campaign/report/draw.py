"""Shapes for the page: paths of SVG, a class of style for each outcome."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from lab.campaign.report.heat import UNTOUCHED
from lab.campaign.severity import is_known, severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.campaign.report.bits import BitProfile

_OTHERS: Final = 3
"""Colours for outcomes that predicates of the user name; then they begin again."""
_HEIGHT: Final = 100
"""Of the drawing of bits, in its own units."""


def classes(outcomes: Iterable[str]) -> dict[str, str]:
    """Return the class of style for each outcome, the worst first."""
    found: dict[str, str] = {}
    others = 0
    for outcome in sorted(set(outcomes) - {UNTOUCHED}, key=severity):
        if is_known(outcome):
            found[outcome] = "o-" + outcome.replace(" ", "-")
        else:
            found[outcome] = f"o-other-{others % _OTHERS + 1}"
            others += 1
    return found | {UNTOUCHED: "o-untouched"}


def cells(coloured: Iterable[tuple[int, int, str]]) -> dict[str, str]:
    """Return the path of each outcome's cells; neighbours in a band are one shape."""
    paths: dict[str, list[str]] = {}
    for (outcome, band), group in groupby(
        sorted((outcome, band, column) for band, column, outcome in coloured),
        key=lambda each: each[:2],
    ):
        path = paths.setdefault(outcome, [])
        columns = [column for *_, column in group]
        if outcome == UNTOUCHED:
            path += (f"M{column}.35 {band}.35h.3v.3h-.3z" for column in columns)
            continue
        for _, run in groupby(enumerate(columns), key=lambda each: each[1] - each[0]):
            members = [column for _, column in run]
            path.append(f"M{members[0]} {band}h{len(members)}v.9h-{len(members)}z")
    return {outcome: "".join(path) for outcome, path in paths.items()}


def marks(coloured: Iterable[tuple[int, int, str]], outcome: str, shape: str) -> str:
    """Return the path that marks the cells of one outcome, so that colour is not all."""
    return "".join(
        f"M{column} {band}{shape}" for band, column, found in sorted(coloured) if found == outcome
    )


def stacks(profile: BitProfile) -> dict[str, str]:
    """Return the path of each outcome's parts of the bars, the worst at the bottom."""
    paths: dict[str, list[str]] = {}
    for bit in range(len(profile.positions)):
        floor = float(_HEIGHT)
        for outcome, share in profile.harm(bit).items():
            height = share / profile.top * _HEIGHT
            floor -= height
            paths.setdefault(outcome, []).append(f"M{bit}.1 {floor:.2f}h.8v{height:.2f}h-.8z")
    return {outcome: "".join(paths[outcome]) for outcome in sorted(paths, key=severity)}
