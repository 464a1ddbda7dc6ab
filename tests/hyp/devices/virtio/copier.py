"""A device that copies what it reads of a chain to what it may write."""

from __future__ import annotations

from typing import ClassVar

from hyp.devices.virtio.device import VirtioDevice


class Copier(VirtioDevice):
    """The device.

    Attributes
    ----------
    seen
        What it read of each chain.
    limit
        How many chains it serves of one notification.
    """

    DEVICE_ID: ClassVar = 41
    QUEUE_SIZES: ClassVar = (256, 256)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []
        self.limit = 1 << 16

    def notify(self, index: int) -> None:
        queue = self.queues[index]
        for number, chain in enumerate(queue.chains(), 1):
            data = chain.read()
            if data is None:
                return
            self.seen.append(data)
            data = data[: chain.writable_size]
            if not chain.write(data):
                return
            queue.push(chain, len(data))
            if number == self.limit:
                return
