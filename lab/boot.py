"""The boot protocol: what goes into memory beside the image, and where.

It is Linux's (Documentation/arch/arm64/booting.rst): the device tree is 8-byte aligned and does
not cross a 2 MiB boundary, its address is in x0, the other registers are as after reset. The
initial file system lies where other VMMs put it, beyond what the kernel needs to begin with.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PAGE_SIZE
from lab.devicetree import Board, device_tree
from lab.errors import UserError
from lab.loader.image import Region
from lab.sizes import format_address, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from emu.arch.features import CpuFeatures
    from lab.config import RunConfig
    from lab.loader.image import Image

SLACK = 0x20_0000
"""Room kept free behind the image: a flat binary's size in the file has no ``.bss`` or stack."""

ALIGNMENT = 0x20_0000
"""arm64 kernels map the device tree with one 2 MiB block."""

SMALL_RAM_ROOM = 0x1_0000
"""Where RAM is too small for slack and alignment, the device tree takes its last 64 KiB."""

INITRD_LIMIT = 128 << 20
"""The initial file system begins in the middle of RAM, or here if RAM is larger than twice that."""

RNG_SEED_BYTES = 32
KASLR_SEED_BYTES = 8


@dataclass(frozen=True, slots=True)
class Boot:
    """What the guest finds in memory beside its image.

    Attributes
    ----------
    loads : tuple[tuple[IPA, bytes], ...]
        Bytes and where they go.
    device_tree : IPA
        The address of the device tree, for x0.
    initrd : Region or None
        Where the initial file system is.
    """

    loads: tuple[tuple[IPA, bytes], ...]
    device_tree: IPA
    initrd: Region | None


def plan(image: Image, config: RunConfig, *, virtio: Iterable[int] = (), pmu: bool = False) -> Boot:
    """Return what an image gets for a start.

    Parameters
    ----------
    image : Image
        The guest; its segments are in memory already.
    config : RunConfig
        The machine.
    virtio : Iterable[int]
        The virtio transports that have a device.
    pmu : bool
        Whether the guest is told of a performance monitoring unit.

    Raises
    ------
    UserError
        If the initial file system cannot be read, or there is no room.
    """
    initrd, contents = None, b""
    if config.initrd is not None:
        contents = _read(config.initrd)
        initrd = place_initrd(image, config.ram, str(config.initrd), len(contents))
    blob = device_tree(
        Board(
            ram=config.ram,
            cpus=config.smp,
            gic=config.gic,
            bootargs=config.bootargs,
            initrd=initrd,
            rng_seed=_random("rng-seed", config.seed, RNG_SEED_BYTES),
            kaslr_seed=_kaslr_seed(config),
            virtio=tuple(virtio),
            rtc=bool(config.gic),
            pmu=pmu,
        )
    )
    at = place_device_tree(image, config.ram, len(blob), initrd)
    loads = [(at, blob)]
    if initrd is not None:
        loads.append((initrd.base, contents))
    return Boot(tuple(loads), at, initrd)


def check_page_size(name: str, image: Image, features: CpuFeatures) -> None:
    """Check that the CPU has the translation granule that a kernel is built for.

    Raises
    ------
    UserError
        If it has not; such a kernel would stop before it prints anything.
    """
    if not image.page_size:
        return
    known = [granule.name for granule in features.granules]
    if format_size(image.page_size) not in known:
        raise UserError(
            f"{name} is a kernel with {format_size(image.page_size)} pages, a {features.name} has "
            f"{' and '.join(known)}; build it with CONFIG_ARM64_{known[0]}_PAGES"
        )


def _kaslr_seed(config: RunConfig) -> int | None:
    if not config.kaslr:
        return None
    return int.from_bytes(_random("kaslr-seed", config.seed, KASLR_SEED_BYTES))


def _random(purpose: str, seed: int, size: int) -> bytes:
    """Return bytes that follow from a seed, other ones for each purpose."""
    return hashlib.sha256(f"stage2 {purpose} {seed}".encode()).digest()[:size]


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise UserError(f"--initrd: {path} is {kind}; give the path of a file, such as a cpio")
        contents = path.read_bytes()
    except OSError as error:
        raise UserError(f"--initrd: cannot read {path}: {error.strerror}") from error
    if not contents:
        raise UserError(f"--initrd: {path} is empty; leave the option out for none")
    return contents


# --- places


def place_initrd(image: Image, ram: Region, name: str, size: int) -> Region:
    """Return where an initial file system of ``size`` bytes goes: on a page, above the image.

    That is in the middle of RAM, at most 128 MiB into it; higher if the image reaches
    there, lower if the file then does not fit.

    Raises
    ------
    UserError
        If there is no room; ``name`` says of what.
    """
    lowest = _up(_top(image, ram), PAGE_SIZE)
    highest = _down(ram.end - SMALL_RAM_ROOM - size, PAGE_SIZE)
    if highest < lowest:
        free = max(0, ram.end - SMALL_RAM_ROOM - lowest)
        raise UserError(
            f"--initrd: {name} has {format_size(size)}, the guest's {format_size(ram.size)} of "
            f"memory have room for {format_size(free)} behind the image; give it more with --mem"
        )
    preferred = ram.base + _down(min(ram.size // 2, INITRD_LIMIT), PAGE_SIZE)
    return Region(IPA(min(max(preferred, lowest), highest)), size)


def place_device_tree(image: Image, ram: Region, size: int, initrd: Region | None = None) -> IPA:
    """Return where a device tree of ``size`` bytes goes: 2 MiB aligned, well above the image.

    Behind an initial file system it goes to the next such boundary. In a RAM too small for
    that it takes the last 64 KiB, as long as the others leave them free. Firmware, which has
    nothing in RAM yet, looks for it where RAM begins.

    Raises
    ------
    UserError
        If there is no room.
    """
    top = _top(image, ram)
    if top == ram.base and (initrd is None or initrd.base >= ram.base + size):
        return ram.base
    occupied = top if initrd is None else initrd.end
    preferred = IPA(_up(top + SLACK if initrd is None else initrd.end, ALIGNMENT))
    if ram.contains(preferred, size):
        return preferred
    last = IPA(ram.end - SMALL_RAM_ROOM)
    if last >= occupied and size <= SMALL_RAM_ROOM:
        return last
    raise UserError(
        f"no room for the device tree: the image ends at {format_address(top)}, the guest's "
        f"{format_size(ram.size)} of memory at {format_address(ram.end)}; give it more with --mem"
    )


def _top(image: Image, ram: Region) -> int:
    """Return the first address behind what the image has in RAM."""
    return max((s.region.end for s in image.segments if ram.contains(s.address)), default=ram.base)


def _up(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment


def _down(address: int, alignment: int) -> int:
    return address // alignment * alignment
