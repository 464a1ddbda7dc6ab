"""System registers, one class each, one field a line.

The registers live in the modules of this package by what they are for; the two
tables here find any of them by encoding (a trapped MRS or MSR) or by name (a user).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.fields import Encoding, SystemRegister
from emu.arch.registers import (
    control,
    exceptions,
    gic,
    identification,
    timer,
    translation,
    virtualization,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BY_NAME", "REGISTERS"]


def _declared() -> Iterator[type[SystemRegister]]:
    """Yield every register class, in the order of declaration."""
    for module in (translation, exceptions, virtualization, identification, timer, control, gic):
        for item in vars(module).values():
            if not isinstance(item, type) or item.__module__ != module.__name__:
                continue  # imported into the module, not declared there
            if issubclass(item, SystemRegister):
                yield item


REGISTERS: dict[Encoding, type[SystemRegister]] = {r.encoding: r for r in _declared()}
"""Every register by its encoding in MRS and MSR."""

BY_NAME: dict[str, type[SystemRegister]] = {r.__name__: r for r in _declared()}
"""Every register by its Arm ARM name."""
