"""The block device (virtio 1.2, section 5.2)."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, ClassVar, Final

from hyp.devices.virtio.device import VirtioDevice
from hyp.devices.virtio.image import SECTOR

if TYPE_CHECKING:
    from hyp.devices.virtio.image import Image
    from hyp.devices.virtio.queue import Chain

QUEUE_SIZE: Final = 256

SEG_MAX: Final = QUEUE_SIZE - 2
"""Buffers of data in a request: what a chain has beside header and status."""

ID_SIZE: Final = 20

_HEADER: Final = struct.Struct("<IIQ")
_CONFIG: Final = struct.Struct("<QIIHBBI")
_STATUS_SIZE: Final = 1


class BlockFeature(IntFlag):
    """The device's own feature bits."""

    SEG_MAX = 1 << 2
    RO = 1 << 5
    BLK_SIZE = 1 << 6
    FLUSH = 1 << 9


class Request(IntEnum):
    """``type`` of a request."""

    IN = 0
    """Read sectors: the device writes memory."""
    OUT = 1
    FLUSH = 4
    GET_ID = 8


class BlockStatus(IntEnum):
    """``status`` of a request."""

    OK = 0
    IOERR = 1
    UNSUPP = 2


class VirtioBlock(VirtioDevice):
    """A disk.

    Parameters
    ----------
    image
        What is on it.
    serial
        The text that GET_ID gives, at most 20 ASCII characters.
    """

    DEVICE_ID: ClassVar = 2
    QUEUE_SIZES: ClassVar = (QUEUE_SIZE,)

    def __init__(self, image: Image, serial: str = "stage2") -> None:
        super().__init__()
        self._image = image
        self._id = serial.encode("ascii")[:ID_SIZE].ljust(ID_SIZE, b"\0")
        self.features = BlockFeature.SEG_MAX | BlockFeature.BLK_SIZE | BlockFeature.FLUSH
        if image.read_only:
            self.features |= BlockFeature.RO

    def config(self) -> bytes:
        """Return capacity, seg_max and blk_size; size_max and the geometry are 0."""
        return _CONFIG.pack(self._image.size // SECTOR, 0, SEG_MAX, 0, 0, 0, SECTOR)

    def notify(self, index: int) -> None:
        """Serve the requests that wait."""
        queue = self.queues[index]
        for chain in queue.chains():
            if chain.readable_size < _HEADER.size or chain.writable_size < _STATUS_SIZE:
                queue.fail(f"request {chain.head} has no room for a header and a status")
                return
            header = chain.read(0, _HEADER.size)
            if header is None:
                return
            kind, _, sector = _HEADER.unpack(header)
            answer = self._serve(chain, kind, sector)
            # The status is the last byte that the device may write.
            end = chain.writable_size - _STATUS_SIZE
            if answer is None or not chain.write(bytes([answer[0]]), end):
                return
            written = answer[1]
            queue.push(chain, written + _STATUS_SIZE if written == end else written)

    def _serve(self, chain: Chain, kind: int, sector: int) -> tuple[BlockStatus, int] | None:
        """Do what a request asks for.

        Returns
        -------
        tuple[BlockStatus, int] or None
            The status, and how many bytes of data the guest gets; ``None`` if its buffers
            are no memory.
        """
        try:
            if kind == Request.IN:
                return self._read(chain, sector)
            if kind == Request.OUT:
                return self._write(chain, sector)
            if kind == Request.FLUSH:
                self._image.flush()
                return BlockStatus.OK, 0
        except OSError:
            return BlockStatus.IOERR, 0
        if kind == Request.GET_ID:
            data = self._id[: chain.writable_size - _STATUS_SIZE]
            return (BlockStatus.OK, len(data)) if chain.write(data) else None
        return BlockStatus.UNSUPP, 0

    def _read(self, chain: Chain, sector: int) -> tuple[BlockStatus, int] | None:
        size = chain.writable_size - _STATUS_SIZE
        if not self._is_there(sector, size):
            return BlockStatus.IOERR, 0
        data = self._image.read(sector * SECTOR, size)
        return (BlockStatus.OK, size) if chain.write(data) else None

    def _write(self, chain: Chain, sector: int) -> tuple[BlockStatus, int] | None:
        size = chain.readable_size - _HEADER.size
        if self._image.read_only or not self._is_there(sector, size):
            return BlockStatus.IOERR, 0
        data = chain.read(_HEADER.size, size)
        if data is None:
            return None
        self._image.write(sector * SECTOR, data)
        return BlockStatus.OK, 0

    def _is_there(self, sector: int, size: int) -> bool:
        """Whether ``size`` bytes are whole sectors within the disk."""
        return size % SECTOR == 0 and sector * SECTOR + size <= self._image.size
