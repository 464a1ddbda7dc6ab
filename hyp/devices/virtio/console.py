"""The console device (virtio 1.2, section 5.3) with one port."""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import TYPE_CHECKING, ClassVar, Final

from hyp.devices.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE, TRANSMIT = 0, 1
"""The queues: to the guest, and from it."""

PIECE: Final = 64 << 10
"""How much of a buffer is passed on at once, in bytes."""

_CONFIG: Final = struct.Struct("<HHII")
_EMERG_WR: Final = 8
"""The offset of ``emerg_wr``, the last field of the configuration space."""


class ConsoleFeature(IntFlag):
    """The device's own feature bits."""

    SIZE = 1 << 0
    EMERG_WRITE = 1 << 2


class VirtioConsole(VirtioDevice):
    """A console.

    Parameters
    ----------
    output
        Called with what the guest sends.
    columns, rows
        The size of the terminal behind it.
    """

    DEVICE_ID: ClassVar = 3
    QUEUE_SIZES: ClassVar = (256, 256)
    features = ConsoleFeature.SIZE | ConsoleFeature.EMERG_WRITE

    def __init__(
        self, output: Callable[[bytes], None], *, columns: int = 80, rows: int = 25
    ) -> None:
        super().__init__()
        self._output = output
        self._size = columns, rows
        self._input = bytearray()

    def receive(self, data: bytes) -> None:
        """Send ``data`` to the guest, now or as soon as it gives buffers for it.

        What waits outlives a reset: a driver begins with one.
        """
        self._input += data
        self._kick(RECEIVE)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the guest that the terminal has another size."""
        self._size = columns, rows
        self._signal_config()

    def notify(self, index: int) -> None:
        """Pass on what the guest sends, or fill the buffers it gives."""
        if index == TRANSMIT:
            self._transmit()
        elif self._input:
            self._fill()

    def config(self) -> bytes:
        """Return the size; there is one port, and ``emerg_wr`` reads as 0."""
        return _CONFIG.pack(*self._size, 1, 0)

    def write_config(self, offset: int, data: bytes) -> None:
        """Send the low byte of what is written to ``emerg_wr``."""
        if offset == _EMERG_WR:
            self._output(data[:1])

    def _transmit(self) -> None:
        queue = self.queues[TRANSMIT]
        for chain in queue.chains():
            for offset in range(0, chain.readable_size, PIECE):
                data = chain.read(offset, PIECE)
                if data is None:
                    return
                self._output(data)
            queue.push(chain, 0)

    def _fill(self) -> None:
        queue = self.queues[RECEIVE]
        for chain in queue.chains():
            data = bytes(self._input[: chain.writable_size])
            if not chain.write(data):
                return
            del self._input[: len(data)]
            queue.push(chain, len(data))
            if not self._input:
                return
