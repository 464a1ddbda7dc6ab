"""``stage2 compile``: the machine and the hypervisor as machine code."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from lab.errors import UserError

if TYPE_CHECKING:
    from lab.compiled.build import Compiled

EXIT_NOT_COMPILED = 1


@click.command(name="compile", short_help="Make the machine faster: compile it for this host.")
@click.option("--status", is_flag=True, help="Only say what has been compiled and whether it runs.")
@click.option("--remove", is_flag=True, help="Remove what was compiled, of older sources too.")
@click.option("--force", is_flag=True, help="Compile again, even if nothing has changed.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    metavar="N",
    help="Run so many C compilers at once; the number of CPUs unless given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def compile_(*, status: bool, remove: bool, force: bool, jobs: int, as_json: bool) -> int:
    """Compile the modules in which a run spends its time, for this host and its Python.

    It takes minutes, once. From then on every program that imports the machine or the hypervisor
    uses the result by itself, with the same results as before. A changed source, another version
    of stage2 included, runs as Python again until it is compiled. STAGE2_PURE=1 in the
    environment has everything run as Python.

    \b
    Examples:
      stage2 compile
      stage2 compile --status
      stage2 compile --force --jobs 1
      stage2 compile --remove

    \b
    Exit status:
      0    done; for --status, what has been compiled is of the sources as they are
      1    for --status, nothing has been compiled of them
      2    bad usage, something is missing, or a compiler refuses
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from emu import compiled  # noqa: PLC0415  # start-up time
    from lab.compiled import build  # noqa: PLC0415

    if sum((status, remove, force)) > 1:
        raise UserError("--status, --remove and --force exclude each other; give one")
    if remove:
        folders = build.remove()
        if as_json:
            click.echo(json.dumps({"removed": [str(folder) for folder in folders]}, indent=2))
        else:
            click.echo(
                f"removed {len(folders)} of {compiled.shelf()}" if folders else "nothing there"
            )
        return 0
    found = build.existing()
    if not status:
        found = _compile(found, jobs, force=force)
    if as_json:
        click.echo(json.dumps(_facts(found), indent=2))
    else:
        click.echo(_sentence(found))
    return 0 if found is not None else EXIT_NOT_COMPILED


def _compile(found: Compiled | None, jobs: int, *, force: bool) -> Compiled:
    """Compile unless that has been done with the same mypyc."""
    from lab.compiled.build import build  # noqa: PLC0415  # start-up time
    from lab.compiled.tools import find_tools  # noqa: PLC0415

    tools = find_tools()
    if found is not None and found.mypyc == tools.mypyc and not force:
        return found
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or None)

        return build(tools, jobs, report)


def _sentence(found: Compiled | None) -> str:
    from emu import compiled  # noqa: PLC0415  # start-up time

    if found is None:
        return "not compiled: everything runs as Python; stage2 compile changes that"
    unused = f"; {compiled.PURE} forbids its use" if compiled.is_pure() else ""
    return (
        f"{len(found.modules)} modules, {found.size / 2**20:.1f} MiB, by mypyc {found.mypyc} "
        f"in {found.folder}{unused}"
    )


def _facts(found: Compiled | None) -> dict[str, Any]:
    from emu import compiled  # noqa: PLC0415  # start-up time

    facts: dict[str, Any] = {"compiled": found is not None, "pure": compiled.is_pure()}
    if found is not None:
        facts |= {
            "folder": str(found.folder),
            "mypyc": found.mypyc,
            "bytes": found.size,
            "modules": list(found.modules),
        }
    return facts
