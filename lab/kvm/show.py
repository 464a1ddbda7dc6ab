"""The outcome of a comparison for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lab.kvm.compare import Comparison

CONTEXT = 12
"""Events shown of each side of a part."""


def as_dict(theirs: str, comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as what JSON can hold."""
    return {
        "kvm": theirs,
        "same": comparison.same,
        "equal_events": comparison.equal,
        "parts": [part._asdict() for part in comparison.parts],
        "dirty": {
            "equal": comparison.dirty_equal,
            "only_kvm": comparison.dirty_only_theirs,
            "only_stage2": comparison.dirty_only_ours,
        },
    }


def show(console: Console, guest: str, theirs: str, comparison: Comparison) -> None:
    """Print where two runs of a guest part, and what they have in common."""
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
    verdict = "the same" if comparison.same else "they part"
    console.print(
        f"{guest}: {theirs} and stage2: {verdict}; {comparison.equal} events and "
        f"{comparison.dirty_equal} dirty pages equal",
        soft_wrap=True,
    )


def _add(table: Table, who: str, colour: str, events: Sequence[str]) -> None:
    for number, event in enumerate(events[:CONTEXT]):
        table.add_row(Text(who if number == 0 else "", style=colour), Text(event))
    if len(events) > CONTEXT:
        table.add_row("", Text(f"and {len(events) - CONTEXT} more", style="dim"))
