"""The symbol table of a guest's ELF file: from names to addresses and back."""

from __future__ import annotations

import io
from bisect import bisect_right
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import VA
from lab.errors import UserError
from lab.loader.magic import ELF_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TYPES = frozenset({"STT_FUNC", "STT_OBJECT", "STT_NOTYPE"})
_MAPPING_SYMBOLS = ("$x", "$d")
"""Marks of the assembler: where code begins, and where data."""


class Symbol(NamedTuple):
    """A name for an address."""

    name: str
    address: VA
    """As the file was linked."""
    size: int
    """In bytes; 0 if the file does not say."""


class Symbols:
    """The symbols of one guest.

    Parameters
    ----------
    symbols : Iterable[Symbol]
        In any order. Of several with one name, the first one has it.
    """

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._by_name: dict[str, Symbol] = {}
        for symbol in symbols:
            self._by_name.setdefault(symbol.name, symbol)
        self._sorted = sorted(self._by_name.values(), key=lambda symbol: symbol.address)
        self._addresses = [symbol.address for symbol in self._sorted]

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Symbol]:
        """Yield the symbols in the order of their addresses."""
        return iter(self._sorted)

    def find(self, name: str) -> Symbol:
        """Return the symbol with a name.

        Raises
        ------
        UserError
            If there is none; the text names those that come near.
        """
        symbol = self._by_name.get(name)
        if symbol is None:
            near = get_close_matches(name, self._by_name)
            hint = f"did you mean {' or '.join(near)}?" if near else "see them with nm"
            raise UserError(f"the guest has no symbol {name}; {hint}")
        return symbol

    def describe(self, address: int) -> str:
        """Return an address as a symbol and an offset, such as ``main+0x10``.

        The address itself, in hexadecimal, if no symbol covers it.
        """
        last = bisect_right(self._addresses, address)
        for symbol in reversed(self._sorted[:last][-_OVERLAPPING:]):
            offset = address - symbol.address
            if offset == 0:
                return symbol.name
            if offset < symbol.size:
                return f"{symbol.name}+{offset:#x}"
        return f"{address:#x}"


_OVERLAPPING = 8
"""Symbols before an address that are looked at: one that has no size may hide one that has."""


def read_symbols(path: Path) -> Symbols | None:
    """Return the symbols of a guest's file; None if it is no ELF file, or has no symbol table.

    Raises
    ------
    UserError
        If the file cannot be read or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(ELF_MAGIC):
        return None
    from elftools.common.exceptions import ELFError  # noqa: PLC0415  # start-up time
    from elftools.construct import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415

    try:
        table = ELFFile(io.BytesIO(content)).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return None
        found = [
            Symbol(symbol.name, VA(symbol["st_value"]), symbol["st_size"])
            for symbol in table.iter_symbols()
            if symbol["st_info"]["type"] in _TYPES
            and symbol["st_shndx"] != "SHN_UNDEF"
            and symbol.name
            and not symbol.name.startswith(_MAPPING_SYMBOLS)
        ]
    except (ELFError, ConstructError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is a damaged ELF file ({error}); build it again") from error
    return Symbols(found)
