"""Flat binaries: bytes that are started at their first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.loader.image import Image, ImageKind, Segment, make_image

if TYPE_CHECKING:
    from emu.arch.address import IPA

FLAT_OFFSET = 0x8_0000
"""Where a flat binary goes, from the start of RAM: where QEMU and kvmtool put it."""


def load_flat(name: str, content: bytes, address: IPA) -> Image:
    """Return the image of a flat binary at an address; it starts at its first byte."""
    return make_image(name, [Segment(address, content, len(content))], address, ImageKind.FLAT)
