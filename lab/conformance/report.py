"""Shows what a run of cases came to: tables for people, JSON for programs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lab.conformance.details import field_rows, rows, step_title
from lab.conformance.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lab.conformance.compare import Difference
    from lab.conformance.deviations import Deviation
    from lab.conformance.run import CaseResult, ProfileResult

_LABEL: Final = "bold"
_QUIET: Final = "dim"
_STYLES: Final = {
    Verdict.EQUAL: "green",
    Verdict.LISTED: "yellow",
    Verdict.DIFFERENT: "bold red",
    Verdict.SKIPPED: "yellow",
    Verdict.OTHER_PROFILE: _QUIET,
}
_HEADS: Final = {
    Verdict.EQUAL: "equal",
    Verdict.LISTED: "listed deviations",
    Verdict.DIFFERENT: "different",
    Verdict.SKIPPED: "skipped",
    Verdict.OTHER_PROFILE: "not for this profile",
}


def print_profile(result: ProfileResult, console: Console, limit: int | None) -> None:
    """Print the differences, what was skipped, the deviations, and last the table.

    Parameters
    ----------
    result
        What to print.
    console
        Where to.
    limit
        How many differing cases are shown in detail; None for all.
    """
    console.print(Rule(Text(result.profile, style=_LABEL), style=_QUIET, align="left"))
    different = result.with_verdict(Verdict.DIFFERENT)
    for each in different[:limit]:
        _print_difference(each, console)
    if limit is not None and len(different) > limit:
        _print_rest(different[limit:], console)
    for each in result.with_verdict(Verdict.SKIPPED):
        text = f"skipped: {each.case.name}: the CPU emulation does not know {each.case.asm}"
        console.print(Text(f"{text} ({each.case.requires})"), highlight=False)
    for entry, times in result.deviations().items():
        _print_deviation(entry, times, console)
    console.print(_table(result), highlight=False)


def _print_difference(result: CaseResult, console: Console) -> None:
    case = result.case
    title = Text.assemble((case.name, _STYLES[Verdict.DIFFERENT]), f"  {case.asm}")
    console.print(title, highlight=False, soft_wrap=True)
    console.print(Text(f"  {case.place}", style=_QUIET), highlight=False, soft_wrap=True)
    if case.note:
        console.print(Text(f"  {case.note}", style=_QUIET), highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_QUIET)
    table.add_column("  step", no_wrap=True)
    table.add_column("field", no_wrap=True)
    table.add_column("recorded")
    table.add_column("here")
    previous = None
    for step, row in rows(result):
        where = f"  {step_title(step)}" if step != previous else ""
        previous = step
        name = "  " * row.depth + row.name
        table.add_row(where, Text(name), row.recorded, row.here, style=_QUIET if row.depth else "")
    console.print(table, highlight=False, markup=False)
    console.print()


def _print_rest(rest: Sequence[CaseResult], console: Console) -> None:
    """Print how many cases are not shown, and what differs in them first."""
    console.print(
        Text(f"{len(rest)} more differ (--limit 0 shows all), by family and first field:")
    )
    counts = Counter((each.case.family, each.differences[0].field) for each in rest)
    table = Table.grid(padding=(0, 2))
    for (family, field), times in counts.most_common():
        table.add_row(Text(f"  {times}", justify="right"), family, field)
    console.print(table, highlight=False)
    console.print()


def _print_deviation(entry: Deviation, times: int, console: Console) -> None:
    console.print(
        Text.assemble(
            ("listed deviation", _STYLES[Verdict.LISTED]),
            f": {entry.pattern}, {entry.field}: {times} {'case' if times == 1 else 'cases'}",
        ),
        highlight=False,
    )
    console.print(Text(f"  {entry.reason}\n  {entry.rule}"), highlight=False)


def _table(result: ProfileResult) -> Table:
    families = result.families()
    total: Counter[Verdict] = sum(families.values(), Counter())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_QUIET, show_footer=True)
    table.add_column("family", "all", footer_style=_LABEL, no_wrap=True)
    table.add_column("cases", str(total.total()), justify="right", footer_style=_LABEL)
    for verdict, head in _HEADS.items():
        table.add_column(head, _cell(verdict, total), justify="right")
    for family, counts in families.items():
        cells = (_cell(verdict, counts) for verdict in _HEADS)
        table.add_row(family, str(counts.total()), *cells)
    return table


def _cell(verdict: Verdict, counts: Counter[Verdict]) -> Text:
    times = counts[verdict]
    return Text(str(times), style=_STYLES[verdict] if times else _QUIET)


def as_json(results: Sequence[ProfileResult], errors: Sequence[str]) -> dict[str, Any]:
    """Return everything as a dictionary that JSON can hold. Numbers of 64 bits are numbers."""
    return {"errors": list(errors), "profiles": [_profile_json(each) for each in results]}


def _profile_json(result: ProfileResult) -> dict[str, Any]:
    families = result.families()
    return {
        "profile": result.profile,
        "total": _counts_json(sum(families.values(), Counter())),
        "families": {name: _counts_json(counts) for name, counts in families.items()},
        "different": [_case_json(each) for each in result.with_verdict(Verdict.DIFFERENT)],
        "listed": [_case_json(each) for each in result.with_verdict(Verdict.LISTED)],
        "skipped": [
            {"name": each.case.name, "instruction": each.case.asm, "requires": each.case.requires}
            for each in result.with_verdict(Verdict.SKIPPED)
        ],
    }


def _counts_json(counts: Counter[Verdict]) -> dict[str, int]:
    return {
        "cases": counts.total(),
        **{verdict.name.lower(): counts[verdict] for verdict in Verdict},
    }


def _case_json(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "place": result.case.place,
        "instruction": result.case.asm,
        "differences": [_difference_json(each) for each in result.differences],
        "deviations": [
            {"pattern": each.pattern, "field": each.field, "rule": each.rule, "reason": each.reason}
            for each in result.deviations
        ],
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    found: dict[str, Any] = difference._asdict()
    decoded = [
        {"name": row.name, "recorded": row.recorded, "here": row.here}
        for row in field_rows(difference)
    ]
    if decoded:
        found["fields"] = decoded
    return found
