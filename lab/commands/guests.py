"""``stage2 guests``: what can be run without bringing anything along."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from guests.catalogue import Guest


@click.command(short_help="List the bundled guests, or describe one.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def guests(name: str | None, *, as_json: bool) -> None:
    """List the bundled guests, or describe the guest NAME.

    Each is a small program that shows one behaviour of the memory system. The
    description says what to look for in its trace.

    \b
    Examples:
      stage2 guests
      stage2 guests hello
      stage2 guests --json
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from guests.catalogue import all_guests  # noqa: PLC0415  # start-up time
    from lab.target import bundled_guest  # noqa: PLC0415

    chosen = [bundled_guest(name)] if name else all_guests()
    if as_json:
        facts = [_facts(guest) for guest in chosen]
        click.echo(json.dumps(facts[0] if name else facts, indent=2))
    elif name:
        _describe(chosen[0])
    else:
        _list(chosen)


def _facts(guest: Guest) -> dict[str, Any]:
    return {
        "name": guest.name,
        "summary": guest.summary,
        "watch": guest.watch,
        "run": list(guest.run),
        "source": str(guest.source),
        "image": str(guest.image),
    }


def _list(guests: list[Guest]) -> None:
    from rich.console import Console  # noqa: PLC0415  # start-up time
    from rich.table import Table  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for guest in guests:
        table.add_row(guest.name, guest.summary)
    Console(highlight=False).print(table)


def _describe(guest: Guest) -> None:
    import shlex  # noqa: PLC0415  # start-up time

    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(f"[bold]{guest.name}[/]  {escape(guest.summary)}\n")
    console.print(f"{escape(guest.watch)}\n")
    command = shlex.join(["stage2", "run", guest.name])
    console.print(f"[bold]run[/]     {escape(command)}", soft_wrap=True)
    if guest.run:
        console.print(f"[bold]with[/]    {escape(shlex.join(guest.run))}", soft_wrap=True)
    console.print(f"[bold]source[/]  {escape(str(guest.source))}", soft_wrap=True)
