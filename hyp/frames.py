"""The physical page allocator: who owns which frame of the machine's memory.

Blocks are powers of two of pages, aligned to their size. Memory that was never
handed out is known to be zero and is taken in ascending order; blocks that come
back are kept by size and zeroed when they are handed out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PA, PAGE_SIZE
from hyp.errors import Errno, KvmError

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory


class FrameAllocator:
    """Hands out zeroed, aligned blocks of physical memory.

    Parameters
    ----------
    memory
        The machine's physical memory. All of it belongs to the allocator.
    """

    __slots__ = ("_end", "_free", "_memory", "_next", "_used", "allocated")

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._next: PA = memory.base
        self._end = memory.base + memory.size
        self._free: dict[int, list[PA]] = {}
        self._used: dict[int, list[PA]] = {}
        self.allocated = 0
        """Bytes in the hands of owners."""

    def allocate(self, size: int = PAGE_SIZE) -> PA | None:
        """Return a zeroed block of ``size`` bytes, aligned to its size.

        Parameters
        ----------
        size
            A power of two, at least one page.

        Returns
        -------
        PA or None
            ``None`` when no block of this size is left.
        """
        block = self._take(size)
        if block is not None:
            self.allocated += size
        return block

    def free(self, block: PA, size: int = PAGE_SIZE) -> None:
        """Take back a block as it was handed out."""
        self.allocated -= size
        self._used.setdefault(size, []).append(block)

    def require(self, size: int, purpose: str) -> PA:
        """Return a zeroed block, or raise.

        Raises
        ------
        KvmError
            ENOMEM when no block of this size is left.
        """
        block = self.allocate(size)
        if block is None:
            raise KvmError(
                Errno.ENOMEM,
                f"no {size:#x} bytes of physical memory left for {purpose} "
                f"({self.allocated:#x} of {self._memory.size:#x} in use); "
                "give the machine more memory",
            )
        return block

    def _take(self, size: int) -> PA | None:
        used = self._used.get(size)
        if used:
            block = used.pop()
            self._memory.fill(block, size)
            return block
        fresh = self._free.get(size)
        if fresh:
            return fresh.pop()
        if -self._next % size == 0 and self._next + size <= self._end:
            block = self._next
            self._next = PA(block + size)
            return block
        return self._take_beyond_gap(size) or self._split_larger(size)

    def _take_beyond_gap(self, size: int) -> PA | None:
        """Skip to the next aligned address; what is skipped stays usable in smaller blocks."""
        block = PA(self._next + -self._next % size)
        if block + size > self._end:
            return None
        while self._next < block:
            piece = self._next & -self._next
            self._free.setdefault(piece, []).append(self._next)
            self._next = PA(self._next + piece)
        self._next = PA(block + size)
        return block

    def _split_larger(self, size: int) -> PA | None:
        larger = [s for pool in (self._free, self._used) for s, blocks in pool.items() if blocks]
        larger = [s for s in larger if s > size]
        if not larger:
            return None
        whole = min(larger)
        pool = self._free if self._free.get(whole) else self._used
        block = pool[whole].pop()
        while whole > size:
            whole //= 2
            pool.setdefault(whole, []).append(PA(block + whole))
        if pool is self._used:
            self._memory.fill(block, size)
        return block
