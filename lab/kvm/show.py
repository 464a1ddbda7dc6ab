"""The outcome of comparisons for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from hyp.vm import Cap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lab.kvm.compare import Comparison
    from lab.kvm.session import Outcome, Session
    from lab.kvm.setups import Setup

CONTEXT = 12
"""Events shown of each side of a part."""

TABLE_WIDTH = 100
"""What the table of all set-ups needs; a narrower terminal wraps its lines."""


def as_dict(session: Session) -> dict[str, Any]:
    """Return what JSON can hold: the kernel, and a list of comparisons."""
    return {
        "kernel": session.release,
        "same": session.same,
        "runs": [_run_as_dict(outcome) for outcome in session.outcomes],
    }


def _run_as_dict(outcome: Outcome) -> dict[str, Any]:
    experiment, comparison = outcome.experiment, outcome.comparison
    run: dict[str, Any] = {
        "guest": experiment.guest,
        "setup": experiment.setup.name,
        "profile": outcome.profile,
        "kvm_nanoseconds": outcome.theirs.nanoseconds,
        "kvm_exits": outcome.theirs.exits,
    }
    if comparison is None:
        return run | {"lacks": _lacks(outcome)}
    return run | {
        "same": comparison.same,
        "equal_events": comparison.equal,
        "parts": [part._asdict() for part in comparison.parts],
        "dirty": {
            "equal": comparison.dirty_equal,
            "only_kvm": comparison.dirty_only_theirs,
            "only_stage2": comparison.dirty_only_ours,
        },
    }


def list_of_setups(setups: Sequence[Setup]) -> Table:
    """Return a table of what set-ups there are."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for setup in setups:
        table.add_row(setup.name, setup.summary)
    return table


def show(console: Console, session: Session) -> None:
    """Print where runs part, then what they have in common: a line, or a table for several."""
    for outcome in session.outcomes:
        if outcome.comparison is not None and not outcome.comparison.same:
            if len(session.outcomes) > 1:
                console.print(f"{outcome.experiment.name}:", style="bold")
            _show_parts(console, outcome.comparison)
    if len(session.outcomes) == 1:
        _show_one(console, session.release, session.outcomes[0])
    else:
        _show_table(console, session)


def _show_one(console: Console, release: str, outcome: Outcome) -> None:
    experiment, comparison = outcome.experiment, outcome.comparison
    who = f"{experiment.guest}: KVM of Linux {release}"
    if comparison is None:
        console.print(f"{who} has no {_lacks(outcome)}", soft_wrap=True)
        return
    verdict = "the same" if comparison.same else "they part"
    console.print(
        f"{who} and stage2 (profile {outcome.profile}): {verdict}; "
        f"{comparison.equal} events and {comparison.dirty_equal} dirty pages equal",
        soft_wrap=True,
    )


def _show_table(console: Console, session: Session) -> None:
    setups = list(dict.fromkeys(each.experiment.setup.name for each in session.outcomes))
    cells = {(each.experiment.guest, each.experiment.setup.name): each for each in session.outcomes}
    guests = list(dict.fromkeys(each.experiment.guest for each in session.outcomes))
    by_setup = len(guests) < len(setups)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("setup" if by_setup else "guest", no_wrap=True, vertical="bottom")
    for column in guests if by_setup else setups:
        table.add_column(
            column.replace("-", "\n"), justify="right", no_wrap=True, vertical="bottom"
        )
    for row in setups if by_setup else guests:
        table.add_row(
            row,
            *(_cell(cells[(column, row) if by_setup else (row, column)])
              for column in (guests if by_setup else setups)),
        )  # fmt: skip
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)
    compared = [each.comparison for each in session.outcomes if each.comparison is not None]
    same = sum(comparison.same for comparison in compared)
    profiles = ", ".join(dict.fromkeys(each.profile for each in session.outcomes))
    console.print(
        f"KVM of Linux {session.release} and stage2 (profile {profiles}): {same} of "
        f"{len(compared)} runs are the same; {sum(each.equal for each in compared)} events and "
        f"{sum(each.dirty_equal for each in compared)} dirty pages equal",
        soft_wrap=True,
    )
    for lacks in dict.fromkeys(_lacks(each) for each in session.outcomes if not each.comparison):
        console.print(f"- this KVM has no {lacks}")


def _cell(outcome: Outcome) -> Text:
    """Return the number of equal events, or how many stretches differ."""
    comparison = outcome.comparison
    if comparison is None:
        return Text("-", style="dim")
    if comparison.same:
        return Text(str(comparison.equal), style="green")
    pages = len(comparison.dirty_only_theirs) + len(comparison.dirty_only_ours)
    return Text(f"{len(comparison.parts) or pages} off", style="bold red")


def _lacks(outcome: Outcome) -> str:
    assert outcome.theirs.lacks is not None, "without a comparison something was missing"
    return f"KVM_CAP_{Cap(outcome.theirs.lacks).name}"


def _show_parts(console: Console, comparison: Comparison) -> None:
    for part in comparison.parts:
        table = Table(
            "", "event", box=None, pad_edge=False, show_header=False, title_justify="left"
        )
        table.title = f"after {part.at} events of KVM"
        _add(table, "KVM only", "red", part.theirs)
        _add(table, "stage2 only", "green", part.ours)
        console.print(table, "", sep="\n")
    for who, pages in (
        ("KVM", comparison.dirty_only_theirs),
        ("stage2", comparison.dirty_only_ours),
    ):
        if pages:
            listed = ", ".join(f"{slot}:{page}" for slot, page in pages[:CONTEXT])
            more = f" and {len(pages) - CONTEXT} more" if len(pages) > CONTEXT else ""
            console.print(f"dirty for {who} only (slot:page): {listed}{more}")


def _add(table: Table, who: str, colour: str, events: Sequence[str]) -> None:
    for number, event in enumerate(events[:CONTEXT]):
        table.add_row(Text(who if number == 0 else "", style=colour), Text(event))
    if len(events) > CONTEXT:
        table.add_row("", Text(f"and {len(events) - CONTEXT} more", style="dim"))
