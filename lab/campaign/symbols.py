"""The functions of a campaign's guest, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import UserError
from lab.loader.symbols import read_symbols

if TYPE_CHECKING:
    from pathlib import Path


def symbols_of_guest(guest: str) -> dict[str, range]:
    """Return the symbols of a bundled guest or a file.

    Raises
    ------
    UserError
        If there is no such guest, or its file has none.
    """
    from lab.target import open_target  # noqa: PLC0415  # start-up time

    with open_target(guest) as target:
        return symbols_of(target.image)


def symbols_of(path: Path) -> dict[str, range]:
    """Return the addresses of the functions and objects of an ELF file, as it was linked.

    Raises
    ------
    UserError
        If it has no symbol table.
    """
    found = read_symbols(path)
    if found is None:
        raise UserError(
            f"{path} has no symbols: it is stripped, or no ELF file; give addresses as numbers"
        )
    return {s.name: range(s.address, s.address + max(s.size, 1)) for s in found}
