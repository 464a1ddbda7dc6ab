"""Sizes and addresses as people write them: ``64K``, ``1G``, ``0x1000``, ``4096``."""

from __future__ import annotations

import re

from lab.errors import UserError

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
"""Of bytes: binary multiples, there are no decimal ones."""

COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
"""Of instructions: decimal multiples."""

_NUMBER = re.compile(
    r"(0[xX][0-9a-fA-F](?:_?[0-9a-fA-F])*|[0-9](?:_?[0-9])*)(?:([KMGTkmgt])(iB)?)?"
)
_LIMIT = 1 << 64


def parse_size(text: str, what: str = "a size") -> int:
    """Return the number of bytes that ``text`` stands for.

    Parameters
    ----------
    text : str
        A decimal or ``0x`` number, with an optional unit ``K``, ``M``, ``G`` or
        ``T`` (binary, so that ``64K`` is 65536). ``_`` may separate digits.
    what : str
        What is being read, for the error text.

    Raises
    ------
    UserError
        If it is anything else, or does not fit 64 bits.
    """
    return _parse(text, UNITS, f"{what} is a number such as 64K, 1G, 4096 or 0x1000, not {text!r}")


def parse_count(text: str, what: str = "a count") -> int:
    """Return the number that ``text`` stands for; its units are decimal, ``2G`` is 2000000000.

    Raises
    ------
    UserError
        If it is no number, or does not fit 64 bits.
    """
    return _parse(text, COUNT_UNITS, f"{what} is a number such as 500K, 2G or 1000, not {text!r}")


def _parse(text: str, units: dict[str, int], refusal: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (match.group(3) and units is COUNT_UNITS):
        raise UserError(refusal)
    digits, unit = match.group(1), match.group(2) or ""
    value = int(digits, 16 if digits[:2] in {"0x", "0X"} else 10) * units[unit.upper()]
    if value >= _LIMIT:
        raise UserError(f"{refusal}, which does not fit 64 bits")
    return value


def format_size(size: int) -> str:
    """Return ``size`` in bytes with the largest unit that divides it: ``64K``, ``3 bytes``."""
    for unit in ("T", "G", "M", "K"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return f"{size} byte" if size == 1 else f"{size} bytes"


def format_address(address: int) -> str:
    """Return ``address`` as the project prints addresses: ``0x4008_0000``, eight digits or more."""
    return f"0x{address:09_x}"
