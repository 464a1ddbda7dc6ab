"""A copy of an address space, made without copying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PA

if TYPE_CHECKING:
    from hyp.host.space import AddressSpace


class Fork:
    """The private pages that a process had when it was forked.

    Parameters
    ----------
    parent
        The process.
    pages
        Frame and log2 of its size, by address. Each frame counts this copy as an owner.
    swapped
        Pages of 4 KiB that were in swap space, by address.
    """

    __slots__ = ("_pages", "_parent", "_swapped")

    def __init__(
        self,
        parent: AddressSpace,
        pages: dict[int, tuple[PA, int]],
        swapped: dict[int, bytes],
    ) -> None:
        self._parent = parent
        self._pages = pages
        self._swapped = swapped

    def read(self, hva: int, size: int) -> bytes:
        """Read private memory as it was; what was not touched then reads as zeros."""
        data = bytearray()
        while len(data) < size:
            at = hva + len(data)
            frame, shift = self._page_of(at)
            offset = at & (1 << shift) - 1
            length = min(size - len(data), (1 << shift) - offset)
            if frame is None:
                page = self._swapped.get(at - offset, bytes(1 << shift))
                data += page[offset : offset + length]
            else:
                data += self._parent.memory.read(PA(frame + offset), length)
        return bytes(data)

    def _page_of(self, hva: int) -> tuple[PA | None, int]:
        for shift in (12, 21, 30):
            page = self._pages.get(hva & -(1 << shift))
            if page is not None and page[1] == shift:
                return page
        return None, 12

    def close(self) -> None:
        """Give the copy up: frames that only it has are freed."""
        for frame, shift in self._pages.values():
            self._parent.shared.put(frame, 1 << shift)
        self._pages, self._swapped = {}, {}
