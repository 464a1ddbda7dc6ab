"""A run made again, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from lab.campaign.replay import Replay


def print_replay(replay: Replay, console: Console) -> None:
    """Print what a run came to, and how."""
    row = replay.before
    title = f"run {row.id}: {row.location}" + ("" if row.bit is None else f" bit {row.bit}")
    console.print(Rule(Text(title, style="bold"), style="dim", align="left"))
    for number, sentence in enumerate(replay.story, 1):
        step = Text(f"{number}. ", style="dim")
        console.print(Padding(step + Text(sentence), (0, 0, 0, 2)))
    if replay.is_same:
        console.print(Text("The same as stored, to the last column.", style="green"))
        return
    console.print(Text("Not the same as stored:", style="bold red"))
    for name, before, now in zip(row._fields, row, replay.now, strict=True):
        if before != now:
            console.print(f"  {name}: stored {before!r}, now {now!r}")
