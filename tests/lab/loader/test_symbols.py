"""Symbols of ELF files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import VA
from lab.errors import UserError
from lab.loader.symbols import Symbol, Symbols, read_symbols

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GLOBAL_FUNCTION, LOCAL_NOTYPE, FILE = 0x12, 0x00, 0x04
SECTIONS = b"\0.symtab\0.strtab\0.shstrtab\0"


def section(name: bytes, kind: int, offset: int, size: int, link: int = 0) -> bytes:
    entry = 24 if kind == 2 else 0
    at = SECTIONS.index(name + b"\0") if name else 0
    return struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, offset, size, link, 0, 1, entry)


def elf(*symbols: tuple[str, int, int, int, int]) -> bytes:
    """Return an ELF file with symbols: name, address, size, info and section."""
    names, table = b"\0", bytes(24)
    for name, address, size, info, index in symbols:
        table += struct.pack("<IBBHQQ", len(names), info, 0, index, address, size)
        names += name.encode() + b"\0"
    at = 64
    headers = section(b"", 0, 0, 0)
    headers += section(b".symtab", 2, at, len(table), link=2)
    headers += section(b".strtab", 3, at + len(table), len(names))
    headers += section(b".shstrtab", 3, at + len(table) + len(names), len(SECTIONS))
    body = table + names + SECTIONS
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, 183, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 4, 3
    )
    return header + body + headers


def test_functions_and_objects_are_read_and_nothing_else(
    guest_file: Callable[[bytes], Path],
) -> None:
    content = elf(
        ("main", 0x1000, 0x40, GLOBAL_FUNCTION, 1),
        ("label", 0x1010, 0, LOCAL_NOTYPE, 1),
        ("guest.c", 0, 0, FILE, 0xFFF1),
        ("missing", 0, 0, GLOBAL_FUNCTION, 0),
        ("$x.1", 0x1000, 0, LOCAL_NOTYPE, 1),
    )
    found = read_symbols(guest_file(content))
    assert found is not None
    assert list(found) == [Symbol("main", VA(0x1000), 0x40), Symbol("label", VA(0x1010), 0)]
    assert len(found) == 2
    assert found.find("main") == ("main", 0x1000, 0x40)


def test_files_without_symbols_have_none(
    guest_file: Callable[[bytes], Path], make_elf: Callable[..., bytes]
) -> None:
    assert read_symbols(guest_file(b"flat")) is None
    assert read_symbols(guest_file(make_elf())) is None


def test_damaged_and_missing_files_are_refused(
    guest_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="damaged ELF file"):
        read_symbols(guest_file(elf(("main", 0, 0, GLOBAL_FUNCTION, 1))[:200]))
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        read_symbols(tmp_path / "none")


TABLE = Symbols(
    [
        Symbol("outer", VA(0x1000), 0x100),
        Symbol("label", VA(0x1010), 0),
        Symbol("data", VA(0x2000), 8),
    ]
)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (0x1000, "outer"),
        (0x1004, "outer+0x4"),
        (0x1010, "label"),
        (0x1020, "outer+0x20"),
        (0x1100, "0x1100"),
        (0x2007, "data+0x7"),
        (0x10, "0x10"),
    ],
)
def test_an_address_is_described_by_the_symbol_that_covers_it(address: int, shown: str) -> None:
    assert TABLE.describe(address) == shown


def test_an_unknown_name_is_refused_with_those_that_come_near() -> None:
    with pytest.raises(UserError, match="no symbol outr; did you mean outer"):
        TABLE.find("outr")
    with pytest.raises(UserError, match="no symbol zzz; see them with nm"):
        TABLE.find("zzz")
