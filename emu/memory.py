"""Physical memory: one buffer, shared with the execution engine.

Everything that is not RAM answers with an external abort, which here is a value
(``None`` from :meth:`PhysicalMemory.fetch_u64`), because a table walk that runs into
it must report it, not stop the machine.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final, NamedTuple

from emu.arch.address import PA, PAGE_SIZE
from emu.arch.esr.fsc import FaultType

MAX_SIZE: Final = 1 << 40


class FailedRange(NamedTuple):
    """Bytes of one page that cannot be accessed any more: an uncorrectable ECC error, or worse."""

    first: PA
    size: int
    ecc: bool
    """Whether it is reported as a parity or ECC error, which has codes of its own without
    FEAT_RAS, or as an external abort."""
    on_walks: bool
    """Whether table walks meet it."""
    on_accesses: bool
    """Whether loads, stores and fetches of instructions meet it."""


class EL2AbortError(Exception):
    """EL2 itself has accessed memory that has failed: it is over with the hypervisor."""


class PhysicalMemory:
    """RAM from ``base`` to ``base + size``, little endian.

    Parameters
    ----------
    base
        Lowest address, page aligned.
    size
        Bytes, a multiple of the page size. The host provides pages when they are touched,
        so a large memory costs nothing until it is used.

    Attributes
    ----------
    failed
        What cannot be accessed any more, by page. Descriptors are read and written with errors;
        the rest of EL2's accesses, and the host's, are not.
    """

    def __init__(self, base: PA, size: int) -> None:
        if base % PAGE_SIZE or size % PAGE_SIZE or not 0 < size <= MAX_SIZE:
            raise ValueError(
                f"physical memory needs a page-aligned base and a size of 1 to "
                f"{MAX_SIZE // PAGE_SIZE} whole pages, not {base:#x} and {size:#x}"
            )
        self.base = base
        self.size = size
        self.failed: dict[PA, tuple[FailedRange, ...]] = {}
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
        if 0 <= offset < self.size and not (self.failed and self.error(pa, 8, walk=True)):
            return self._words[offset >> 3]
        return None

    def fail(self, failed: FailedRange) -> None:
        """Have some bytes fail from now on."""
        page = PA(failed.first & -PAGE_SIZE)
        self.failed[page] = (*self.failed.get(page, ()), failed)

    def repair(self, failed: FailedRange) -> None:
        """Have bytes that failed be accessible again."""
        page = PA(failed.first & -PAGE_SIZE)
        left = tuple(other for other in self.failed.pop(page, ()) if other is not failed)
        if left:
            self.failed[page] = left

    def error(self, pa: PA, size: int, *, walk: bool = False) -> FaultType | None:
        """Return how an access to bytes of one page fails; None if it does not."""
        for failed in self.failed.get(PA(pa & -PAGE_SIZE), ()):
            met = failed.on_walks if walk else failed.on_accesses
            if met and failed.first < pa + size and pa < failed.first + failed.size:
                if failed.ecc:
                    return FaultType.PARITY_ON_WALK if walk else FaultType.PARITY
                return FaultType.EXTERNAL_ON_WALK if walk else FaultType.EXTERNAL
        return None

    def walk_error(self, pa: PA) -> FaultType:
        """Return what is wrong with a descriptor that could not be fetched."""
        return self.error(pa, 8, walk=True) or FaultType.EXTERNAL_ON_WALK

    def read_instruction(self, pa: PA) -> int:
        """Read the A64 instruction at an aligned address."""
        return self._instructions[self._offset(pa, 4) >> 2]

    def read_u64(self, pa: PA) -> int:
        """Read eight aligned bytes with a single access.

        Raises
        ------
        EL2AbortError
            If they have failed.
        """
        if self.failed:
            self._refuse_failed(pa)
        offset = pa - self.base
        if 0 <= offset < self.size:  # on the way of every abort
            return self._words[offset >> 3]
        return self._words[self._offset(pa, 8) >> 3]

    def write_u64(self, pa: PA, value: int) -> None:
        """Write eight aligned bytes with a single access; errors as for :meth:`read_u64`."""
        if self.failed:
            self._refuse_failed(pa)
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

    def _refuse_failed(self, pa: PA) -> None:
        error = self.error(pa, 8)
        if error is not None:
            raise EL2AbortError(f"EL2 takes a {error.value} at PA {pa:#x}")

    def _offset(self, pa: PA, size: int) -> int:
        offset = pa - self.base
        if not 0 <= offset <= self.size - size:
            raise ValueError(
                f"{size} bytes at PA {pa:#x} are not RAM, "
                f"which is {self.base:#x} to {self.base + self.size - 1:#x}"
            )
        return offset
