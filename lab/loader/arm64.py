"""The arm64 kernel image: a flat binary with a 64-byte header.

Source: Linux Documentation/arch/arm64/booting.rst, "Call the kernel image".
"""

from __future__ import annotations

import struct
from dataclasses import replace

from emu.arch.address import IPA
from lab.errors import UserError
from lab.loader.image import Image, ImageKind, Segment, make_image

HEADER_SIZE = 64
_TEXT_OFFSET, _IMAGE_SIZE, _FLAGS = 8, 16, 24

FLAG_BIG_ENDIAN = 1 << 0
PAGE_SIZE_SHIFT = 1
PAGE_SIZES = (0, 4 << 10, 16 << 10, 64 << 10)
"""What flags[2:1] say of the kernel's pages; 0 for nothing."""

OLD_TEXT_OFFSET = 0x8_0000
"""What an image before Linux 3.17 assumes; it has ``image_size`` 0."""

BLOCK = 0x20_0000
"""The load base is 2 MiB aligned. RAM's first block stays free, as other VMMs leave it."""


def load_arm64_image(name: str, content: bytes, ram_base: IPA) -> Image:
    """Return the image of an arm64 ``Image`` file, placed as its header asks.

    It goes to ``ram_base + text_offset``, or one 2 MiB block higher when ``text_offset``
    is less than a page; ``image_size`` bytes are reserved for it, which includes its
    ``.bss``.

    Raises
    ------
    UserError
        If the file is truncated, inconsistent or big-endian.
    """
    if len(content) < HEADER_SIZE:
        raise UserError(f"{name} is a truncated arm64 Image: {len(content)} bytes; copy it again")
    text_offset, image_size, flags = (
        struct.unpack_from("<Q", content, offset)[0]
        for offset in (_TEXT_OFFSET, _IMAGE_SIZE, _FLAGS)
    )
    if flags & FLAG_BIG_ENDIAN:
        raise UserError(f"{name} is a big-endian kernel; build it with CONFIG_CPU_LITTLE_ENDIAN")
    if image_size == 0:
        text_offset, image_size = OLD_TEXT_OFFSET, len(content)
    if image_size < len(content):
        raise UserError(
            f"{name}: image_size in the arm64 Image header is {image_size:#x}, the file has "
            f"{len(content):#x} bytes; build it again"
        )
    if text_offset < 0x1000:
        text_offset += BLOCK
    address = IPA(ram_base + text_offset)
    image = make_image(name, [Segment(address, content, image_size)], address, ImageKind.ARM64)
    return replace(image, page_size=PAGE_SIZES[flags >> PAGE_SIZE_SHIFT & 3])
