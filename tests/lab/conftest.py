"""Guests made on the spot."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RAM_BASE = 0x4000_0000
CODE = bytes.fromhex("1f2003d5") * 4  # NOP


@dataclass
class Elf:
    """An ELF file to be written; each segment is (p_paddr, contents, p_memsz)."""

    segments: list[tuple[int, bytes, int]] = field(
        default_factory=lambda: [(RAM_BASE + 0x8_0000, CODE, len(CODE))]
    )
    entry: int = RAM_BASE + 0x8_0000
    machine: int = 183
    type: int = 2
    data: int = 1
    elf_class: int = 2
    vaddr_offset: int = 0
    align: int = 0x1000

    def build(self) -> bytes:
        body, headers = b"", b""
        start = 64 + 56 * len(self.segments)
        for address, content, memory_size in self.segments:
            offset = start + len(body)
            headers += struct.pack(
                "<IIQQQQQQ",
                1,
                5,
                offset,
                address + self.vaddr_offset,
                address,
                len(content),
                memory_size,
                self.align,
            )
            body += content
        ident = b"\x7fELF" + bytes([self.elf_class, self.data, 1]) + bytes(9)
        header = ident + struct.pack(
            "<HHIQQQIHHHHHH",
            self.type,
            self.machine,
            1,
            self.entry,
            64,
            0,
            0,
            64,
            56,
            len(self.segments),
            64,
            0,
            0,
        )
        return header + headers + body


@pytest.fixture
def make_elf() -> Callable[..., bytes]:
    """Build an ELF file from the fields of :class:`Elf`."""

    def make(**fields: Any) -> bytes:  # noqa: ANN401  # the fields of Elf
        return Elf(**fields).build()

    return make


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """Write instruction words to a flat binary, which starts at 0x4008_0000."""

    def write(*words: int) -> Path:
        path = tmp_path / "program.bin"
        path.write_bytes(struct.pack(f"<{len(words)}I", *words))
        return path

    return write


@pytest.fixture
def guest_file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write bytes to a file called ``guest`` and return its path."""

    def write(content: bytes) -> Path:
        path = tmp_path / "guest"
        path.write_bytes(content)
        return path

    return write
