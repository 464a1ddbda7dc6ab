"""``stage2 walk``: how an address is translated, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.errors import UserError

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from lab.walk.description import Description

EXIT_FAULT = 1
_VA_LIMIT = 1 << 64


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    from lab.esr import parse_register_value  # noqa: PLC0415  # start-up time

    try:
        return parse_register_value(value)
    except ValueError as error:
        raise UserError(
            f"VA is a number of 64 bits such as 0xffff000040080000, not {value!r}"
        ) from error


@click.command(
    short_help="Explain how an address is translated.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("source", metavar="GUEST|FILE.toml")
@click.argument("va", metavar="VA", callback=_address)
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED, metavar="[RUN OPTIONS]...")
@click.option("--el", type=click.Choice(["0", "1"]), default="1", show_default=True, help="Who.")
@click.option(
    "--access",
    type=click.Choice(["read", "write", "fetch"]),
    default="read",
    show_default=True,
    help="What for.",
)
@click.option("--pan", is_flag=True, help="PSTATE.PAN is set.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Write the registers and every descriptor read to a file that this command reads.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def walk(
    source: str,
    va: int,
    run_options: tuple[str, ...],
    *,
    el: str,
    access: str,
    pan: bool,
    save: Path | None,
    as_json: bool,
) -> int:
    """Show each lookup of both stages for VA, and why it ends as it does.

    With a guest, the guest runs first, as 'stage2 run' does with the same options, and the
    walk is that of its CPU at the end; --max-insns N stops it earlier. A description holds
    registers and descriptors: --save writes one. Nothing is changed by looking.

    \b
    Examples:
      stage2 walk hello 0x40080000
      stage2 walk nested_walk 0x80000000 --access write --max-insns 500
      stage2 walk nested_walk 0x80000000 --save tables.toml
      stage2 walk tables.toml 0x80000000 --el 0 --json

    \b
    Exit status:
      0    the address is translated
      1    it is refused
      2    bad usage or bad input
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from emu.arch.address import VA  # noqa: PLC0415  # start-up time
    from emu.mmu.explain import explain, explain_tables  # noqa: PLC0415
    from emu.mmu.fault import Fault  # noqa: PLC0415
    from emu.mmu.permissions import EL0, EL1, EL1_PAN, EXECUTE, READ, WRITE  # noqa: PLC0415
    from lab.walk import description, show  # noqa: PLC0415

    need = {"read": READ, "write": WRITE, "fetch": EXECUTE}[access]
    privilege = EL0 if el == "0" else EL1_PAN if pan else EL1
    if source.endswith(".toml"):
        if run_options:
            raise UserError(f"{run_options[0]} is for a guest; {source} describes tables")
        tables = description.read(Path(source))
        found = explain_tables(tables, tables.features, tables.regime, VA(va), need, privilege)
    else:
        pe = _after_run(source, run_options)
        found = explain(pe.mmu, VA(va), need, privilege)
        tables = description.Description(pe.features.name, pe.registers.controls())
    if save is not None:
        tables.words = found.words
        _save(save, tables)
    if as_json:
        click.echo(json.dumps(show.as_dict(found), indent=2))
    else:
        from rich.console import Console  # noqa: PLC0415

        show.show(Console(highlight=False), found)
    return EXIT_FAULT if isinstance(found.result, Fault) else 0


def _after_run(guest: str, options: tuple[str, ...]) -> ProcessingElement:
    """Run a guest, and return its CPU as the run left it."""
    from lab.commands.run import after_run  # noqa: PLC0415  # start-up time

    pe = after_run(guest, options).vmm.pe
    pe.refresh()
    return pe


def _save(path: Path, tables: Description) -> None:
    try:
        path.write_text(tables.text(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--save: cannot write {path}: {error.strerror}") from error
