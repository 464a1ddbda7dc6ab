"""The cache of pages that a fault handler may turn into tables.

Tables are allocated where allocation may fail or sleep: before the MMU lock is
taken. The cache is topped up to hold what the deepest mapping can need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.errors import Errno

if TYPE_CHECKING:
    from emu.arch.address import PA
    from hyp.frames import FrameAllocator

CAPACITY: Final = 40
"""KVM_ARCH_NR_OBJS_PER_MEMORY_CACHE: a top-up fills the cache to here."""


class MemoryCache:
    """``struct kvm_mmu_memory_cache``: zeroed pages in reserve."""

    __slots__ = ("_frames", "_pages")

    def __init__(self, frames: FrameAllocator) -> None:
        self._frames = frames
        self._pages: list[PA] = []

    def __len__(self) -> int:
        return len(self._pages)

    def topup(self, minimum: int, capacity: int = CAPACITY) -> Errno:
        """Fill the cache up to ``capacity`` if it holds fewer than ``minimum`` pages.

        Returns
        -------
        Errno
            ENOMEM if not even ``minimum`` pages could be had.
        """
        pages = self._pages
        if len(pages) >= minimum:
            return Errno.OK
        while len(pages) < capacity:
            page = self._frames.allocate()
            if page is None:
                return Errno.OK if len(pages) >= minimum else Errno.ENOMEM
            pages.append(page)
        return Errno.OK

    def take(self) -> PA | None:
        """Take a page; ``None`` when the cache is empty."""
        return self._pages.pop() if self._pages else None

    def free(self) -> None:
        """Give all pages back."""
        while self._pages:
            self._frames.free(self._pages.pop())
