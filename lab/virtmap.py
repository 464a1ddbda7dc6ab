"""Where the machine has what: guest physical ranges and interrupts, as on QEMU's ``virt`` machine.

An interrupt is written as a device tree does: SPI ``n`` is INTID ``n + 32``, PPI ``n`` is
INTID ``n + 16``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.address import IPA


class Place(NamedTuple):
    """A range of guest physical addresses, and the interrupt of what is there.

    Attributes
    ----------
    base : IPA
        Where it begins.
    size : int
        In bytes.
    spi : int or None
        The shared peripheral interrupt; None without one.
    """

    base: IPA
    size: int
    spi: int | None = None

    @property
    def end(self) -> IPA:
        """The first address behind it."""
        return IPA(self.base + self.size)


FLASH: Final = (Place(IPA(0), 0x400_0000), Place(IPA(0x400_0000), 0x400_0000))
"""Firmware, and what it keeps. Here they are read-only memory without a flash chip's commands."""

GICD: Final = Place(IPA(0x0800_0000), 0x1_0000)
"""The distributor; a GICv2 has registers in its first page alone."""

GICC: Final = Place(IPA(0x0801_0000), 0x1_0000)
"""The CPU interface of a GICv2."""

GICR: Final = Place(IPA(0x080A_0000), 0xF6_0000)
"""The redistributors of a GICv3, one behind the other."""

GICR_STRIDE: Final = 0x2_0000
"""Bytes of a redistributor: its two frames."""

PL011: Final = Place(IPA(0x0900_0000), 0x1000, spi=1)
PL031: Final = Place(IPA(0x0901_0000), 0x1000, spi=2)

VIRTIO_FIRST: Final = Place(IPA(0x0A00_0000), 0x200, spi=16)
"""The first transport of virtio over MMIO; the others follow."""

VIRTIO_COUNT: Final = 32

TEST_DEVICE: Final = Place(IPA(0x0B00_0000), 0x1000)
"""No other machine has it: :mod:`lab.testdevice`."""

RAM_BASE: Final = IPA(0x4000_0000)

TIMER_PPIS: Final = (13, 14, 11, 10)
"""Secure physical, non-secure physical, virtual, hypervisor: INTIDs 29, 30, 27 and 26."""

PMU_PPI: Final = 7

MAX_CPUS: Final = {0: 512, 2: 8, 3: GICR.size // GICR_STRIDE}
"""By version of the GIC, 0 for none: KVM's limit, CPU interfaces, redistributors with a place."""


def virtio(number: int) -> Place:
    """Return the place of a virtio transport, from 0 to ``VIRTIO_COUNT - 1``."""
    assert 0 <= number < VIRTIO_COUNT
    first = VIRTIO_FIRST
    assert first.spi is not None
    return Place(IPA(first.base + number * first.size), first.size, first.spi + number)


def intid(place: Place) -> int:
    """Return the interrupt of a place as the GIC numbers it."""
    assert place.spi is not None, "it has an interrupt"
    return place.spi + 32
