"""ELF files: AArch64, 64-bit, little-endian, loaded by segments."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from emu.arch.address import IPA
from lab.errors import UserError
from lab.loader.image import Image, ImageKind, Segment, make_image

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

HEADER_SIZE = 64
ELFCLASS64 = 2
ELFDATA2LSB = 1

_TYPE_REFUSED = {
    "ET_REL": "is an object file; link it first, or give its source",
    "ET_CORE": "is a core dump; give the program itself",
}


def load_elf(name: str, content: bytes, default_base: IPA) -> Image:
    """Return the image of an ELF file.

    Segments go to their physical address, ``p_paddr``; ``e_entry`` is a virtual
    address and is brought there with its segment. A position-independent file
    (``ET_DYN``) that was linked at zero is moved to ``default_base``, aligned as its
    segments ask; it relocates itself.

    Raises
    ------
    UserError
        If the file is truncated, damaged, or for another machine.
    """
    _check_identity(name, content)
    from elftools.common.exceptions import ELFError  # noqa: PLC0415  # start-up time
    from elftools.construct import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        elf = ELFFile(io.BytesIO(content))
        _check_header(name, elf)
        _check_complete(name, elf, len(content))
        return _load_segments(name, elf, content, default_base)
    except (ELFError, ConstructError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{name} is a damaged ELF file ({error}); build it again") from error


def _check_identity(name: str, content: bytes) -> None:
    if len(content) < HEADER_SIZE:
        raise _truncated(name, HEADER_SIZE, len(content))
    if content[4] != ELFCLASS64:
        raise UserError(
            f"{name} is a 32-bit ELF file; the machine runs AArch64: build it with -target aarch64"
        )
    if content[5] != ELFDATA2LSB:
        raise UserError(f"{name} is a big-endian ELF file; build it little-endian (aarch64)")


def _check_header(name: str, elf: ELFFile) -> None:
    machine = elf["e_machine"]
    if machine != "EM_AARCH64":
        raise UserError(
            f"{name} is an ELF file for {str(machine).removeprefix('EM_')}, not for AArch64; "
            "build it with -target aarch64"
        )
    kind = elf["e_type"]
    if kind not in {"ET_EXEC", "ET_DYN"}:
        refusal = _TYPE_REFUSED.get(kind, f"has ELF type {kind}; link it as ET_EXEC or ET_DYN")
        raise UserError(f"{name} {refusal}")


def _check_complete(name: str, elf: ELFFile, size: int) -> None:
    """Refuse a file whose tables, segments or sections go beyond its end."""
    tables = (
        elf["e_phoff"] + elf["e_phnum"] * elf["e_phentsize"],
        elf["e_shoff"] + elf["e_shnum"] * elf["e_shentsize"],
    )
    if max(tables) > size:
        raise _truncated(name, max(tables), size)
    ends = [s["p_offset"] + s["p_filesz"] for s in elf.iter_segments()]
    ends += [
        s["sh_offset"] + s["sh_size"] for s in elf.iter_sections() if s["sh_type"] != "SHT_NOBITS"
    ]
    if ends and max(ends) > size:
        raise _truncated(name, max(ends), size)


def _truncated(name: str, expected: int, size: int) -> UserError:
    return UserError(
        f"{name} is a truncated ELF file: {size} bytes, its headers speak of {expected}; "
        "copy or build it again"
    )


def _load_segments(name: str, elf: ELFFile, content: bytes, default_base: IPA) -> Image:
    headers = [s.header for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_memsz"]]
    for header in headers:
        if header["p_filesz"] > header["p_memsz"]:
            raise UserError(
                f"{name} is a damaged ELF file: a segment has {header['p_filesz']:#x} bytes in the "
                f"file but {header['p_memsz']:#x} in memory; build it again"
            )
    bias = 0
    if elf["e_type"] == "ET_DYN" and headers and min(h["p_paddr"] for h in headers) == 0:
        alignment = max(1, *(h["p_align"] for h in headers))
        bias = -(-default_base // alignment) * alignment
    segments = [
        Segment(
            IPA(header["p_paddr"] + bias),
            content[header["p_offset"] : header["p_offset"] + header["p_filesz"]],
            header["p_memsz"],
        )
        for header in headers
    ]
    return make_image(name, segments, IPA(_entry(elf["e_entry"], headers) + bias), ImageKind.ELF)


def _entry(e_entry: int, headers: list[Any]) -> int:
    for header in headers:
        if header["p_vaddr"] <= e_entry < header["p_vaddr"] + header["p_memsz"]:
            return int(e_entry - header["p_vaddr"] + header["p_paddr"])
    return e_entry
