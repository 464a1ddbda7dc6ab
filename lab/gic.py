"""The VM's interrupt controller, and the lines that lead to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.events import IrqLineType
from hyp.vgic import DeviceType, IrqLine
from hyp.vgic.attributes import Address, Control, Group
from lab import virtmap

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vm import VM
    from lab.virtmap import Place

NR_IRQS = 256
"""INTIDs of the GIC: as many SPIs as QEMU's machine has with a GICv3."""


def create_gic(vm: VM, version: int) -> None:
    """Give a VM that has its vCPUs a GIC of a version; 0 for none.

    Raises
    ------
    KvmError
        What KVM refuses.
    """
    if not version:
        return
    device = vm.create_device(DeviceType.VGIC_V2 if version == 2 else DeviceType.VGIC_V3)
    assert device is not None, "it was not only asked for"
    if version == 2:
        device.set_attr(Group.ADDR, Address.V2_DIST, virtmap.GICD.base)
        device.set_attr(Group.ADDR, Address.V2_CPU, virtmap.GICC.base)
    else:
        device.set_attr(Group.ADDR, Address.V3_DIST, virtmap.GICD.base)
        device.set_attr(Group.ADDR, Address.V3_REDIST, virtmap.GICR.base)
    device.set_attr(Group.NR_IRQS, 0, NR_IRQS)
    device.set_attr(Group.CTRL, Control.INIT)


def interrupt_line(vm: VM, place: Place) -> Callable[[bool], None] | None:
    """Return what moves the interrupt line of the device at a place; None without a GIC."""
    if vm.vgic is None:
        return None
    irq = IrqLine.build(type=IrqLineType.SPI, num=virtmap.intid(place))

    def move(level: bool) -> None:
        vm.irq_line(irq, level=level)

    return move
