"""Telling formats by their first bytes, and saying what to do with those that cannot start."""

from __future__ import annotations

from typing import NamedTuple

PROBE_SIZE = 4096
"""How much of a file is looked at."""

ELF_MAGIC = b"\x7fELF"
ARM64_MAGIC = b"ARM\x64"
ARM64_MAGIC_OFFSET = 56


class Foreign(NamedTuple):
    """A format that is recognised so that it can be refused helpfully."""

    offset: int
    magic: bytes
    name: str
    way_out: str


_UNPACK = "unpack it first"
FOREIGN = (
    Foreign(4, b"zimg", "a compressed EFI kernel (zboot)", "take arch/arm64/boot/Image instead"),
    Foreign(0, b"\x1f\x8b", "gzip-compressed", "run gunzip on it first"),
    Foreign(0, b"\xfd7zXZ\x00", "xz-compressed", "run unxz on it first"),
    Foreign(0, b"\x28\xb5\x2f\xfd", "zstd-compressed", "run unzstd on it first"),
    Foreign(0, b"\x04\x22\x4d\x18", "lz4-compressed", "run unlz4 on it first"),
    Foreign(0, b"\x02\x21\x4c\x18", "lz4-compressed", "run unlz4 on it first"),
    Foreign(0, b"BZh", "bzip2-compressed", "run bunzip2 on it first"),
    Foreign(0, b"\x5d\x00\x00", "lzma-compressed", "run unlzma on it first"),
    Foreign(0, b"PK\x03\x04", "a zip archive", _UNPACK),
    Foreign(0, b"!<arch>\n", "a static library", "link it into an ELF file first"),
    Foreign(257, b"ustar", "a tar archive", _UNPACK),
    Foreign(0, b"\xd0\x0d\xfe\xed", "a device tree or FIT image", "extract the kernel from it"),
    Foreign(0, b"\x27\x05\x19\x56", "a U-Boot uImage", "extract the kernel from it"),
    Foreign(0, b"\xcf\xfa\xed\xfe", "a Mach-O file", "build it for aarch64-none-elf"),
    Foreign(0, b"BC\xc0\xde", "LLVM bitcode", "compile it to an ELF file first"),
)
"""Formats in the order in which they are tried; the zboot header also starts with ``MZ``."""

_TEXT = frozenset(b"\t\n\f\r") | frozenset(range(0x20, 0x7F))


def is_arm64_image(head: bytes) -> bool:
    """Whether ``head`` starts an arm64 kernel image (Documentation/arch/arm64/booting.rst)."""
    return head[ARM64_MAGIC_OFFSET : ARM64_MAGIC_OFFSET + 4] == ARM64_MAGIC


def foreign_format(head: bytes) -> Foreign | None:
    """Return the format of ``head`` if it is one that cannot be started, else None.

    A file of unknown format is a flat binary, unless its first bytes are nothing
    but printable text: A64 code never is.
    """
    for foreign in FOREIGN:
        if head[foreign.offset :].startswith(foreign.magic):
            return foreign
    if head.startswith(b"MZ") and not is_arm64_image(head):
        return Foreign(0, b"MZ", "a PE file (EFI program)", "give an ELF file or an arm64 Image")
    if head and _TEXT.issuperset(head):
        return Foreign(0, b"", "a text file", "name assembly .S and C source .c to have it built")
    return None
