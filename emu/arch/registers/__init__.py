"""System registers, one class each, one field a line.

The registers live in the modules of this package by what they are for; the two
tables here find any of them by encoding (a trapped MRS or MSR) or by name (a user).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.fields import Encoding, SystemRegister
from emu.arch.registers import (
    control,
    debug,
    exceptions,
    gic,
    identification,
    performance,
    ras,
    timer,
    translation,
    virtualization,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BY_NAME", "REGISTERS"]

_MODULES = (
    translation,
    exceptions,
    virtualization,
    identification,
    timer,
    control,
    debug,
    performance,
    gic,
    ras,
)


def _declared() -> Iterator[type[SystemRegister]]:
    """Yield every register class, in the order of declaration."""
    for module in _MODULES:
        for item in vars(module).values():
            for register in item if isinstance(item, tuple) else (item,):
                if not isinstance(register, type) or register.__module__ != module.__name__:
                    continue  # imported into the module, not declared there
                if issubclass(register, SystemRegister):
                    yield register


REGISTERS: dict[Encoding, type[SystemRegister]] = {r.encoding: r for r in _declared()}
"""Every register by its encoding in MRS and MSR."""

BY_NAME: dict[str, type[SystemRegister]] = {r.__name__: r for r in _declared()}
"""Every register by its Arm ARM name."""
