"""The device tree that tells a guest what the machine has, and where it goes in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA
from lab import fdt
from lab.errors import UserError
from lab.fdt import Node, cells64
from lab.sizes import format_address, format_size
from lab.virtmap import PL011, TIMER_PPIS

if TYPE_CHECKING:
    from lab.loader.image import Image, Region

PL011_BASE, PL011_SIZE = PL011.base, PL011.size
PL011_CLOCK_HZ = 24_000_000

PHANDLE_INTERRUPTS = 1
PHANDLE_CLOCK = 2

_PPI = 1
_LEVEL_HIGH = 4

SLACK = 0x20_0000
"""Room kept free behind the image: a flat binary's size in the file has no ``.bss`` or stack."""

ALIGNMENT = 0x20_0000
"""arm64 kernels map the device tree with one 2 MiB block."""

SMALL_RAM_ROOM = 0x1_0000
"""Where RAM is too small for slack and alignment, the device tree takes its last 64 KiB."""


def device_tree(ram: Region, cpu_count: int, bootargs: str) -> bytes:
    """Return the blob of the machine's device tree.

    The interrupt controller node only carries the binding that the timer's
    interrupts need. It has no ``compatible``: nothing of that kind exists yet, and a
    driver must not go looking for it. For the same reason the UART, whose interrupt
    line is not connected, has no ``interrupts``.

    Parameters
    ----------
    ram : Region
        The memory node. Additional slots are not described: guests that use them
        know where they are.
    cpu_count : int
        CPUs, with MPIDR affinity 0 upwards.
    bootargs : str
        The kernel command line.
    """
    return fdt.write(
        Node(
            "",
            {
                "compatible": "stage2,virt",
                "model": "stage2",
                "#address-cells": 2,
                "#size-cells": 2,
                "interrupt-parent": PHANDLE_INTERRUPTS,
            },
            [
                _chosen(bootargs),
                Node(
                    f"memory@{ram.base:x}",
                    {"device_type": "memory", "reg": cells64(ram.base, ram.size)},
                ),
                _cpus(cpu_count),
                _psci(),
                _timer(),
                Node(
                    "interrupt-controller",
                    {
                        "interrupt-controller": None,
                        "#interrupt-cells": 3,
                        "#address-cells": 0,
                        "phandle": PHANDLE_INTERRUPTS,
                    },
                ),
                Node(
                    "apb-pclk",
                    {
                        "compatible": "fixed-clock",
                        "#clock-cells": 0,
                        "clock-frequency": PL011_CLOCK_HZ,
                        "clock-output-names": "clk24mhz",
                        "phandle": PHANDLE_CLOCK,
                    },
                ),
                _uart(),
            ],
        )
    )


def _chosen(bootargs: str) -> Node:
    return Node("chosen", {"bootargs": bootargs, "stdout-path": f"/pl011@{PL011_BASE:x}"})


def _cpus(count: int) -> Node:
    return Node(
        "cpus",
        {"#address-cells": 1, "#size-cells": 0},
        [
            Node(
                f"cpu@{n:x}",
                {
                    "device_type": "cpu",
                    "compatible": "arm,armv8",
                    "reg": n,
                    "enable-method": "psci",
                },
            )
            for n in range(count)
        ],
    )


def _psci() -> Node:
    return Node(
        "psci",
        {"compatible": ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"], "method": "hvc"},
    )


def _timer() -> Node:
    interrupts = [cell for ppi in TIMER_PPIS for cell in (_PPI, ppi, _LEVEL_HIGH)]
    return Node(
        "timer", {"compatible": "arm,armv8-timer", "interrupts": interrupts, "always-on": None}
    )


def _uart() -> Node:
    return Node(
        f"pl011@{PL011_BASE:x}",
        {
            "compatible": ["arm,pl011", "arm,primecell"],
            "reg": cells64(PL011_BASE, PL011_SIZE),
            "clocks": [PHANDLE_CLOCK, PHANDLE_CLOCK],
            "clock-names": ["uartclk", "apb_pclk"],
        },
    )


def place_device_tree(image: Image, ram: Region, size: int) -> IPA:
    """Return where a device tree of ``size`` bytes goes: 2 MiB aligned, well above the image.

    In a RAM too small for that it takes the last 64 KiB, as long as the image leaves
    them free.

    Raises
    ------
    UserError
        If there is no room.
    """
    top = max((s.region.end for s in image.segments if ram.contains(s.address)), default=ram.base)
    preferred = IPA(-(-(top + SLACK) // ALIGNMENT) * ALIGNMENT)
    if ram.contains(preferred, size):
        return preferred
    last = IPA(ram.end - SMALL_RAM_ROOM)
    if last >= top and size <= SMALL_RAM_ROOM:
        return last
    raise UserError(
        f"no room for the device tree: the image ends at {format_address(top)}, the guest's "
        f"{format_size(ram.size)} of memory at {format_address(ram.end)}; give it more with --mem"
    )
