"""``stage2 inject``: campaigns of fault injection."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from emu import compiled
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from lab.campaign.execute import Hands, Workers
    from lab.campaign.plan import Plan
    from lab.campaign.store import Store
    from lab.campaign.summary import Summary

EXIT_ESCAPED = 1
"""A run of the campaign has left its VM's memory."""

EXIT_DIFFERS = 1
"""A run that was made again came to something else."""

MANY: Final = 2000
"""Runs for which it is worth while to compile."""

_file = click.Path(dir_okay=False, path_type=Path)


@click.group(short_help="Inject faults by the thousand, and see what becomes of them.")
def inject() -> None:
    """Plan and run campaigns of fault injection, and look at what they found.

    A campaign file names a guest, a space of faults, and how much of it to run: see
    docs/campaigns.md; some campaigns are there by name: docs/experiments.md. Results are in
    one SQLite file, complete at every moment.

    \b
    Examples:
      stage2 inject plan stage2_flips
      stage2 inject run flips.toml --workers 2
      stage2 inject resume flips.db
      stage2 inject report flips.db --html flips.html
      stage2 inject replay flips.db#1234
    """  # noqa: D301  # click's mark for lines to keep is the character \b


def _workers(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say who runs experiments."""
    processes = click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=None,
        metavar="N",
        help="Processes to run on; 0 for this one alone. As many as there are CPUs if not given.",
    )
    dask = click.option(
        "--dask", default="", metavar="ADDRESS", help="Run on the workers of this Dask scheduler."
    )
    return processes(dask(command))


@inject.command(short_help="Say what a campaign would run.")
@click.argument("campaign")
@click.option(
    "--list",
    "count",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="List the first N experiments, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def plan(campaign: str, count: int, *, as_json: bool) -> None:
    """Run the guest of CAMPAIGN without faults, and say what there is to be injected.

    \b
    Examples:
      stage2 inject plan flips.toml
      stage2 inject plan flips.toml --list 20
      stage2 inject plan flips.toml --json
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.campaign.planning import plan_campaign  # noqa: PLC0415
    from lab.campaign.prepare import prepare  # noqa: PLC0415  # start-up time
    from lab.campaign.read import read_campaign  # noqa: PLC0415
    from lab.campaign.shipped import find_campaign  # noqa: PLC0415
    from lab.campaign.showplan import as_dict, print_plan  # noqa: PLC0415

    prepared = prepare(read_campaign(find_campaign(campaign)))
    made = plan_campaign(prepared)
    if as_json:
        click.echo(json.dumps(as_dict(prepared.campaign, made, count), indent=2))
    else:
        print_plan(prepared.campaign, made, count, _console())


@inject.command(short_help="Run a campaign.")
@click.argument("campaign")
@click.option(
    "--results", type=_file, metavar="F.db", help="The file of results; CAMPAIGN.db if not given."
)
@_workers
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def run(
    campaign: str, results: Path | None, workers: int | None, dask: str, *, as_json: bool
) -> int:
    """Run CAMPAIGN, and store what comes of each run.

    \b
    Examples:
      stage2 inject run flips.toml
      stage2 inject run flips.toml --results monday.db --workers 2
      stage2 inject run flips.toml --dask tcp://10.0.0.1:8786

    \b
    Exit status:
      0    all of it was run, and isolation held
      1    all of it was run, and a run reached memory outside of its VM
      2    bad usage or bad input
      130  interrupted by Ctrl-C; go on with stage2 inject resume
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.campaign.execute import hire  # noqa: PLC0415  # start-up time
    from lab.campaign.planning import plan_campaign  # noqa: PLC0415
    from lab.campaign.prepare import prepare  # noqa: PLC0415
    from lab.campaign.read import read_campaign  # noqa: PLC0415
    from lab.campaign.results import new_results  # noqa: PLC0415
    from lab.campaign.shipped import find_campaign  # noqa: PLC0415
    from lab.campaign.store import Store  # noqa: PLC0415

    who = _who(workers, dask)
    path = Path(campaign).with_suffix(".db") if results is None else results
    Store.check_new(path)
    file = find_campaign(campaign)
    prepared = prepare(read_campaign(file))
    with hire(prepared, who, at_once=True) as hands:
        made = plan_campaign(prepared)
        runs = len(made.experiments)
        if runs >= MANY and compiled.in_use() is None and not dask:
            hint = "stage2 compile makes them twice as fast"
            click.echo(f"{runs:,} runs as Python: {hint}", err=True)
        with new_results(path, prepared, made, file.name) as store:
            return _execute(made, store, hands, as_json=as_json)


@inject.command(short_help="Go on with a campaign that was interrupted.")
@click.argument("results", type=_file)
@_workers
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def resume(results: Path, workers: int | None, dask: str, *, as_json: bool) -> int:
    """Run what is missing in RESULTS; no run is lost, and none is made twice.

    The guest and its machine must be what they were: their hash is compared.

    \b
    Examples:
      stage2 inject resume flips.db
      stage2 inject resume flips.db --workers 4

    \b
    Exit status: as for stage2 inject run.
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.campaign.execute import hire  # noqa: PLC0415  # start-up time
    from lab.campaign.results import prepared_again  # noqa: PLC0415
    from lab.campaign.store import Store  # noqa: PLC0415

    who = _who(workers, dask)
    with Store.open(results) as store:
        prepared, made = prepared_again(store)
        with hire(prepared, who) as hands:
            return _execute(made, store, hands, as_json=as_json)


@inject.command(short_help="Say what a campaign found.")
@click.argument("results", type=_file)
@click.option("--html", type=_file, metavar="F.html", help="Write a page for a browser, too.")
@click.option("--parquet", type=_file, metavar="F.parquet", help="Write all rows as Parquet, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def report(results: Path, html: Path | None, parquet: Path | None, *, as_json: bool) -> None:
    """Sum up RESULTS, which may still be growing.

    \b
    Examples:
      stage2 inject report flips.db
      stage2 inject report flips.db --html flips.html
      stage2 inject report flips.db --parquet flips.parquet
      stage2 inject report flips.db --json
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.campaign.parquet import write_parquet  # noqa: PLC0415  # start-up time
    from lab.campaign.report import write_report  # noqa: PLC0415
    from lab.campaign.store import Store  # noqa: PLC0415

    with Store.open(results) as store:
        _sum_up(store, as_json=as_json)
        if html is not None:
            write_report(store, html)
        if parquet is not None:
            write_parquet(store, parquet)


@inject.command(short_help="Make one run of a campaign again, and say where it went wrong.")
@click.argument("row", metavar="RESULTS#ID")
@click.option("--trace", is_flag=True, help="Print KVM's tracepoints on stderr, as ftrace does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def replay(row: str, *, trace: bool, as_json: bool) -> int:
    """Make run ID of RESULTS again, beside the run without faults.

    Both are compared instruction by instruction: what is printed is where the run first left
    the golden one, and what came of that.

    \b
    Examples:
      stage2 inject replay flips.db#1234
      stage2 inject replay flips.db#1234 --trace

    \b
    Exit status:
      0    the outcome is that of the row
      1    it is not: the row or the program has changed
      2    bad usage or bad input
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.campaign.replay import replay as run_again  # noqa: PLC0415  # start-up time
    from lab.campaign.results import prepared_again  # noqa: PLC0415
    from lab.campaign.showreplay import print_replay  # noqa: PLC0415
    from lab.campaign.store import Store  # noqa: PLC0415
    from lab.trace import TextTrace  # noqa: PLC0415

    path, number = _row_of(row)
    with Store.open(path) as store:
        before = store.row(number)
        prepared, made = prepared_again(store)
    listener = TextTrace(sys.stderr, colour=sys.stderr.isatty()) if trace else None
    found = run_again(prepared, made.experiments[number], before, listener)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        print_replay(found, _console())
    return 0 if found.is_same else EXIT_DIFFERS


def _row_of(text: str) -> tuple[Path, int]:
    """Return the file and the number that a row is named by."""
    path, mark, number = text.rpartition("#")
    if not mark or not number.isdecimal():
        raise UserError(f"a row is named by its file and number, such as flips.db#12, not {text!r}")
    return Path(path), int(number)


def _who(workers: int | None, dask: str) -> Workers:
    from lab.campaign.execute import Workers  # noqa: PLC0415  # start-up time

    if dask and workers is not None:
        raise UserError("--workers are processes of this machine, --dask has its own; give one")
    return Workers(os.cpu_count() or 1 if workers is None else workers, dask)


def _execute(made: Plan, store: Store, hands: Hands, *, as_json: bool) -> int:
    """Run what is missing, with a progress bar if someone watches, and sum it up."""
    from lab.campaign.execute import execute  # noqa: PLC0415  # start-up time

    with _progress(len(made.experiments)) as advance:
        execute(made, store, hands, advance)
    summary = _sum_up(store, as_json=as_json)
    return EXIT_ESCAPED if summary.escapes.runs else 0


def _sum_up(store: Store, *, as_json: bool) -> Summary:
    from lab.campaign.show import as_json as to_json  # noqa: PLC0415  # start-up time
    from lab.campaign.show import print_results  # noqa: PLC0415
    from lab.campaign.summary import summarize  # noqa: PLC0415

    summary = summarize(store)
    if as_json:
        click.echo(json.dumps(to_json(summary), indent=2))
    else:
        print_results(summary, _console())
    return summary


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many runs are done, their rate, and the time that the rest will take."""
    from rich.console import Console  # noqa: PLC0415  # start-up time
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("runs", total=total, rate="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} a second" if speed else "")

        yield advance


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415  # start-up time

    return Console(highlight=False)
