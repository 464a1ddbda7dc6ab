"""``make mutants``: break the code in one line at a time, and see the tests fail.

Exit status: 0 if every mutant was noticed, 1 if one was not, 2 if there is nothing to say.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from tests.mutants.run import Verdict, check_without, try_mutant
from tests.mutants.table import Mutant, TableError, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence


def report(verdicts: Sequence[Verdict], console: Console) -> None:
    """Print the table of verdicts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("mutant", "file", "noticed by"):
        table.add_column(heading, overflow="fold")
    table.add_column("s", justify="right")
    for verdict in verdicts:
        name = verdict.killer
        shown = "[bold red]nothing[/]" if name is None else escape(name.rsplit("/", 1)[-1])
        if name is not None and not verdict.expected:
            shown += " [yellow](not the tests that the table names)[/]"
        mutant = verdict.mutant
        table.add_row(mutant.breaks, mutant.file, shown, f"{verdict.seconds:.0f}")
    console.print(table)
    noticed = sum(verdict.killer is not None for verdict in verdicts)
    console.print(f"{noticed} of {len(verdicts)} mutants noticed")


def chosen(mutants: list[Mutant], words: Sequence[str]) -> list[Mutant]:
    """Return the mutants whose file or description has one of the words; all without words."""
    found = [m for m in mutants if not words or any(w in f"{m.file} {m.breaks}" for w in words)]
    if not found:
        raise TableError(
            f"no mutant has {' or '.join(map(repr, words))} in its file or description"
        )
    return found


@click.command()
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("-j", "--jobs", type=click.IntRange(1), default=2, help="Mutants at a time.")
def main(words: tuple[str, ...], jobs: int) -> None:
    """Try the mutants whose file or description has one of the words, by default all."""
    console = Console(highlight=False)
    try:
        mutants = chosen(read_table(), words)
        console.print(f"{len(mutants)} mutants; first the tests without any")
        check_without(mutants)
        with ThreadPoolExecutor(jobs) as pool:
            tried = pool.map(try_mutant, mutants)
            verdicts = list(track(tried, "trying", len(mutants), console=console, transient=True))
    except TableError as error:
        click.echo(f"mutants: {error}", err=True)
        sys.exit(2)
    report(verdicts, console)
    sys.exit(any(verdict.killer is None for verdict in verdicts))


if __name__ == "__main__":
    main()
