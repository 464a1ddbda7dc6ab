"""Flat binaries: bytes that are started at their first one."""

from __future__ import annotations

from emu.arch.address import IPA
from lab.loader.image import Image, ImageKind, Segment, make_image

FLAT_OFFSET = 0x8_0000
"""Where a flat binary goes, from the start of RAM: where QEMU and kvmtool put it."""


def load_flat(name: str, content: bytes, ram_base: IPA) -> Image:
    """Return the image of a flat binary; it starts at its first byte."""
    address = IPA(ram_base + FLAT_OFFSET)
    return make_image(name, [Segment(address, content, len(content))], address, ImageKind.FLAT)
