"""Single values of a recorded case, checked as they are taken out of JSON.

Every function takes the value and where it stands; the place goes into the error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from emu.arch.address import PA
from lab.conformance.cases import MEMORY_BASE, MEMORY_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEXADECIMAL: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_LIMIT: Final = 1 << 64
_CELL: Final = 8
_SHOWN: Final = 40
"""Characters of a wrong value that an error shows."""


class MalformedCaseError(ValueError):
    """A line is not a case. The text names the place in the line, the value, what was expected."""


def shown(value: object) -> str:
    """Return a value as an error shows it, cut short."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def record(
    value: object, where: str, required: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a JSON object that has all ``required`` keys and no others but ``optional``.

    Raises
    ------
    MalformedCaseError
        If it is no object, a key is missing, or one is unknown.
    """
    if not isinstance(value, dict):
        raise MalformedCaseError(f"{where} is an object, not {shown(value)}")
    for key in required:
        if key not in value:
            raise MalformedCaseError(f"{where} lacks the field {key!r}")
    known = {*required, *optional}
    if len(value) > len(known) or not value.keys() <= known:
        unknown = next(key for key in value if key not in known)
        raise MalformedCaseError(
            f"{where} has the unknown field {unknown!r}; its fields are {', '.join(sorted(known))}"
        )
    return value


def items(value: object, where: str, count: int | None = None) -> list[Any]:
    """Return a JSON array, of ``count`` elements if given."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        size = "an array" if count is None else f"an array of {count} elements"
        raise MalformedCaseError(f"{where} is {size}, not {shown(value)}")
    return value


def text(value: object, where: str) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise MalformedCaseError(f"{where} is a string, not {shown(value)}")
    return value


def choice(value: object, where: str, allowed: Iterable[str]) -> str:
    """Return one of some strings."""
    if not isinstance(value, str) or value not in allowed:
        raise MalformedCaseError(f"{where} is one of {', '.join(allowed)}, not {shown(value)}")
    return value


def flag(value: object, where: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise MalformedCaseError(f"{where} is true or false, not {shown(value)}")
    return value


def u64(value: object, where: str) -> int:
    """Return a 64-bit quantity: a string of ``0x`` and hexadecimal digits, or a small number."""
    if isinstance(value, str) and _HEXADECIMAL.fullmatch(value):
        return int(value, 16)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LIMIT:
        return value
    raise MalformedCaseError(f'{where} is a 64-bit number such as "0x48000000", not {shown(value)}')


def number(value: object, where: str, low: int, high: int) -> int:
    """Return a small number from ``low`` to ``high``, written as either kind of number."""
    found = value if isinstance(value, int) and not isinstance(value, bool) else u64(value, where)
    if not low <= found <= high:
        raise MalformedCaseError(f"{where} is a number from {low} to {high}, not {shown(value)}")
    return found


def word(value: object, where: str) -> int:
    """Return a 32-bit instruction."""
    found = u64(value, where)
    if found >> 32:
        raise MalformedCaseError(f"{where} is a 32-bit instruction, not {shown(value)}")
    return found


def cell(value: object, where: str) -> PA:
    """Return the address of 64 bits of RAM."""
    pa = u64(value, where)
    if pa % _CELL or not MEMORY_BASE <= pa < MEMORY_BASE + MEMORY_SIZE:
        raise MalformedCaseError(
            f"{where} is a PA in RAM ({MEMORY_BASE:#x} to {MEMORY_BASE + MEMORY_SIZE - 1:#x}), "
            f"8-byte aligned, not {shown(value)}"
        )
    return PA(pa)
