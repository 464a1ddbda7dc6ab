"""The results of a campaign for a terminal, at any width from 80 columns up, and as JSON."""

from __future__ import annotations

from itertools import groupby, islice
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lab.campaign import numbers
from lab.campaign.provenance import SHORT

if TYPE_CHECKING:
    from rich.console import Console

    from lab.campaign.row import Row
    from lab.campaign.summary import OutcomeShare, Summary

_LABEL: Final = "bold"
_QUIET: Final = "dim"
_STYLES: Final = {
    "isolation escape": "bold red",
    "silent corruption": "red",
    "lost": "magenta",
    "hang": "yellow",
    "crash": "yellow",
    "detected": "green",
    "masked": _QUIET,
}
_UNKNOWN: Final = "magenta"
_EACH: Final = 3
"""Runs that are shown of each outcome."""
_WORDS: Final = 90
"""Characters of the reason for an outcome."""
_BAR: Final = 24
"""Columns of a bar, at least."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def print_results(summary: Summary, console: Console) -> None:
    """Print the summary of a file of results."""
    provenance = summary.provenance
    title = Text.assemble((_plain(provenance.campaign), _LABEL), f" on {_plain(provenance.guest)}")
    console.print(Rule(title, style=_QUIET, align="left"))
    console.print(Text(_runs(summary)))
    console.print(Text(f"{_golden(summary)}\n", style=_QUIET))
    console.print(_outcomes(summary, console.width), highlight=False)
    console.print(_verdict(summary))
    statuses = ", ".join(f"{count:,} {status}" for status, count in summary.statuses.items())
    console.print(Text.assemble(("\nfaults  ", _LABEL), statuses or "none"))
    if summary.worst:
        console.print()
        console.print(_worst(summary, console.width // 2), highlight=False)
    console.print(Text(f"\none run again: {summary.replay()}", style=_QUIET), soft_wrap=True)
    if not summary.is_complete:
        command = f"stage2 inject resume {summary.path}"
        console.print(Text(f"the rest:      {command}", style=_QUIET), soft_wrap=True)


def _runs(summary: Summary) -> str:
    facts = summary.provenance
    done = numbers.counted(summary.runs, "run")
    if not summary.is_complete:
        done = f"{summary.runs:,} of {facts.total:,} runs so far"
    text = f"{done}, in a space of {numbers.counted(facts.space, 'fault')}"
    if facts.masked and facts.space:
        text += f", of which {numbers.percent(facts.masked / facts.space)} need no run"
    return text


def _golden(summary: Summary) -> str:
    facts = summary.provenance
    return (
        f"without a fault: {facts.golden_end} after "
        f"{numbers.counted(facts.golden_instructions, 'instruction')}"
    )


def _outcomes(summary: Summary, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_QUIET)
    table.add_column("outcome", no_wrap=True)
    table.add_column("runs", justify="right")
    level = numbers.confidence(summary.provenance.confidence)
    if summary.is_exact or summary.has_intervals:
        table.add_column("of the space", justify="right", no_wrap=True)
    else:
        table.add_column("so far", justify="right", no_wrap=True)
    if summary.has_intervals:
        table.add_column(f"{level} interval", no_wrap=True)
    bar = max(_BAR, min(48, width - 70))
    table.add_column("", no_wrap=True)
    for each in summary.outcomes:
        style = _style(each.outcome)
        cells = [
            Text(_plain(each.outcome), style=style),
            Text(f"{each.runs:,}"),
            Text(_share(each)),
        ]
        if summary.has_intervals:
            cells.append(Text(numbers.interval(each.share) if each.share else "", style=_QUIET))
        share = each.share.estimate if each.share else 0.0
        table.add_row(*cells, Text(_blocks(share, bar), style=style))
    return table


def _share(each: OutcomeShare) -> str:
    return "-" if each.share is None else numbers.percent(each.share.estimate)


def _blocks(share: float, width: int) -> str:
    """Return a bar; a share that is not 0 can be seen."""
    eighths = max(round(share * width * 8), 1 if share else 0)
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _verdict(summary: Summary) -> Text:
    style = "bold red" if summary.escapes.runs else "green" if summary.runs else _QUIET
    return Text(f"\n{summary.verdict}", style=style)


def _worst(summary: Summary, where: int) -> Table:
    """Return the worst runs, a block for each outcome, with so many columns for places."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_QUIET)
    rows = [
        row
        for _, group in groupby(summary.worst, lambda row: row.outcome)
        for row in islice(group, _EACH)
    ]
    starts = [(f"{row.id}", f"{row.moment:,}", _bit(row)) for row in rows]
    for number, head in enumerate(("id", "time", "bit")):
        # Numbers are never cut.
        longest = max(len(head), *(len(start[number]) for start in starts))
        table.add_column(head, justify="right", no_wrap=True, min_width=longest)
    table.add_column("where", no_wrap=True, overflow="ellipsis", max_width=where)
    table.add_column("why")
    shown = ""
    for row, start in zip(rows, starts, strict=True):
        if row.outcome != shown:
            shown = row.outcome
            table.add_row("", "", "", Text(_plain(shown), style=_style(shown)))
        table.add_row(
            *start,
            Text(_plain(row.location)),
            Text(shorten(_plain(row.why), _WORDS, placeholder=" ...")),
        )
    return table


def _bit(row: Row) -> str:
    return "" if row.bit is None else str(row.bit)


def _plain(text: str) -> str:
    """Return text without what a terminal would obey: some of it is the guest's."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _style(outcome: str) -> str:
    return _STYLES.get(outcome, _UNKNOWN)


def as_json(summary: Summary) -> dict[str, Any]:
    """Return everything as a dictionary that JSON can hold.

    ``share``, ``low`` and ``high`` are of all faults of the space, from 0 to 1; None if the
    runs so far say nothing of it.
    """
    return {
        "file": str(summary.path),
        "provenance": {name: getattr(summary.provenance, name) for name in SHORT},
        "runs": summary.runs,
        "complete": summary.is_complete,
        "exact": summary.is_exact,
        "verdict": summary.verdict,
        "outcomes": [_outcome_json(each) for each in summary.outcomes],
        "statuses": dict(summary.statuses),
        "worst": [_row_json(row, summary) for row in summary.worst],
    }


def _outcome_json(each: OutcomeShare) -> dict[str, Any]:
    share, low, high = each.share or (None, None, None)
    return {"outcome": each.outcome, "runs": each.runs, "share": share, "low": low, "high": high}


def _row_json(row: Row, summary: Summary) -> dict[str, Any]:
    return {**row._asdict(), "replay": summary.replay(row.id)}
