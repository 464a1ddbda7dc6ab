"""What a virtio device is to its transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from hyp.devices.virtio.queue import Virtqueue


class VirtioDevice(ABC):
    """A device behind a transport. It acts when it is notified, and then at once.

    Attributes
    ----------
    DEVICE_ID
        What it is (section 5).
    QUEUE_SIZES
        The most entries of each of its queues: powers of two.
    features
        The device's own feature bits that it offers.
    queues
        Its queues, once it has a transport.
    driver_features
        What the driver has accepted.
    """

    DEVICE_ID: ClassVar[int]
    QUEUE_SIZES: ClassVar[tuple[int, ...]]
    features: int = 0

    def __init__(self) -> None:
        self.queues: tuple[Virtqueue, ...] = ()
        self.driver_features = 0
        self._transport: Transport | None = None

    def attach(self, transport: Transport, queues: tuple[Virtqueue, ...]) -> None:
        """Become the device of a transport."""
        self._transport, self.queues = transport, queues

    @abstractmethod
    def notify(self, index: int) -> None:
        """Look at a queue: the driver has made chains available."""

    def config(self) -> bytes:
        """Return the configuration space."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """Take a write to the configuration space. Most of it is read-only."""
        del offset, data

    def reset(self) -> None:
        """Forget what the driver did. The queues are the transport's matter."""
        self.driver_features = 0

    def _kick(self, index: int) -> None:
        """Look at a queue for a reason of the device's own, if it may use it."""
        if self._transport is not None:
            self._transport.kick(index)

    def _signal_config(self) -> None:
        """Have the driver told that the configuration space has changed."""
        if self._transport is not None:
            self._transport.signal_config()


class Transport(ABC):
    """What a device may ask of its transport."""

    @abstractmethod
    def kick(self, index: int) -> None:
        """Have the device look at a queue, as if the driver had notified it."""

    @abstractmethod
    def signal_config(self) -> None:
        """Interrupt the driver: the configuration space has changed."""
