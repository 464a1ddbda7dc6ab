"""virtio devices over MMIO: the transport, split virtqueues, and three devices."""

from __future__ import annotations

from hyp.devices.virtio.block import VirtioBlock
from hyp.devices.virtio.console import VirtioConsole
from hyp.devices.virtio.mmio import VirtioMmio
from hyp.devices.virtio.registers import SIZE, Version
from hyp.devices.virtio.rng import VirtioRng

__all__ = ["SIZE", "Version", "VirtioBlock", "VirtioConsole", "VirtioMmio", "VirtioRng"]
