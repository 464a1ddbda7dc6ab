"""What is behind a block device: a run of bytes, and copies of the sectors that were written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTOR: Final = 512
"""The unit in which a block device counts, in bytes, whatever its block size."""


class Image(Protocol):
    """The contents of a disk. An ``OSError`` from any method becomes an I/O error of the guest."""

    @property
    def size(self) -> int:
        """The size in bytes, a multiple of :data:`SECTOR`."""

    @property
    def read_only(self) -> bool:
        """Whether ``write`` is never called."""

    def read(self, offset: int, size: int) -> bytes:
        """Return whole sectors within the image."""

    def write(self, offset: int, data: bytes) -> None:
        """Write whole sectors within the image."""

    def flush(self) -> None:
        """Have what was written outlive this process."""


class MemoryImage:
    """An image in memory.

    Parameters
    ----------
    contents
        What it holds at first.
    read_only
        Whether the guest may only read it.
    """

    def __init__(self, contents: bytes, *, read_only: bool = False) -> None:
        self.contents = bytearray(contents)
        self.read_only = read_only

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.contents)

    def read(self, offset: int, size: int) -> bytes:
        """Return whole sectors."""
        return bytes(self.contents[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Write whole sectors."""
        self.contents[offset : offset + len(data)] = data

    def flush(self) -> None:
        """Do nothing: it goes with the process."""


class Overlay:
    """An image that keeps what is written to it to itself (copy on write).

    Parameters
    ----------
    base
        What is read where nothing was written; it is never written.
    sectors
        What was written already, by number of the sector.
    """

    read_only = False

    def __init__(self, base: Image, sectors: Mapping[int, bytes] | None = None) -> None:
        self._base = base
        self._sectors = dict(sectors or {})

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._base.size

    @property
    def written(self) -> int:
        """How many sectors differ from the base, or did at some time."""
        return len(self._sectors)

    def digest(self) -> str:
        """Return the SHA-256 of what was written, and where, in hexadecimal."""
        made = hashlib.sha256()
        for number, data in sorted(self._sectors.items()):
            made.update(number.to_bytes(8, "little") + data)
        return made.hexdigest()

    def read(self, offset: int, size: int) -> bytes:
        """Return whole sectors."""
        first, count = offset // SECTOR, size // SECTOR
        own = [sector for sector in range(first, first + count) if sector in self._sectors]
        if len(own) == count:
            return b"".join(self._sectors[sector] for sector in own)
        data = bytearray(self._base.read(offset, size))
        for sector in own:
            at = sector * SECTOR - offset
            data[at : at + SECTOR] = self._sectors[sector]
        return bytes(data)

    def write(self, offset: int, data: bytes) -> None:
        """Keep whole sectors."""
        for at in range(0, len(data), SECTOR):
            self._sectors[(offset + at) // SECTOR] = data[at : at + SECTOR]

    def flush(self) -> None:
        """Do nothing: it goes with the process."""


class Recorder:
    """An image that passes writes on and remembers what was there, so that a run can be repeated.

    Parameters
    ----------
    base
        What is read and written.
    """

    read_only = False

    def __init__(self, base: Image) -> None:
        self._base = base
        self._before: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._base.size

    def read(self, offset: int, size: int) -> bytes:
        """Return whole sectors."""
        return self._base.read(offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Write whole sectors."""
        first = offset // SECTOR
        for sector in range(first, first + len(data) // SECTOR):
            if sector not in self._before:
                self._before[sector] = self._base.read(sector * SECTOR, SECTOR)
        self._base.write(offset, data)

    def flush(self) -> None:
        """Have what was written outlive this process."""
        self._base.flush()

    def before(self) -> Overlay:
        """Return the image as it was at first; what is written to it is its own."""
        return Overlay(self._base, self._before)
