"""Physical memory: one buffer, shared with the execution engine.

Everything that is not RAM answers with an external abort, which here is a value
(``None`` from :meth:`PhysicalMemory.fetch_u64`), because a table walk that runs into
it must report it, not stop the machine.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import PA, PAGE_MASK, PAGE_SIZE
from emu.arch.esr.fsc import FaultType
from emu.images import EMPTY, MemoryImage

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE: Final = 1 << 40

_PAGE: Final = ~PAGE_MASK


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


class TableMemory:
    """What walks need of memory."""

    def contains(self, pa: PA, size: int = 1) -> bool:
        """Whether all of ``size`` bytes at ``pa`` are memory."""
        raise NotImplementedError

    def fetch_u64(self, pa: PA) -> int | None:
        """Read a descriptor at an aligned address; None is an external abort."""
        raise NotImplementedError

    def walk_error(self, pa: PA) -> FaultType:
        """Return what is wrong with a descriptor that could not be fetched."""
        raise NotImplementedError

    def write_u64(self, pa: PA, value: int) -> None:
        """Write a descriptor back."""
        raise NotImplementedError


class PhysicalMemory(TableMemory):
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
    touched
        Pages that may have changed since the last image: those that Python wrote to, and those
        that a PE was given to write to. The set stays the same object.
    failed
        What cannot be accessed any more, by page. Descriptors are read and written with errors;
        the rest of EL2's accesses, and the host's, are not.
    listener
        Told of every access but those that PEs make for their guests: its address, its size,
        whether it reads. A view counts as read. None while nobody listens.
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
        self.listener: Callable[[int, int, bool], None] | None = None
        self._buffer = mmap.mmap(-1, size)
        self._bytes = memoryview(self._buffer)
        self._words = self._bytes.cast("Q")
        self._instructions = self._bytes.cast("I")
        self.touched: set[PA] = set()
        self._image = EMPTY

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
        if self.listener is not None:
            self.listener(pa, 8, True)
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
        if self.listener is not None:
            self.listener(pa, 8, True)
        if self.failed:
            self._refuse_failed(pa)
        offset = pa - self.base
        if 0 <= offset < self.size:  # on the way of every abort
            return self._words[offset >> 3]
        return self._words[self._offset(pa, 8) >> 3]

    def write_u64(self, pa: PA, value: int) -> None:
        """Write eight aligned bytes with a single access; errors as for :meth:`read_u64`."""
        if self.listener is not None:
            self.listener(pa, 8, False)
        if self.failed:
            self._refuse_failed(pa)
        self._words[self._offset(pa, 8) >> 3] = value
        self.touched.add(pa & _PAGE)  # type: ignore[arg-type]  # NewType calls cost time

    def read(self, pa: PA, size: int) -> bytes:
        """Read ``size`` bytes."""
        if self.listener is not None:
            self.listener(pa, size, True)
        offset = self._offset(pa, size)
        return bytes(self._bytes[offset : offset + size])

    def write(self, pa: PA, data: bytes | bytearray | memoryview) -> None:
        """Write bytes."""
        if self.listener is not None:
            self.listener(pa, len(data), False)
        offset = self._offset(pa, len(data))
        self._bytes[offset : offset + len(data)] = data
        self.wrote(pa, len(data))

    def fill(self, pa: PA, size: int, byte: int = 0) -> None:
        """Set ``size`` bytes to one value."""
        if self.listener is not None:
            self.listener(pa, size, False)
        offset = self._offset(pa, size)
        self._bytes[offset : offset + size] = bytes([byte]) * size
        self.wrote(pa, size)

    def clear(self) -> None:
        """Set all of RAM to zero, and give the host back the pages behind it."""
        self._buffer.madvise(mmap.MADV_REMOVE)
        self.touched.update(map(PA, self._image.pages))

    def view(self, pa: PA, size: int) -> memoryview:
        """Return a window on memory itself, without a copy, to be read."""
        return self.writable_view(pa, size).toreadonly()

    def writable_view(self, pa: PA, size: int) -> memoryview:
        """Return a window that can be written through; report that to :meth:`wrote`."""
        if self.listener is not None:
            self.listener(pa, size, True)
        offset = self._offset(pa, size)
        return self._bytes[offset : offset + size]

    def wrote(self, pa: PA, size: int) -> None:
        """Note that ``size`` bytes have been written."""
        if (pa & PAGE_MASK) + size <= PAGE_SIZE:
            if size:
                self.touched.add(PA(pa & _PAGE))
        else:
            self.touched.update(map(PA, range(pa & _PAGE, pa + size, PAGE_SIZE)))

    # Images

    def take_image(self) -> MemoryImage:
        """Return what memory holds, for :meth:`load_image`. Pages are shared with earlier images.

        From now on :attr:`touched` counts anew: no PE may go on with a right to write that it
        was given before.
        """
        image = self._image.changed(self._page(pa) for pa in self.touched)
        self._image = image
        self.touched.clear()
        return image

    def load_image(self, image: MemoryImage, watched: set[PA]) -> list[PA]:
        """Make memory what it was; only pages that may differ are written.

        As :meth:`take_image`, it has :attr:`touched` count anew.

        Returns
        -------
        list[PA]
            The pages of ``watched`` that have changed by it.
        """
        changed: list[PA] = []
        base, buffer = self.base, self._buffer
        for pa in self._maybe_different(image):
            page, at = image.page(pa), pa - base
            if pa in watched and buffer[at : at + PAGE_SIZE] != page:
                changed.append(pa)
            buffer[at : at + PAGE_SIZE] = page
        self._image = image
        self.touched.clear()
        return changed

    def first_difference(self, image: MemoryImage) -> PA | None:
        """Return the lowest page that is not what it was."""
        base, buffer = self.base, self._buffer
        for pa in sorted(self._maybe_different(image)):
            at = pa - base
            if buffer[at : at + PAGE_SIZE] != image.page(pa):
                return pa
        return None

    def contents(self) -> MemoryImage:
        """Return what memory holds, and leave :attr:`touched` as it is."""
        return self._image.changed(self._page(pa) for pa in self.touched)

    def _maybe_different(self, image: MemoryImage) -> set[PA]:
        if image is self._image:
            return self.touched
        return self.touched | self._image.differences(image)

    def _page(self, pa: PA) -> tuple[PA, bytes]:
        at = pa - self.base
        return pa, self._buffer[at : at + PAGE_SIZE]

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
