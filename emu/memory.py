"""Physical memory: one buffer, shared with the execution engine.

Everything that is not RAM answers with an external abort, which here is a value
(``None`` from :meth:`PhysicalMemory.fetch_u64`), because a table walk that runs into
it must report it, not stop the machine.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

from emu.arch.address import PA, PAGE_SIZE

MAX_SIZE: Final = 1 << 40


class PhysicalMemory:
    """RAM from ``base`` to ``base + size``, little endian.

    Parameters
    ----------
    base
        Lowest address, page aligned.
    size
        Bytes, a multiple of the page size. The host provides pages when they are touched,
        so a large memory costs nothing until it is used.
    """

    def __init__(self, base: PA, size: int) -> None:
        if base % PAGE_SIZE or size % PAGE_SIZE or not 0 < size <= MAX_SIZE:
            raise ValueError(
                f"physical memory needs a page-aligned base and a size of 1 to "
                f"{MAX_SIZE // PAGE_SIZE} whole pages, not {base:#x} and {size:#x}"
            )
        self.base = base
        self.size = size
        self._buffer = mmap.mmap(-1, size)
        self._bytes = memoryview(self._buffer)
        self._words = self._bytes.cast("Q")
        self._instructions = self._bytes.cast("I")

    @property
    def host_address(self) -> int:
        """Where the buffer lies in this process, for an engine to map."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))

    def contains(self, pa: PA, size: int = 1) -> bool:
        """Whether all of ``size`` bytes at ``pa`` are RAM."""
        return 0 <= pa - self.base <= self.size - size

    def fetch_u64(self, pa: PA) -> int | None:
        """Read a descriptor for a table walk; None is an external abort.

        The address is taken as aligned: the walk forms it from an aligned base and an index.
        """
        offset = pa - self.base
        if 0 <= offset < self.size:
            return self._words[offset >> 3]
        return None

    def read_instruction(self, pa: PA) -> int:
        """Read the A64 instruction at an aligned address."""
        return self._instructions[self._offset(pa, 4) >> 2]

    def read_u64(self, pa: PA) -> int:
        """Read eight aligned bytes with a single access."""
        return self._words[self._offset(pa, 8) >> 3]

    def write_u64(self, pa: PA, value: int) -> None:
        """Write eight aligned bytes with a single access."""
        self._words[self._offset(pa, 8) >> 3] = value

    def read(self, pa: PA, size: int) -> bytes:
        """Read ``size`` bytes."""
        offset = self._offset(pa, size)
        return bytes(self._bytes[offset : offset + size])

    def write(self, pa: PA, data: bytes | bytearray | memoryview) -> None:
        """Write bytes."""
        offset = self._offset(pa, len(data))
        self._bytes[offset : offset + len(data)] = data

    def fill(self, pa: PA, size: int, byte: int = 0) -> None:
        """Set ``size`` bytes to one value."""
        offset = self._offset(pa, size)
        self._bytes[offset : offset + size] = bytes([byte]) * size

    def clear(self) -> None:
        """Set all of RAM to zero, and give the host back the pages behind it."""
        self._buffer.madvise(mmap.MADV_REMOVE)

    def view(self, pa: PA, size: int) -> memoryview:
        """Return a window on memory itself, without a copy."""
        offset = self._offset(pa, size)
        return self._bytes[offset : offset + size]

    def _offset(self, pa: PA, size: int) -> int:
        offset = pa - self.base
        if not 0 <= offset <= self.size - size:
            raise ValueError(
                f"{size} bytes at PA {pa:#x} are not RAM, "
                f"which is {self.base:#x} to {self.base + self.size - 1:#x}"
            )
        return offset
