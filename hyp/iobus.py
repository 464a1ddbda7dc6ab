"""The io bus: guest physical ranges that devices in process serve."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from hyp.errors import Errno, KvmError

if TYPE_CHECKING:
    from emu.arch.address import IPA
    from hyp.devices.device import Device


class _Range(NamedTuple):
    base: int
    end: int
    device: Device


class IoBus:
    """Finds the device for an access."""

    __slots__ = ("_bases", "_ranges")

    def __init__(self) -> None:
        self._ranges: list[_Range] = []
        """By base."""
        self._bases: list[int] = []

    def register(self, base: IPA, size: int, device: Device) -> None:
        """Give a range to a device.

        Raises
        ------
        KvmError
            EINVAL for an empty range, EEXIST if another device has part of it.
        """
        if size <= 0:
            raise KvmError(Errno.EINVAL, f"a device needs a positive size, not {size}")
        for known in self._ranges:
            if base < known.end and known.base < base + size:
                raise KvmError(
                    Errno.EEXIST,
                    f"{base:#x} to {base + size - 1:#x} overlaps the device at "
                    f"{known.base:#x} to {known.end - 1:#x}; choose another base",
                )
        at = bisect_right(self._bases, base)
        self._bases.insert(at, base)
        self._ranges.insert(at, _Range(base, base + size, device))

    def read(self, addr: IPA, length: int) -> int | None:
        """Return what a device answers, cut to ``length`` bytes; ``None`` if there is no device."""
        found = self._find(addr, length)
        if found is None:
            return None
        return found.device.read(addr - found.base, length) & (1 << 8 * length) - 1

    def write(self, addr: IPA, length: int, value: int) -> bool:
        """Give a store to a device; return whether there is one."""
        found = self._find(addr, length)
        if found is None:
            return False
        found.device.write(addr - found.base, length, value)
        return True

    def _find(self, addr: int, length: int) -> _Range | None:
        """Return the range that contains the whole access."""
        index = bisect_right(self._bases, addr) - 1
        if index < 0:
            return None
        found = self._ranges[index]
        return found if addr + length <= found.end else None
