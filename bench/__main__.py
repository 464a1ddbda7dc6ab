"""``python -m bench [--quick] [--json FILE] [NAME ...]``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

import click
from rich.console import Console

from bench import facts, report
from bench.catalogue import BENCHMARKS
from bench.timing import FULL, QUICK

if TYPE_CHECKING:
    from bench.rows import Row


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Less work and fewer rounds: seconds, not minutes.")
@click.option(
    "--json", "output", type=click.File("w"), metavar="FILE", help="Write the figures, too."
)
def main(names: tuple[str, ...], *, quick: bool, output: TextIO | None) -> None:
    """Measure the machine's speed against references in the same run.

    Without a NAME all benchmarks run: compute, refill, walk, fault, kvm, pgtable, dirtylog,
    exits, recording, startup.
    docs/performance.md explains the rows.
    """
    scale, scale_name = (QUICK, "quick") if quick else (FULL, "full")
    machine = facts.machine()
    console = Console()
    if not console.is_terminal:
        console.width = report.WIDTH
    results: dict[str, list[Row]] = {}
    chosen = [name for name in BENCHMARKS if not names or name in names]
    for name in chosen:
        _show_progress(f"measuring {name}")
        results[name] = BENCHMARKS[name](scale)
    _show_progress("")
    console.print(report.heading(machine, scale_name), style="dim")
    console.print(report.table(results))
    if output is not None:
        json.dump(report.as_dict(results, machine, scale_name), output, indent=2)
        output.write("\n")


def _show_progress(text: str) -> None:
    """Show a line that the next one replaces. No thread draws it: that would be measured, too."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", err=True, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m bench")
