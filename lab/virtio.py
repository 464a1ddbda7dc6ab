"""The virtio devices of a run, each behind a transport of its own on the io bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.devices.virtio import Version, VirtioBlock, VirtioConsole, VirtioMmio, VirtioRng
from lab import virtmap
from lab.chr_testdev import ChrTestdev
from lab.gic import interrupt_line
from lab.sizes import format_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyp.devices.virtio.device import VirtioDevice
    from hyp.vm import VM
    from lab.config import RunConfig
    from lab.disk import Disk


class VirtioDevices:
    """The devices that a configuration asks for, in the places from 0 on.

    Parameters
    ----------
    vm : VM
        The VM, with its GIC.
    config : RunConfig
        Which devices there are.
    disks : Sequence[Disk]
        What its drives are, open.
    ended : Callable[[], None]
        Called once, when the guest ends its run through the test device.
    """

    def __init__(
        self, vm: VM, config: RunConfig, disks: Sequence[Disk], ended: Callable[[], None]
    ) -> None:
        self._testdev, self._ended = ChrTestdev(), ended
        devices: list[VirtioDevice] = [VirtioBlock(disk.image) for disk in disks]
        if config.rng:
            devices.append(VirtioRng(config.seed))
        if config.testdev:
            devices.append(VirtioConsole(self._sent))
        version = Version[config.virtio.upper()]
        self._transports: list[tuple[str, VirtioMmio]] = []
        for number, (name, device) in enumerate(zip(config.virtio_devices, devices, strict=True)):
            place = virtmap.virtio(number)
            transport = VirtioMmio(device, vm, interrupt_line(vm, place), version=version)
            vm.register_device(place.base, place.size, transport)
            self._transports.append((f"{name} at {format_address(place.base)}", transport))

    @property
    def exit_code(self) -> int | None:
        """The exit code that the guest gave the test device; None if it gave none."""
        return self._testdev.code

    def failures(self) -> tuple[str, ...]:
        """Return which devices wait for a reset because of a queue, and why."""
        return tuple(
            f"{name} needs a reset: {transport.failure}"
            for name, transport in self._transports
            if transport.failure is not None
        )

    def _sent(self, data: bytes) -> None:
        had_ended = self._testdev.code is not None
        self._testdev(data)
        if self._testdev.code is not None and not had_ended:
            self._ended()
