"""``stage2 ptdump``: a VM's stage-2 page tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.errors import UserError

if TYPE_CHECKING:
    from lab.ptdump.dump import Dump

EXIT_DIFFERENT = 1
TREE_WIDTH = 200
LINUX = ("6.13", "6.18", "6.19", "7.3")
"""The names in :data:`lab.ptdump.text.FORMS`, without loading them."""


@click.command(
    short_help="Print a guest's stage-2 page tables.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("source", metavar="GUEST|FILE.json", required=False)
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED, metavar="[RUN OPTIONS]...")
@click.option(
    "--linux",
    type=click.Choice(LINUX),
    default=LINUX[-1],
    show_default=True,
    help="Print as this version of Linux does, and those up to the next in the list.",
)
@click.option("--tree", "as_tree", is_flag=True, help="Show tables and entries as a tree.")
@click.option(
    "--diff",
    nargs=2,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="A.json B.json",
    help="Compare two files that --save wrote, instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Write the JSON to a file that this command reads.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with a map of the guest's memory, to be opened in a browser.",
)
def ptdump(
    source: str | None,
    run_options: tuple[str, ...],
    *,
    linux: str,
    as_tree: bool,
    diff: tuple[Path, Path] | None,
    as_json: bool,
    save: Path | None,
    html: Path | None,
) -> int:
    """Print the stage-2 tables as KVM's debugfs file stage2_page_tables has them.

    The guest runs first, as 'stage2 run' does with the same options, and the tables are
    those at its end; --max-insns N stops it earlier. They are read before its dirty log
    is harvested. A file that --save wrote can be given in place of a guest.

    \b
    Examples:
      stage2 ptdump hello
      stage2 ptdump huge --tree
      stage2 ptdump dirty_pattern --html dirty.html
      stage2 ptdump dirty_pattern --max-insns 1500 --save a.json
      stage2 ptdump dirty_pattern --save b.json
      stage2 ptdump --diff a.json b.json

    \b
    Exit status:
      0    done; with --diff, the tables are equal
      1    with --diff, they differ
      2    bad usage or bad input
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    if diff:
        if source is not None:
            raise UserError(f"--diff compares two files; {source} is one too many")
        return _diff(*diff, as_json=as_json)
    if source is None:
        raise UserError(
            "name a guest or a dump, or give --diff two dumps; see stage2 ptdump --help"
        )
    dump = _dump(source, run_options)
    if save is not None:
        from lab.ptdump import jsonfile  # noqa: PLC0415  # start-up time

        _write("--save", save, jsonfile.text(dump))
    if html is not None:
        from lab.ptdump.html import page  # noqa: PLC0415  # start-up time

        _write("--html", html, page(dump))
    if as_json or as_tree or (save is None and html is None):
        _print(dump, linux, as_tree=as_tree, as_json=as_json)
    return 0


def _dump(source: str, options: tuple[str, ...]) -> Dump:
    """Return the dump in a file, or of a guest after its run."""
    from lab.ptdump import jsonfile  # noqa: PLC0415  # start-up time

    if source.endswith(".json"):
        if options:
            raise UserError(f"{options[0]} is for a guest; {source} is a dump")
        return jsonfile.read(Path(source))
    from lab.commands.run import after_run  # noqa: PLC0415
    from lab.ptdump.reading import read_dump  # noqa: PLC0415

    name, vmm, end, instructions = after_run(source, options)
    dump = read_dump(vmm.vm, guest=name, end=end.reason.name.lower(), instructions=instructions)
    # A ring names pages that no bitmap has. Harvesting protects pages, so it comes last.
    return dump.with_dirty({log.slot: log.bitmap for log in vmm.collect_dirty_pages()})


def _print(dump: Dump, linux: str, *, as_tree: bool, as_json: bool) -> None:
    from lab.ptdump import jsonfile  # noqa: PLC0415  # start-up time
    from lab.ptdump.text import page_tables  # noqa: PLC0415

    if as_json:
        click.echo(jsonfile.text(dump), nl=False)
    elif as_tree:
        from rich.console import Console  # noqa: PLC0415

        from lab.ptdump.tree import tree  # noqa: PLC0415

        console = Console(highlight=False)
        # A tree is cut at the edge; a terminal wraps.
        console.width = max(console.width, TREE_WIDTH)
        console.print(tree(dump))
    else:
        click.echo(page_tables(dump, linux), nl=False)


def _diff(old_path: Path, new_path: Path, *, as_json: bool) -> int:
    from lab.ptdump import jsonfile  # noqa: PLC0415  # start-up time
    from lab.ptdump.diff import compare, show  # noqa: PLC0415
    from lab.ptdump.tree import header  # noqa: PLC0415

    old, new = jsonfile.read(old_path), jsonfile.read(new_path)
    differences = compare(old, new)
    if as_json:
        click.echo(json.dumps([found.as_dict() for found in differences], indent=2))
    elif differences:
        from rich.console import Console  # noqa: PLC0415

        console = Console(highlight=False, soft_wrap=True)
        console.print(f"--- {old_path}  {header(old)}")
        console.print(f"+++ {new_path}  {header(new)}")
        for line in show(differences):
            console.print(line)
    return EXIT_DIFFERENT if differences else 0


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{option}: cannot write {path}: {error.strerror}") from error
