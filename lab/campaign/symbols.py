"""The functions of a campaign's guest, as the addresses that they cover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import UserError
from lab.loader.symbols import read_symbols

if TYPE_CHECKING:
    from lab.loader.symbols import Symbols


def symbols_of_guest(guest: str) -> dict[str, range]:
    """Return the symbols of a bundled guest or a file.

    Raises
    ------
    UserError
        If there is no such guest, or its file has none.
    """
    from lab.target import open_target  # noqa: PLC0415  # start-up time

    with open_target(guest) as target:
        return ranges(read_symbols(target.image), guest)


def ranges(symbols: Symbols | None, guest: str) -> dict[str, range]:
    """Return the addresses of functions and objects by name, as they were linked.

    Raises
    ------
    UserError
        If the guest has no symbols.
    """
    if symbols is None:
        raise UserError(
            f"the guest {guest} has no symbols: it is stripped, or no ELF file; give addresses as "
            "numbers"
        )
    return {s.name: range(s.address, s.address + max(s.size, 1)) for s in symbols}
