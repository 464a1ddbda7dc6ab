"""``stage2 conformance``: recorded exceptions, replayed and compared."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.features import CpuFeatures
    from lab.conformance.cases import Case
    from lab.conformance.run import ProfileResult

EXIT_DIFFERENT = 1
EXIT_BAD_INPUT = 2


@click.command(short_help="Replay recorded exceptions and compare them.")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE.jsonl[.gz]...",
    type=click.Path(path_type=Path),
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    default=("max",),
    show_default=True,
    metavar="NAME|FILE.toml",
    help="The CPU: max, cortex-a72, neoverse-n1, or a profile of your own. Repeatable.",
)
@click.option(
    "--family", "families", multiple=True, metavar="F", help="Run this family only. Repeatable."
)
@click.option(
    "--case",
    "names",
    multiple=True,
    metavar="NAME",
    help="Run this case only; * and ? match any text. Repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    metavar="N",
    show_default=True,
    help="Show N differing cases in detail; 0 shows all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def conformance(
    files: tuple[Path, ...],
    profiles: tuple[str, ...],
    families: tuple[str, ...],
    names: tuple[str, ...],
    limit: int,
    *,
    as_json: bool,
) -> int:
    """Replay the recorded cases in FILE and compare what the machine does.

    A case is a set-up of EL2 with translation tables, a few guest instructions, and the
    exceptions that another implementation took on them. Listed deviations, which the
    architecture allows, are counted apart.

    \b
    Examples:
      stage2 conformance tests/conformance/*.jsonl.gz
      stage2 conformance perm.jsonl.gz --profile cortex-a72 --profile neoverse-n1
      stage2 conformance iss.jsonl.gz --case 'iss/ldp*' --limit 0
      stage2 conformance fuzz.jsonl.gz --profile my-cpu.toml --json

    \b
    Exit status:
      0    no difference, apart from listed deviations
      1    a case differs
      2    bad usage or bad input; the good cases have been run
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.conformance.reader import read  # noqa: PLC0415  # start-up time

    chosen = [_profile(name) for name in profiles]
    found = read(files)
    cases = [each for each in found.cases if _is_wanted(each, families, names)]
    for error in found.errors:
        click.echo(f"stage2: error: {error}", err=True)
    if found.cases and not cases:
        raise UserError(_no_match(found.cases, families, names))
    results = _run(cases, chosen)
    if as_json:
        from lab.conformance.report import as_json as to_json  # noqa: PLC0415  # start-up time

        click.echo(json.dumps(to_json(results, found.errors), indent=2))
    elif cases:
        _print(results, limit or None)
    if found.errors:
        return EXIT_BAD_INPUT
    return EXIT_DIFFERENT if any(_differs(each) for each in results) else 0


def _profile(name: str) -> CpuFeatures:
    from emu.arch.profiles import ProfileError, profile  # noqa: PLC0415  # start-up time

    try:
        return profile(name)
    except ProfileError as error:
        raise UserError(f"--profile: {error}") from error


def _is_wanted(case: Case, families: Sequence[str], names: Sequence[str]) -> bool:
    if families and case.family not in families:
        return False
    return not names or any(case.name == name or fnmatchcase(case.name, name) for name in names)


def _no_match(cases: Sequence[Case], families: Sequence[str], names: Sequence[str]) -> str:
    there = sorted({case.family for case in cases})
    for family in families:
        if family not in there:
            return f"--family {family}: no such family; the files have {', '.join(there)}"
    return f"--case {' '.join(names)}: no such case; the files have {len(cases)} others"


def _run(cases: Sequence[Case], profiles: Sequence[CpuFeatures]) -> list[ProfileResult]:
    """Run all cases on all CPUs, with a progress bar if someone watches."""
    from rich.console import Console  # noqa: PLC0415  # start-up time
    from rich.progress import Progress  # noqa: PLC0415

    from lab.conformance.deviations import listed  # noqa: PLC0415
    from lab.conformance.run import run_profile  # noqa: PLC0415

    results = []
    watched = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=not watched) as bar:
        for features in profiles:
            task = bar.add_task(features.name, total=len(cases))
            results.append(run_profile(cases, features, listed(), partial(bar.advance, task)))
    return results


def _print(results: Sequence[ProfileResult], limit: int | None) -> None:
    from rich.console import Console  # noqa: PLC0415  # start-up time

    from lab.conformance.report import print_profile  # noqa: PLC0415

    console = Console(highlight=False)
    for result in results:
        print_profile(result, console, limit)


def _differs(result: ProfileResult) -> bool:
    from lab.conformance.run import Verdict  # noqa: PLC0415  # start-up time

    return bool(result.with_verdict(Verdict.DIFFERENT))
