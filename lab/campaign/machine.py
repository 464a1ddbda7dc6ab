"""The machine of a campaign: options of ``stage2 run``, by the names they have there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from lab.campaign.known import near
from lab.errors import UserError

if TYPE_CHECKING:
    from lab.campaign.spec import Campaign
    from lab.config import RunConfig
    from lab.target import Target

_NO_MACHINE: Final = frozenset(
    {"trace", "trace-file", "tlb-trace", "mmu-trace", "quiet", "json", "max-insns"}
    | {"console", "record", "script", "input"}
)
"""Options that say nothing of the machine."""


def machine_keys() -> dict[str, click.Option]:
    """Return the options of ``stage2 run`` that describe a machine, without their dashes."""
    from lab.commands.run import run  # noqa: PLC0415  # start-up time

    known = {}
    for option in run.params:
        if isinstance(option, click.Option):
            name = max(option.opts, key=len).removeprefix("--")
            if name not in _NO_MACHINE and name != "help":
                known[name] = option
    return known


def option_of(key: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401  # whatever a file holds
    """Return one key of a campaign's machine as it is on the command line.

    Raises
    ------
    UserError
        If there is no such option, or it has no such value.
    """
    known = machine_keys()
    if key not in known:
        raise UserError(f"stage2 run has no --{key} for a machine; {near(key, known)}")
    option = known[key]
    if option.is_flag:
        if not isinstance(value, bool):
            raise UserError(f"{key} is true or false, not {value!r}")
        if value:
            return (f"--{key}",)
        return (option.secondary_opts[0],) if option.secondary_opts else ()
    values = value if option.multiple and isinstance(value, list) else [value]
    for single in values:
        if isinstance(single, bool) or not isinstance(single, str | int):
            raise UserError(f"{key} is a number or a text, not {single!r}")
    text = tuple(part for single in values for part in (f"--{key}", str(single)))
    _parse(text)
    return text


def configuration(campaign: Campaign, target: Target) -> RunConfig:
    """Do what :meth:`lab.campaign.spec.Campaign.configuration` says."""
    from lab.commands.run import configuration as parsed  # noqa: PLC0415  # start-up time

    try:
        config = parsed(target, campaign.machine)
    except click.UsageError as error:
        raise UserError(f"the machine: {error.format_message().rstrip('.')}") from error
    config = replace(config, max_insns=campaign.limits.max_insns)
    config.check()
    return config


def _parse(options: tuple[str, ...]) -> None:
    from lab.commands.run import run  # noqa: PLC0415  # start-up time

    try:
        run.make_context("run", ["-", *options])
    except click.UsageError as error:
        raise UserError(error.format_message().rstrip(".")) from error
