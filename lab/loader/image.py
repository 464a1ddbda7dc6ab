"""What a loader makes of a file: segments, an entry point, and where they fit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING

from emu.arch.address import IPA
from lab.errors import UserError
from lab.sizes import format_address, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence


FIRST_UPPER_ADDRESS = 1 << 63
"""From here on an address is virtual: of TTBR1_EL1."""


class ImageKind(Enum):
    """The formats that can be started."""

    ELF = "ELF"
    ARM64 = "arm64 Image"
    FLAT = "flat binary"


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of the guest's memory: ``size`` bytes from ``base``."""

    base: IPA
    size: int

    @property
    def end(self) -> IPA:
        """The first address behind it."""
        return IPA(self.base + self.size)

    def contains(self, address: IPA, size: int = 1) -> bool:
        """Whether all of ``[address, address + size)`` lies inside."""
        return self.base <= address and address + size <= self.end

    def __str__(self) -> str:
        return f"{format_address(self.base)} to {format_address(self.end - 1)}"


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes at an address, followed by zeroes up to ``memory_size`` (``.bss``)."""

    address: IPA
    data: bytes
    memory_size: int

    @property
    def region(self) -> Region:
        """The memory that the segment occupies."""
        return Region(self.address, self.memory_size)


@dataclass(frozen=True, slots=True)
class Image:
    """A guest, ready to be copied into memory.

    Attributes
    ----------
    segments : tuple[Segment, ...]
        In address order, without overlap.
    entry : IPA
        Where the first instruction is fetched, with the MMU off.
    kind : ImageKind
        What the file was.
    page_size : int
        The translation granule that the kernel is built for, in bytes; 0 if it does not say.
    """

    segments: tuple[Segment, ...]
    entry: IPA
    kind: ImageKind
    page_size: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory that the segments occupy, gaps between them not counted."""
        return sum(segment.memory_size for segment in self.segments)

    @property
    def end(self) -> IPA:
        """The first address behind the highest segment."""
        return self.segments[-1].region.end


def make_image(name: str, segments: Sequence[Segment], entry: IPA, kind: ImageKind) -> Image:
    """Return the image of ``segments``, put in address order.

    Raises
    ------
    UserError
        If there is no segment, if two of them overlap, or if one wraps round the
        address space. ``name`` says in the text which file it was.
    """
    placed = sorted(segments, key=lambda segment: segment.address)
    if not placed:
        raise UserError(f"{name} has nothing to load: it needs at least one PT_LOAD segment")
    for segment in placed:
        if segment.region.end > 1 << 64:
            raise UserError(
                f"{name}: the segment at {format_address(segment.address)} with "
                f"{segment.memory_size:#x} bytes goes beyond 64-bit addresses; relink the guest"
            )
    for low, high in pairwise(placed):
        if low.region.end > high.address:
            raise UserError(
                f"{name}: segments {low.region} and {high.region} overlap; "
                "give them distinct addresses in the linker script"
            )
    return Image(tuple(placed), entry, kind)


def check_placement(name: str, image: Image, memory: Sequence[Region]) -> None:
    """Check that every segment and the entry point lie in the guest's memory.

    Parameters
    ----------
    name : str
        The file, for the error text.
    image : Image
        What is to be loaded.
    memory : Sequence[Region]
        RAM first, then the additional slots.

    Raises
    ------
    UserError
        If a segment is larger than the memory, lies outside, or the entry does.
    """
    ram = memory[0]
    if image.size > sum(region.size for region in memory):
        raise UserError(
            f"{name} needs {format_size(image.size)} of memory, the guest has "
            f"{format_size(ram.size)}; give it more with --mem"
        )
    for segment in image.segments:
        if any(region.contains(segment.address, segment.memory_size) for region in memory):
            continue
        way_out = "give it more with --mem" if ram.contains(segment.address) else "relink the guest"
        if segment.address >= FIRST_UPPER_ADDRESS:
            way_out = "it has virtual addresses only: for Linux take arch/arm64/boot/Image"
        raise UserError(
            f"{name}: the segment at {segment.region} lies outside the guest's memory "
            f"({', '.join(map(str, memory))}); {way_out}"
        )
    if not any(region.contains(image.entry) for region in memory):
        raise UserError(
            f"{name}: the entry point {format_address(image.entry)} lies outside the guest's "
            f"memory ({', '.join(map(str, memory))}); relink the guest for RAM"
        )
