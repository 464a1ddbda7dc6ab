"""The boot protocol: what is in memory beside the image, and where."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from emu.arch.address import IPA
from emu.arch.features import CORTEX_A72
from lab import fdt
from lab.boot import Boot, check_page_size, place_device_tree, place_initrd, plan
from lab.config import RunConfig
from lab.errors import UserError
from lab.loader.image import Image, ImageKind, Region, Segment

BASE = 0x4000_0000
M = 1 << 20
RAM = Region(IPA(BASE), 64 * M)


def image(*segments: tuple[int, int]) -> Image:
    placed = tuple(Segment(IPA(address), b"", size) for address, size in segments)
    return Image(placed, placed[0].address, ImageKind.FLAT)


KERNEL = image((BASE + 2 * M, 4 * M))


def chosen(boot: Boot) -> fdt.Node:
    blob = next(data for address, data in boot.loads if address == boot.device_tree)
    return fdt.read(blob).find("chosen")


def refusal(config: RunConfig, guest: Image = KERNEL) -> str:
    with pytest.raises(UserError) as caught:
        plan(guest, config)
    text = str(caught.value)
    assert "\n" not in text
    return text


# -- the device tree


def test_the_device_tree_is_placed_well_above_the_image_on_a_2m_boundary() -> None:
    assert place_device_tree(image((BASE + 0x8_0000, 0x1000)), RAM, 1500) == BASE + 0x40_0000


def test_segments_outside_ram_do_not_push_the_device_tree() -> None:
    placed = place_device_tree(image((BASE + 0x8_0000, 0x1000), (0x5000_0000, 0x1000)), RAM, 1500)
    assert placed == BASE + 0x40_0000


def test_in_a_small_ram_the_device_tree_takes_the_last_64k() -> None:
    ram = Region(IPA(BASE), 1 << 20)
    assert place_device_tree(image((BASE + 0x8_0000, 0x1000)), ram, 1500) == ram.end - 0x1_0000


def test_without_room_for_the_device_tree_the_user_is_told_to_give_more_memory() -> None:
    ram = Region(IPA(BASE), 0x9_0000)
    with pytest.raises(UserError) as caught:
        place_device_tree(image((BASE + 0x8_0000, 0x8000)), ram, 1500)
    assert str(caught.value) == (
        "no room for the device tree: the image ends at 0x4008_8000, the guest's 576K of memory "
        "at 0x4009_0000; give it more with --mem"
    )


def test_the_device_tree_is_behind_the_initial_file_system() -> None:
    initrd = Region(IPA(BASE + 32 * M), 3 * M)
    assert place_device_tree(KERNEL, RAM, 1500, initrd) == BASE + 36 * M


def test_behind_an_initial_file_system_at_the_end_of_ram_it_takes_the_last_64k() -> None:
    initrd = place_initrd(KERNEL, RAM, "initrd", 32 * M)
    assert place_device_tree(KERNEL, RAM, 1500, initrd) == RAM.end - 0x1_0000
    assert initrd.end <= RAM.end - 0x1_0000


# -- the initial file system


@pytest.mark.parametrize(
    ("memory", "offset"), [(64 * M, 32 * M), (512 * M, 128 * M), (8192 * M, 128 * M)]
)
def test_the_initial_file_system_is_in_the_middle_of_ram_or_at_128m(
    memory: int, offset: int
) -> None:
    assert place_initrd(KERNEL, Region(IPA(BASE), memory), "initrd", M).base == BASE + offset


def test_a_large_kernel_pushes_the_initial_file_system_to_the_next_page() -> None:
    kernel = image((BASE + 2 * M, 40 * M + 1))
    assert place_initrd(kernel, RAM, "initrd", M).base == BASE + 42 * M + 0x1000


def test_a_large_initial_file_system_begins_lower() -> None:
    placed = place_initrd(KERNEL, RAM, "initrd", 40 * M)
    assert placed.base == BASE + 64 * M - 0x1_0000 - 40 * M
    assert placed.base >= KERNEL.end


def test_an_initial_file_system_too_large_for_ram_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"1")
    with path.open("r+b") as file:
        file.truncate(60 * M)
    assert refusal(RunConfig(initrd=path)) == (
        f"--initrd: {path} has 60M, the guest's 64M of memory have room for 59328K behind the "
        "image; give it more with --mem"
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.mkdir(), "--initrd: PATH is a directory; give the path of a file"),
        (lambda path: path.write_bytes(b""), "--initrd: PATH is empty; leave the option out"),
        (lambda _path: None, "--initrd: cannot read PATH: No such file or directory"),
    ],
    ids=["directory", "empty", "missing"],
)
def test_what_is_no_initial_file_system_is_refused(
    tmp_path: Path,
    make: object,
    text: str,
) -> None:
    path = tmp_path / "initrd"
    assert callable(make)
    make(path)
    assert refusal(RunConfig(initrd=path)).replace(str(path), "PATH").startswith(text)


def test_the_device_tree_says_where_the_initial_file_system_is(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"070701")
    boot = plan(KERNEL, RunConfig(initrd=path))
    assert boot.initrd == Region(IPA(BASE + 32 * M), 6)
    assert (boot.initrd.base, b"070701") in boot.loads
    properties = chosen(boot).properties
    assert properties["linux,initrd-start"] == struct.pack(">Q", boot.initrd.base)
    assert properties["linux,initrd-end"] == struct.pack(">Q", boot.initrd.base + 6)


# -- randomness


def test_randomness_follows_from_the_seed_alone() -> None:
    seeds = [chosen(plan(KERNEL, RunConfig(seed=n))).properties["rng-seed"] for n in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert isinstance(seeds[0], bytes)
    assert len(seeds[0]) == 32


def test_a_kernel_is_only_moved_about_if_that_is_asked_for() -> None:
    assert "kaslr-seed" not in chosen(plan(KERNEL, RunConfig())).properties
    properties = chosen(plan(KERNEL, RunConfig(kaslr=True))).properties
    assert isinstance(properties["kaslr-seed"], bytes)
    assert len(properties["kaslr-seed"]) == 8
    assert properties["kaslr-seed"] != properties["rng-seed"]


# -- pages


@pytest.mark.parametrize("page_size", [0, 0x1000, 0x1_0000])
def test_a_kernel_with_pages_that_the_cpu_has_is_accepted(page_size: int) -> None:
    check_page_size("Image", replace(KERNEL, page_size=page_size), CORTEX_A72)


def test_a_kernel_with_pages_that_the_cpu_lacks_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        check_page_size("Image", replace(KERNEL, page_size=0x4000), CORTEX_A72)
    assert str(caught.value) == (
        "Image is a kernel with 16K pages, a cortex-a72 has 4K and 64K; "
        "build it with CONFIG_ARM64_4K_PAGES"
    )


# -- firmware


def test_firmware_finds_the_device_tree_where_ram_begins() -> None:
    boot = plan(image((0, 0x1000)), RunConfig(bios=True))
    assert boot.device_tree == BASE


def test_firmware_lies_in_flash_which_it_cannot_write() -> None:
    low, high = RunConfig(bios=True).all_slots[1:]
    assert (low.region.base, high.region.base, high.region.end) == (0, 64 * M, 128 * M)
    assert low.read_only
    assert high.read_only
    assert len(RunConfig().all_slots) == 1
