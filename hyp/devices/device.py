"""What a device in process looks like to the io bus."""

from __future__ import annotations

from typing import Protocol


class Device(Protocol):
    """A device on the io bus. Offsets count from the start of its range."""

    def read(self, offset: int, length: int) -> int:
        """Return what a load of ``length`` bytes at ``offset`` gives."""

    def write(self, offset: int, length: int, value: int) -> None:
        """Take a store of ``length`` bytes at ``offset``."""
