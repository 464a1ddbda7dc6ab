"""Telling formats by their first bytes, and saying what to do with those that cannot start."""

from __future__ import annotations

import struct
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
_OTHER_CPU = "the machine runs AArch64: give an arm64 Image"
FOREIGN = (
    Foreign(0x202, b"HdrS", "an x86 kernel (bzImage)", _OTHER_CPU),
    Foreign(0x24, b"\x18\x28\x6f\x01", "a 32-bit Arm kernel (zImage)", _OTHER_CPU),
    Foreign(56, b"RSC\x05", "a RISC-V kernel", _OTHER_CPU),
    Foreign(56, b"\xcd\x23\x82\x81", "a LoongArch kernel", _OTHER_CPU),
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
"""Formats in the order in which they are tried; a kernel may also start with ``MZ``."""

ZBOOT_MAGIC_OFFSET = 4
ZBOOT_MAGIC = b"zimg"
_ZBOOT = struct.Struct("<II8x32s")
"""Where the payload begins, its size, and how it is compressed; behind the magic."""

UNPACKERS = {b"gzip": "gunzip", b"zstd": "unzstd", b"zstd22": "unzstd", b"lz4": "unlz4"}
UNPACKERS |= {b"lzma": "unlzma", b"xzkern": "unxz"}
"""What unpacks a zboot payload, by the name in its header."""

_TEXT = frozenset(b"\t\n\f\r") | frozenset(range(0x20, 0x7F))


def is_arm64_image(head: bytes) -> bool:
    """Whether ``head`` starts an arm64 kernel image (Documentation/arch/arm64/booting.rst)."""
    return head[ARM64_MAGIC_OFFSET : ARM64_MAGIC_OFFSET + 4] == ARM64_MAGIC


def foreign_format(head: bytes) -> Foreign | None:
    """Return the format of ``head`` if it is one that cannot be started, else None.

    A file of unknown format is a flat binary, unless its first bytes are nothing
    but printable text: A64 code never is.
    """
    if head[ZBOOT_MAGIC_OFFSET:].startswith(ZBOOT_MAGIC):
        return _zboot(head)
    for foreign in FOREIGN:
        if head[foreign.offset :].startswith(foreign.magic):
            return foreign
    if head.startswith(b"MZ") and not is_arm64_image(head):
        return Foreign(0, b"MZ", "a PE file (EFI program)", "give an ELF file or an arm64 Image")
    if head and _TEXT.issuperset(head):
        return Foreign(0, b"", "a text file", "name assembly .S and C source .c to have it built")
    return None


def _zboot(head: bytes) -> Foreign:
    """Return a compressed EFI kernel with the command that unpacks it."""
    at = ZBOOT_MAGIC_OFFSET + len(ZBOOT_MAGIC)
    way_out = "take arch/arm64/boot/Image instead"
    if len(head) >= at + _ZBOOT.size:
        offset, size, text = _ZBOOT.unpack_from(head, at)
        unpacker = UNPACKERS.get(text.partition(b"\0")[0])
        if unpacker is not None:
            way_out += (
                f", or unpack it: tail -c +{offset + 1} FILE | head -c {size} | {unpacker} > Image"
            )
    return Foreign(ZBOOT_MAGIC_OFFSET, ZBOOT_MAGIC, "a compressed EFI kernel (zboot)", way_out)
