"""The functions of a guest, by name, as its ELF file lists them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lab.errors import UserError
from lab.loader.magic import ELF_MAGIC

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
        If it is no ELF file, or has no symbols.
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415  # start-up time
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415

    content = path.read_bytes()
    if not content.startswith(ELF_MAGIC):
        raise UserError(f"{path} is no ELF file, so it has no symbols; give addresses as numbers")
    found: dict[str, range] = {}
    try:
        for section in ELFFile(io.BytesIO(content)).iter_sections():
            if not isinstance(section, SymbolTableSection):
                continue
            for symbol in section.iter_symbols():
                if (
                    symbol.name
                    and not symbol.name.startswith("$")
                    and symbol["st_shndx"] != "SHN_UNDEF"
                ):
                    start = symbol["st_value"]
                    found[symbol.name] = range(start, start + symbol["st_size"])
    except (ELFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is a damaged ELF file ({error}); build it again") from error
    if not found:
        raise UserError(f"{path} has no symbols (it is stripped); give addresses as numbers")
    return found
