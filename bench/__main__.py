"""``python -m bench [--quick] [--json FILE] [NAME ...]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from bench import facts, report
from bench.catalogue import BENCHMARKS
from bench.timing import FULL, QUICK, Spent
from lab.errors import UserError

if TYPE_CHECKING:
    from bench.rows import Row


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Less work and fewer rounds: seconds, not minutes.")
@click.option(
    "--json",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the figures, too.",
)
def main(names: tuple[str, ...], *, quick: bool, output: Path | None) -> None:
    """Measure the machine's speed against references in the same run.

    Without a NAME all benchmarks run: compute, refill, walk, fault, exits, ipi, kvm, pgtable,
    dirtylog, recording, startup, linux, compiled. Times are CPU time unless a row says otherwise.
    docs/performance.md explains the rows.
    """
    scale, scale_name = (QUICK, "quick") if quick else (FULL, "full")
    machine = facts.machine()
    console = Console()
    if not console.is_terminal:
        console.width = report.WIDTH
    results: dict[str, list[Row]] = {}
    spent: dict[str, Spent] = {}
    skipped: dict[str, str] = {}
    chosen = [name for name in BENCHMARKS if not names or name in names]
    for name in chosen:
        _show_progress(f"measuring {name}")
        before = Spent.by_all()
        try:
            results[name] = BENCHMARKS[name](scale)
        except UserError as error:
            skipped[name] = str(error)
            continue
        spent[name] = Spent.by_all() - before
    _show_progress("")
    console.print(report.heading(machine, scale_name), style="dim")
    console.print(report.table(results, spent))
    for name, reason in skipped.items():
        console.print(f"{name}: skipped, {reason}", soft_wrap=True, highlight=False)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        figures = report.as_dict(results, spent, skipped, machine, scale_name)
        output.write_text(json.dumps(figures, indent=2) + "\n")


def _show_progress(text: str) -> None:
    """Show a line that the next one replaces. No thread draws it: that would be measured, too."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", err=True, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m bench")
