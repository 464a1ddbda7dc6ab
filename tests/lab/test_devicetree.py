"""The device tree: what it says of the machine."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from emu.arch.address import IPA
from lab import fdt, virtmap
from lab.devicetree import Board, device_tree
from lab.loader.image import Region

RAM = Region(IPA(0x4000_0000), 64 << 20)

FULL = {
    "cpus": 2,
    "bootargs": "console=ttyAMA0",
    "initrd": Region(IPA(0x4200_0000), 0x1234),
    "rng_seed": bytes(32),
    "kaslr_seed": 1,
    "virtio": (0, 31),
    "rtc": True,
    "pmu": True,
}


def tree(**board: Any) -> fdt.Node:  # noqa: ANN401  # the fields of Board
    return fdt.read(device_tree(Board(ram=RAM, **board)))


def text(node: fdt.Node, name: str) -> bytes:
    value = node.properties[name]
    assert isinstance(value, bytes)
    return value


def cells(node: fdt.Node, name: str) -> list[int]:
    value = text(node, name)
    return list(struct.unpack(f">{len(value) // 4}I", value))


def test_the_memory_node_is_ram() -> None:
    assert cells(tree().find("memory@40000000"), "reg") == [0, 0x4000_0000, 0, 0x400_0000]


def test_the_command_line_and_console_are_chosen() -> None:
    root = tree(bootargs="console=ttyAMA0 quiet")
    chosen = root.find("chosen")
    assert chosen.properties["bootargs"] == b"console=ttyAMA0 quiet\0"
    assert chosen.properties["stdout-path"] == b"/pl011@9000000\0"
    assert root.find("aliases").properties["serial0"] == b"/pl011@9000000\0"


def test_the_initial_file_system_and_seeds_are_chosen_if_there_are_any() -> None:
    chosen = tree(initrd=Region(IPA(0x1_4200_0000), 0x1234), rng_seed=b"abc", kaslr_seed=1 << 63)
    assert cells(chosen.find("chosen"), "linux,initrd-start") == [1, 0x4200_0000]
    assert cells(chosen.find("chosen"), "linux,initrd-end") == [1, 0x4200_1234]
    assert chosen.find("chosen").properties["rng-seed"] == b"abc"
    assert cells(chosen.find("chosen"), "kaslr-seed") == [0x8000_0000, 0]
    assert set(tree().find("chosen").properties) == {"bootargs", "stdout-path"}


def test_every_cpu_is_started_by_psci() -> None:
    cpus = tree(cpus=2).find("cpus")
    assert [child.name for child in cpus.children] == ["cpu@0", "cpu@1"]
    assert all(child.properties["enable-method"] == b"psci\0" for child in cpus.children)


def test_the_seventeenth_cpu_is_the_first_of_the_second_cluster() -> None:
    cpus = tree(cpus=18).find("cpus")
    assert [child.name for child in cpus.children][15:] == ["cpu@f", "cpu@100", "cpu@101"]
    assert cells(cpus.find("cpu@101"), "reg") == [0x101]


def test_psci_is_called_by_hvc() -> None:
    psci = tree().find("psci").properties
    assert psci["method"] == b"hvc\0"
    assert psci["compatible"] == b"arm,psci-1.0\0arm,psci-0.2\0"


@pytest.mark.parametrize(("gic", "flags"), [(0, 4), (2, 0x704), (3, 4)])
def test_the_timers_private_interrupts_are_level_high(gic: int, flags: int) -> None:
    timer = tree(gic=gic, cpus=3).find("timer")
    assert cells(timer, "interrupts") == [
        cell for ppi in (13, 14, 11, 10) for cell in (1, ppi, flags)
    ]


@pytest.mark.parametrize(
    ("gic", "compatible", "registers"),
    [
        (2, b"arm,cortex-a15-gic\0", [0, 0x0800_0000, 0, 0x1_0000, 0, 0x0801_0000, 0, 0x1_0000]),
        (3, b"arm,gic-v3\0", [0, 0x0800_0000, 0, 0x1_0000, 0, 0x080A_0000, 0, 0x6_0000]),
    ],
)
def test_the_interrupt_controller_is_described(
    gic: int, compatible: bytes, registers: list[int]
) -> None:
    root = tree(gic=gic, cpus=3)
    controller = root.find("interrupt-controller@8000000")
    assert controller.properties["compatible"] == compatible
    assert cells(controller, "reg") == registers
    assert controller.properties["phandle"] == root.properties["interrupt-parent"]


def test_without_a_controller_no_driver_goes_looking_and_no_device_has_an_interrupt() -> None:
    root = tree(rtc=True, virtio=(0,))
    controller = root.find("interrupt-controller")
    assert "compatible" not in controller.properties
    assert controller.properties["phandle"] == root.properties["interrupt-parent"]
    for name in ("pl011@9000000", "pl031@9010000", "virtio_mmio@a000000"):
        assert "interrupts" not in root.find(name).properties


def test_each_device_has_its_interrupt() -> None:
    root = tree(gic=3, **{key: FULL[key] for key in ("rtc", "pmu", "virtio")})
    interrupts = {
        node.name: cells(node, "interrupts")
        for node in root.children
        if "interrupts" in node.properties and node.name != "timer"
    }
    assert interrupts == {
        "pl011@9000000": [0, 1, 4],
        "pl031@9010000": [0, 2, 4],
        "virtio_mmio@a000000": [0, 16, 4],
        "virtio_mmio@a003e00": [0, 47, 4],
        "pmu": [1, 7, 4],
    }


def test_devices_that_are_not_there_are_not_described() -> None:
    names = [node.name for node in tree(gic=3).children]
    assert not [name for name in names if name.startswith(("pmu", "virtio", "pl031"))]


def test_uart_and_rtc_have_their_clock() -> None:
    root = tree(rtc=True)
    clock = text(root.find("apb-pclk"), "phandle")
    assert root.find("pl011@9000000").properties["clocks"] == clock * 2
    assert root.find("pl031@9010000").properties["clocks"] == clock


@pytest.mark.parametrize("gic", [0, 2, 3])
def test_every_unit_address_is_the_first_register(gic: int) -> None:
    for node in tree(gic=gic, **FULL).children:
        if "reg" in node.properties:
            assert int(node.name.partition("@")[2], 16) == cells(node, "reg")[1]


def test_the_tree_of_the_full_machine_is_small() -> None:
    every = tuple(range(virtmap.VIRTIO_COUNT))
    assert len(device_tree(Board(ram=RAM, gic=3))) < 1800
    assert len(device_tree(Board(ram=RAM, gic=3, **(FULL | {"virtio": every})))) < 6000  # type: ignore[arg-type]  # the fields of Board


@pytest.mark.apt
@pytest.mark.skipif(shutil.which("dtc") is None, reason="device-tree-compiler is not installed")
@pytest.mark.parametrize("gic", [0, 2, 3])
def test_dtc_has_no_complaint(tmp_path: Path, gic: int) -> None:
    blob = tmp_path / "machine.dtb"
    blob.write_bytes(device_tree(Board(ram=RAM, gic=gic, **FULL)))  # type: ignore[arg-type]  # the fields of Board
    done = subprocess.run(
        ["dtc", "-I", "dtb", "-O", "dts", str(blob)],  # noqa: S607  # the user's own dtc
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert 'bootargs = "console=ttyAMA0";' in done.stdout
