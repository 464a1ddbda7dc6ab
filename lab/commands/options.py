"""Option values: callbacks that turn the text given for an option into what it stands for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lab.backing import parse_backing
from lab.drive import Drive, parse_drive
from lab.errors import UserError
from lab.sizes import parse_count, parse_size
from lab.slots import parse_slot

if TYPE_CHECKING:
    import click

    from lab.backing import Backing
    from lab.slots import Slot

LAST_SECOND = 0xFFFF_FFFF
"""What a real-time clock of 32 bits can show."""


def size(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a size in bytes."""
    return parse_size(value, param.opts[0])


def count(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a number of instructions."""
    return parse_count(value, param.opts[0])


def date(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a date, or date and time in UTC, as seconds since 1970.

    Raises
    ------
    UserError
        If it is none, or does not fit the 32 bits of a real-time clock.
    """
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is not None:
        raise UserError(
            f"{param.opts[0]} is a date such as 2024-01-01 or 2024-01-01T12:30:00, not {value!r}"
        )
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    if not 0 <= seconds <= LAST_SECOND:
        raise UserError(f"{param.opts[0]} is a date from 1970 to 2106, not {value!r}")
    return seconds


def backing(_ctx: click.Context, _param: click.Parameter, value: str) -> Backing:
    """Return the host's memory behind RAM."""
    return parse_backing(value)


def slots(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[Slot, ...]:
    """Return memory slots."""
    return tuple(parse_slot(spec) for spec in value)


def drives(
    _ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]
) -> tuple[Drive, ...]:
    """Return disks."""
    return tuple(parse_drive(spec) for spec in value)
