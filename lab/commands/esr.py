"""``stage2 esr``: an exception syndrome in words."""

from __future__ import annotations

import json

import click

from lab.errors import UserError


def _register(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from lab.esr import parse_register_value  # noqa: PLC0415  # start-up time

    if value is None:
        return None
    try:
        return parse_register_value(value)
    except ValueError as error:
        option = param.opts[0] if isinstance(param, click.Option) else "ESR"
        raise UserError(f"{option}: {error}") from error


@click.command(short_help="Explain an exception syndrome (ESR_EL2).")
@click.argument("value", metavar="ESR", callback=_register)
@click.option("--far", metavar="FAR", callback=_register, help="FAR_EL2 after the same exception.")
@click.option(
    "--hpfar", metavar="HPFAR", callback=_register, help="HPFAR_EL2 after the same exception."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def esr(value: int, far: int | None, hpfar: int | None, *, as_json: bool) -> None:
    """Explain the exception syndrome ESR, as ESR_EL2 holds it, field by field.

    With the fault addresses the sentence at the end says which access it was.

    \b
    Examples:
      stage2 esr 0x93830047
      stage2 esr 0x93830047 --far 0xffff000008001f00 --hpfar 0x90000
      stage2 esr 0x82000007 --json
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab import esr as esr_text  # noqa: PLC0415  # start-up time

    if as_json:
        click.echo(json.dumps(esr_text.as_json(value, far, hpfar), indent=2))
        return
    from rich.console import Console  # noqa: PLC0415  # start-up time

    esr_text.render(value, far, hpfar, Console(highlight=False))
