"""The virtual GIC: GICv2 and GICv3 as KVM emulates them, without LPIs."""

from __future__ import annotations

from hyp.vgic.attributes import DeviceType, VgicDevice, create_device
from hyp.vgic.irq_line import IrqLine, kvm_irq_line
from hyp.vgic.vgic import Vgic, VgicState

__all__ = [
    "DeviceType",
    "IrqLine",
    "Vgic",
    "VgicDevice",
    "VgicState",
    "create_device",
    "kvm_irq_line",
]
