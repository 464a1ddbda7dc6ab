"""What is wrong with the parameters of a model, told in one line."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.faults.fault import Fault

FEW = 12
"""Names that can all be listed."""


def refuse(fault: Fault, key: str, expected: str) -> NoReturn:
    """Raise the error for a parameter whose value is not possible.

    Raises
    ------
    UserError
        Always: it names the model, the key, the value and what is expected.
    """
    value = getattr(fault, key)
    shown = f"{value:#x}" if isinstance(value, int) and value > 9 else repr(value)
    raise UserError(f"{type(fault).__name__}: {key} is {expected}, not {shown}")


def require_name(fault: Fault, key: str, kind: str, known: Collection[str]) -> None:
    """Refuse a parameter that is none of some names, and show the most similar ones.

    Raises
    ------
    UserError
        If it is none of them.
    """
    value = getattr(fault, key)
    if value in known:
        return
    by_lower = {name.lower(): name for name in known}
    names = [by_lower[near] for near in get_close_matches(str(value).lower(), by_lower, 3, 0.6)]
    if not names and len(known) <= FEW:
        names = list(known)
    refuse(fault, key, kind + (f" ({', '.join(names)}?)" if names else ""))


def require_bits(fault: Fault, bit: int, width: int, bits: int, of: str) -> None:
    """Refuse bits that a place does not have.

    Raises
    ------
    UserError
        If the highest of them does not exist.
    """
    if bit + width > bits:
        refuse(fault, "bit", f"0 to {bits - width} ({of} has {bits} bits, and width is {width})")


def require_value(fault: Fault, value: int, bits: int, of: str) -> None:
    """Refuse a value that a place cannot hold.

    Raises
    ------
    UserError
        If it has too many bits.
    """
    if value >> bits:
        refuse(fault, "value", f"0 to {(1 << bits) - 1:#x} ({of} has {bits} bits)")
