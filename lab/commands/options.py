"""Option values: callbacks that turn the text given for an option into what it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.backing import parse_backing
from lab.sizes import parse_count, parse_size
from lab.slots import parse_slot

if TYPE_CHECKING:
    import click

    from lab.backing import Backing
    from lab.slots import Slot


def size(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a size in bytes."""
    return parse_size(value, param.opts[0])


def count(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a number of instructions."""
    return parse_count(value, param.opts[0])


def backing(_ctx: click.Context, _param: click.Parameter, value: str) -> Backing:
    """Return the host's memory behind RAM."""
    return parse_backing(value)


def slots(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[Slot, ...]:
    """Return memory slots."""
    return tuple(parse_slot(spec) for spec in value)
