import shutil
import subprocess
from pathlib import Path

import pytest

from emu.arch.address import IPA
from lab import fdt
from lab.devicetree import device_tree, place_device_tree
from lab.errors import UserError
from lab.loader.image import Image, ImageKind, Region, Segment

BASE = 0x4000_0000
RAM = Region(IPA(BASE), 64 << 20)


def image(*segments: tuple[int, int]) -> Image:
    placed = tuple(Segment(IPA(address), b"", size) for address, size in segments)
    return Image(placed, placed[0].address, ImageKind.FLAT)


def tree(bootargs: str = "", cpus: int = 1) -> fdt.Node:
    return fdt.read(device_tree(RAM, cpus, bootargs))


def test_the_memory_node_is_ram() -> None:
    memory = tree().find("memory@40000000")
    assert memory.properties["reg"] == bytes.fromhex("0000000040000000 0000000004000000")


def test_the_command_line_and_console_are_chosen() -> None:
    chosen = tree("console=ttyAMA0 quiet").find("chosen")
    assert chosen.properties["bootargs"] == b"console=ttyAMA0 quiet\0"
    assert chosen.properties["stdout-path"] == b"/pl011@9000000\0"


def test_every_cpu_is_started_by_psci() -> None:
    cpus = tree(cpus=2).find("cpus")
    assert [child.name for child in cpus.children] == ["cpu@0", "cpu@1"]
    assert cpus.find("cpu@1").properties["enable-method"] == b"psci\0"
    assert cpus.find("cpu@1").properties["reg"] == bytes.fromhex("00000001")


def test_psci_is_called_by_hvc() -> None:
    psci = tree().find("psci").properties
    assert psci["method"] == b"hvc\0"
    assert psci["compatible"] == b"arm,psci-1.0\0arm,psci-0.2\0arm,psci\0"


def test_the_timer_names_four_private_interrupts_of_a_controller_that_exists() -> None:
    root = tree()
    cells = root.find("timer").properties["interrupts"]
    assert isinstance(cells, bytes)
    assert [int.from_bytes(cells[i : i + 4]) for i in range(0, len(cells), 12)] == [1] * 4
    assert [int.from_bytes(cells[i : i + 4]) for i in range(4, len(cells), 12)] == [13, 14, 11, 10]
    parent = root.properties["interrupt-parent"]
    assert root.find("interrupt-controller").properties["phandle"] == parent


def test_the_console_is_a_pl011_with_its_clock() -> None:
    root = tree()
    clock = root.find("apb-pclk").properties["phandle"]
    assert isinstance(clock, bytes)
    assert root.find("pl011@9000000").properties["clocks"] == clock * 2


@pytest.mark.apt
@pytest.mark.skipif(shutil.which("dtc") is None, reason="device-tree-compiler is not installed")
def test_dtc_has_no_complaint(tmp_path: Path) -> None:
    blob = tmp_path / "machine.dtb"
    blob.write_bytes(device_tree(RAM, 2, "console=ttyAMA0"))
    done = subprocess.run(
        ["dtc", "-I", "dtb", "-O", "dts", str(blob)],  # noqa: S607  # the user's own dtc
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert 'bootargs = "console=ttyAMA0";' in done.stdout


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
