"""Pages that hold stage-2 tables, and the references on them.

A table page has one reference for itself and one for each entry that is not
zero. It goes back to the allocator with the last.

Where a corrupted entry leads the hypervisor into a page that is no table, the references
taken and dropped there are none of ours: the page has an owner, who keeps it. The kernel
counts them, too, and will not free a page that is mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PA, PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from hyp.frames import FrameAllocator
    from hyp.memcache import MemoryCache
    from hyp.stats import Stats


class TablePages:
    """``struct kvm_pgtable_mm_ops``, the part about pages.

    Parameters
    ----------
    frames
        Where pages go back to.
    stats
        Counts the table pages in use.
    """

    __slots__ = ("_frames", "_stats", "counts")

    def __init__(self, frames: FrameAllocator, stats: Stats) -> None:
        self._frames = frames
        self._stats = stats
        self.counts: dict[int, int] = {}
        """References by the address of the table page."""

    def zalloc_page(self, memcache: MemoryCache) -> PA | None:
        """Take a zeroed page from the cache; ``None`` when it is empty."""
        page = memcache.take()
        if page is not None:
            self.counts[page] = 1
            self._stats.table_pages += 1
        return page

    def zalloc_pages_exact(self, size: int) -> PA:
        """Allocate the zeroed top-level tables, aligned to their size.

        Raises
        ------
        KvmError
            ENOMEM when physical memory has run out.
        """
        block = self._frames.require(size, "the top-level stage-2 tables")
        for page in range(block, block + size, PAGE_SIZE):
            self.counts[page] = 1
        self._stats.table_pages += size // PAGE_SIZE
        return block

    def free_pages_exact(self, block: PA, size: int) -> None:
        """Give the top-level tables back."""
        for page in range(block, block + size, PAGE_SIZE):
            del self.counts[page]
        self._stats.table_pages -= size // PAGE_SIZE
        self._frames.free(block, size)

    def get_page(self, address: int, references: int = 1) -> None:
        """Take references on the table page that ``address`` lies in."""
        page = address & ~PAGE_MASK
        if page in self.counts:
            self.counts[page] += references

    def put_page(self, address: int, references: int = 1) -> None:
        """Drop references on the table page that ``address`` lies in; free it with the last."""
        page = address & ~PAGE_MASK
        if page not in self.counts:
            return
        count = self.counts[page] - references
        if count:
            self.counts[page] = count
            return
        del self.counts[page]
        self._stats.table_pages -= 1
        self._frames.free(PA(page))

    def page_count(self, address: int) -> int:
        """Return the references on the table page that ``address`` lies in."""
        return self.counts[address & ~PAGE_MASK]
