"""The entropy device (virtio 1.2, section 5.4): bytes that follow from a seed."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Final

from hyp.devices.virtio.device import VirtioDevice

MAX_REQUEST: Final = 64 << 10
"""The most bytes for one chain; a device may give less than was asked for."""

_BLOCK: Final = hashlib.sha256().digest_size


class VirtioRng(VirtioDevice):
    """A source of bytes that look random and are the same in every run.

    Block n of the stream is SHA-256 of the seed and n, each as 8 bytes, little-endian. A reset
    does not begin it anew.

    Parameters
    ----------
    seed
        64 bits.
    """

    DEVICE_ID: ClassVar = 4
    QUEUE_SIZES: ClassVar = (256,)

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._seed = (seed & (1 << 64) - 1).to_bytes(8, "little")
        self._blocks = 0
        self._left = b""

    def notify(self, index: int) -> None:
        """Fill the buffers that wait."""
        queue = self.queues[index]
        for chain in queue.chains():
            data = self._take(min(chain.writable_size, MAX_REQUEST))
            if not chain.write(data):
                return
            queue.push(chain, len(data))

    def _take(self, size: int) -> bytes:
        """Return the next bytes of the stream."""
        blocks = [self._left]
        for number in range(self._blocks, self._blocks - (len(self._left) - size) // _BLOCK):
            blocks.append(hashlib.sha256(self._seed + number.to_bytes(8, "little")).digest())
            self._blocks += 1
        stream = b"".join(blocks)
        self._left = stream[size:]
        return stream[:size]
