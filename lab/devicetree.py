"""The device tree that tells a guest what the machine has.

Bindings: Devicetree Specification 0.4, and Linux Documentation/devicetree/bindings for
``arm,gic``, ``arm,gic-v3``, ``arm,armv8-timer``, ``arm,psci``, ``arm,pl011``, ``arm,pl031`` and
``virtio,mmio``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyp.reset import vcpu_mpidr
from lab import fdt, virtmap
from lab.fdt import Node, Value, cells64
from lab.virtmap import PL011, PL031, PMU_PPI, TIMER_PPIS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.loader.image import Region

APB_CLOCK_HZ = 24_000_000
"""The clock of UART and RTC."""

PHANDLE_INTERRUPTS = 1
PHANDLE_CLOCK = 2

_SPI, _PPI = 0, 1
_LEVEL_HIGH = 4

_CPU_AFFINITY = 0xFF_FFFF
"""Aff2 to Aff0, which a CPU's ``reg`` of one cell holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What the device tree is to say.

    Attributes
    ----------
    ram : Region
        The memory node. Additional slots are not described: guests that use them know
        where they are.
    cpus : int
        How many CPUs; their affinities are those of the vCPUs 0 upwards.
    gic : int
        The version of the interrupt controller; 0 for none. Without one no device has an
        interrupt.
    bootargs : str
        The kernel command line.
    initrd : Region or None
        Where the initial file system is.
    rng_seed : bytes
        Randomness for the kernel's generator; empty for none.
    kaslr_seed : int or None
        64 bits from which the kernel derives where it runs; None leaves it where it is linked.
    virtio : tuple[int, ...]
        The virtio transports that have a device, by number.
    rtc, pmu : bool
        Whether there is a PL031, and a performance monitoring unit.
    """

    ram: Region
    cpus: int = 1
    gic: int = 0
    bootargs: str = ""
    initrd: Region | None = None
    rng_seed: bytes = b""
    kaslr_seed: int | None = None
    virtio: tuple[int, ...] = ()
    rtc: bool = False
    pmu: bool = False


def device_tree(board: Board) -> bytes:
    """Return the blob of a machine's device tree."""
    properties: dict[str, Value] = {
        "compatible": ["stage2,virt", "linux,dummy-virt"],
        "model": "stage2",
        "#address-cells": 2,
        "#size-cells": 2,
        "interrupt-parent": PHANDLE_INTERRUPTS,
    }
    return fdt.write(Node("", properties, list(_nodes(board))))


def _nodes(board: Board) -> Iterator[Node]:
    yield _chosen(board)
    yield Node("aliases", {"serial0": f"/{_unit('pl011', PL011)}"})
    yield Node(
        f"memory@{board.ram.base:x}",
        {"device_type": "memory", "reg": cells64(board.ram.base, board.ram.size)},
    )
    yield _cpus(board.cpus)
    yield Node("psci", {"compatible": ["arm,psci-1.0", "arm,psci-0.2"], "method": "hvc"})
    yield _timer(board)
    yield _interrupt_controller(board)
    yield Node(
        "apb-pclk",
        {
            "compatible": "fixed-clock",
            "#clock-cells": 0,
            "clock-frequency": APB_CLOCK_HZ,
            "clock-output-names": "clk24mhz",
            "phandle": PHANDLE_CLOCK,
        },
    )
    yield _uart(board)
    if board.rtc:
        yield _rtc(board)
    for number in board.virtio:
        yield _virtio(board, virtmap.virtio(number))
    if board.pmu:
        yield Node("pmu", {"compatible": "arm,armv8-pmuv3", **_ppis(board, PMU_PPI)})


def _unit(name: str, place: Place) -> str:
    return f"{name}@{place.base:x}"


def _chosen(board: Board) -> Node:
    properties: dict[str, Value] = {
        "bootargs": board.bootargs,
        "stdout-path": f"/{_unit('pl011', PL011)}",
    }
    if board.initrd is not None:
        properties["linux,initrd-start"] = cells64(board.initrd.base)
        properties["linux,initrd-end"] = cells64(board.initrd.end)
    if board.rng_seed:
        properties["rng-seed"] = board.rng_seed
    if board.kaslr_seed is not None:
        properties["kaslr-seed"] = cells64(board.kaslr_seed)
    return Node("chosen", properties)


def _cpus(count: int) -> Node:
    return Node(
        "cpus", {"#address-cells": 1, "#size-cells": 0}, [_cpu(index) for index in range(count)]
    )


def _cpu(index: int) -> Node:
    affinity = int(vcpu_mpidr(index)) & _CPU_AFFINITY
    return Node(
        f"cpu@{affinity:x}",
        {
            "device_type": "cpu",
            "compatible": "arm,armv8",
            "reg": affinity,
            "enable-method": "psci",
        },
    )


# --- interrupts


def _interrupt_controller(board: Board) -> Node:
    """Return the node that ``interrupt-parent`` names.

    Without a GIC it carries the binding that the timer's interrupts need and no more. It has
    no ``compatible`` then: a driver must not go looking for what is not there.
    """
    binding: dict[str, Value] = {
        "interrupt-controller": None,
        "#interrupt-cells": 3,
        "#address-cells": 0,
        "phandle": PHANDLE_INTERRUPTS,
    }
    if board.gic == 0:
        return Node("interrupt-controller", binding)
    distributor, name = virtmap.GICD, _unit("interrupt-controller", virtmap.GICD)
    registers = cells64(distributor.base, distributor.size)
    if board.gic == 2:
        registers += cells64(virtmap.GICC.base, virtmap.GICC.size)
        return Node(name, {"compatible": "arm,cortex-a15-gic", "reg": registers, **binding})
    registers += cells64(virtmap.GICR.base, board.cpus * virtmap.GICR_STRIDE)
    regions: dict[str, Value] = {"reg": registers, "#redistributor-regions": 1}
    return Node(name, {"compatible": "arm,gic-v3", **regions, **binding})


def _ppis(board: Board, *numbers: int) -> dict[str, Value]:
    """Return the property of private interrupts; a GICv2 wants to know of which CPUs."""
    cpus = ((1 << board.cpus) - 1) << 8 if board.gic == 2 else 0
    cells = [cell for ppi in numbers for cell in (_PPI, ppi, _LEVEL_HIGH | cpus)]
    return {"interrupts": cells}


def _spi(board: Board, place: Place) -> dict[str, Value]:
    """Return the property of a device's interrupt, which nothing takes without a GIC."""
    assert place.spi is not None, "the map gives each device an interrupt"
    return {"interrupts": [_SPI, place.spi, _LEVEL_HIGH]} if board.gic else {}


def _timer(board: Board) -> Node:
    return Node(
        "timer",
        {"compatible": "arm,armv8-timer", **_ppis(board, *TIMER_PPIS), "always-on": None},
    )


# --- devices


def _uart(board: Board) -> Node:
    return Node(
        _unit("pl011", PL011),
        {
            "compatible": ["arm,pl011", "arm,primecell"],
            "reg": cells64(PL011.base, PL011.size),
            **_spi(board, PL011),
            "clocks": [PHANDLE_CLOCK, PHANDLE_CLOCK],
            "clock-names": ["uartclk", "apb_pclk"],
        },
    )


def _rtc(board: Board) -> Node:
    return Node(
        _unit("pl031", PL031),
        {
            "compatible": ["arm,pl031", "arm,primecell"],
            "reg": cells64(PL031.base, PL031.size),
            **_spi(board, PL031),
            "clocks": [PHANDLE_CLOCK],
            "clock-names": "apb_pclk",
        },
    )


def _virtio(board: Board, place: Place) -> Node:
    """Return a transport. Its line is high as long as InterruptStatus is not zero."""
    return Node(
        _unit("virtio_mmio", place),
        {
            "compatible": "virtio,mmio",
            "reg": cells64(place.base, place.size),
            **_spi(board, place),
            "dma-coherent": None,
        },
    )
