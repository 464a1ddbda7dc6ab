"""Physical memory that tells who reads and writes it: walks, the hypervisor, devices.

The guest's own accesses do not pass through it: they are the engine's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from emu.memory import PhysicalMemory

if TYPE_CHECKING:
    from emu.arch.address import PA


class Listener(Protocol):
    """Who is told."""

    def accessed(self, pa: int, size: int, *, reads: bool) -> None:
        """Hear of an access, in the order in which they are made."""


class WatchedMemory(PhysicalMemory):
    """Memory with a listener.

    Attributes
    ----------
    listener : Listener or None
        Who is told; None for nobody.
    """

    def __init__(self, base: PA, size: int) -> None:
        super().__init__(base, size)
        self.listener: Listener | None = None

    def _tell(self, pa: int, size: int, *, reads: bool) -> None:
        if self.listener is not None:
            self.listener.accessed(pa, size, reads=reads)

    def fetch_u64(self, pa: PA) -> int | None:
        """Read a descriptor for a table walk."""
        self._tell(pa, 8, reads=True)
        return super().fetch_u64(pa)

    def read_u64(self, pa: PA) -> int:
        """Read eight aligned bytes."""
        self._tell(pa, 8, reads=True)
        return super().read_u64(pa)

    def write_u64(self, pa: PA, value: int) -> None:
        """Write eight aligned bytes."""
        self._tell(pa, 8, reads=False)
        super().write_u64(pa, value)

    def read(self, pa: PA, size: int) -> bytes:
        """Read bytes."""
        self._tell(pa, size, reads=True)
        return super().read(pa, size)

    def write(self, pa: PA, data: bytes | bytearray | memoryview) -> None:
        """Write bytes."""
        self._tell(pa, len(data), reads=False)
        super().write(pa, data)

    def fill(self, pa: PA, size: int, byte: int = 0) -> None:
        """Set bytes to one value."""
        self._tell(pa, size, reads=False)
        super().fill(pa, size, byte)

    def view(self, pa: PA, size: int) -> memoryview:
        """Return a window on memory: all of it may be read. What is written is not told."""
        self._tell(pa, size, reads=True)
        return super().view(pa, size)
