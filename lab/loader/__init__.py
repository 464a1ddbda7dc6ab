"""Reading guests: ELF files, arm64 kernel images, flat binaries, and source.

:func:`load` tells the format by the file's first bytes, not by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA
from lab.errors import UserError
from lab.loader.arm64 import load_arm64_image
from lab.loader.elf import load_elf
from lab.loader.flat import FLAT_OFFSET, load_flat
from lab.loader.image import Image, ImageKind, Region, Segment, check_placement
from lab.loader.magic import ELF_MAGIC, PROBE_SIZE, foreign_format, is_arm64_image
from lab.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Image", "ImageKind", "Region", "Segment", "load"]

MAXIMUM_ELF_SIZE = 1 << 30
"""ELF files carry debug information, so that the guest's memory is no measure for them."""


def load(path: Path, memory: Sequence[Region], flash: Region | None = None) -> Image:
    """Read the guest in ``path`` and check that it fits ``memory``.

    Parameters
    ----------
    path : Path
        An ELF file, an arm64 ``Image`` or a flat binary.
    memory : Sequence[Region]
        RAM first, then the additional slots.
    flash : Region or None
        Where the guest goes if it is firmware: raw bytes, started at the first one.

    Raises
    ------
    UserError
        If the file cannot be read, is of another format, is damaged, or does not fit.
    """
    head = _read(path, PROBE_SIZE)
    if not head:
        raise UserError(f"{path} is empty; a guest is an ELF file, an arm64 Image or a flat binary")
    if (foreign := foreign_format(head)) is not None:
        raise UserError(f"{path} is {foreign.name}; {foreign.way_out}")
    name, ram = str(path), memory[0]
    if head.startswith(ELF_MAGIC):
        _check_size(path, MAXIMUM_ELF_SIZE, "an ELF file may have", "strip it")
        image = load_elf(name, _read(path), IPA(ram.base + FLAT_OFFSET))
    elif flash is not None:
        _check_size(path, flash.size, "the flash has", "build smaller firmware")
        image = load_flat(name, _read(path), flash.base)
    else:
        _check_size(path, ram.size, "the guest has", "give the guest more with --mem")
        content = _read(path)
        if is_arm64_image(head):
            image = load_arm64_image(name, content, ram.base)
        else:
            image = load_flat(name, content, IPA(ram.base + FLAT_OFFSET))
    check_placement(name, image, memory)
    return image


def _read(path: Path, size: int = -1) -> bytes:
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise UserError(f"{path} is {kind}; give the path of a guest")
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read {path}: {reason}") from error


def _check_size(path: Path, limit: int, whose: str, way_out: str) -> None:
    size = path.stat().st_size
    if size > limit:
        raise UserError(f"{path} has {format_size(size)}, {whose} {format_size(limit)}; {way_out}")
