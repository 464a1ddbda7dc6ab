"""Stage-2 page tables by themselves: large ranges of pages, and one page as a fault maps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.rows import Row, Unit
from bench.timing import best_of, clock
from emu.arch.address import IPA, PA, PAGE_SIZE
from emu.arch.profiles import profile
from emu.machine import Machine
from hyp.memcache import MemoryCache
from hyp.pte import Prot
from hyp.vm import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.timing import Scale
    from hyp.errors import Errno

RANGE_PAGES: Final = 1 << 20
"""4 GiB of 4 KiB pages."""
SINGLE_PAGES: Final = 4096
RANGE_LIMIT: Final = 1.0

_BASE: Final = IPA(1 << 32)
_OUTPUT: Final = PA(1 << 36)
_BLOCK: Final = 512 * PAGE_SIZE
_TABLE_MEMORY: Final = 16 << 20
_RW: Final = Prot.R | Prot.W


class Tables:
    """A VM's page tables on a CPU with every extension.

    Parameters
    ----------
    pages
        How many pages the calls are about.
    """

    def __init__(self, pages: int) -> None:
        vm = VM(Machine(_TABLE_MEMORY, features=profile("max")))
        self.pgt = vm.pgt
        self.size = pages * PAGE_SIZE
        self.cache = MemoryCache(vm.host.frames)

    def map(self) -> float:
        """Map the range page by page: where its memory lies, no block can be used."""
        return _timed(lambda: self._map(PA(_OUTPUT + PAGE_SIZE)))

    def map_blocks(self) -> None:
        """Map the range with blocks."""
        self._map(_OUTPUT)

    def _map(self, output: PA) -> None:
        for offset in range(0, self.size, _BLOCK):
            size = min(_BLOCK, self.size - offset)
            self.cache.topup(self.pgt.geometry.cache_min_pages)
            phys = PA(output + offset)
            _done(self.pgt.map(IPA(_BASE + offset), size, phys, _RW, self.cache, 0))

    def map_one_by_one(self) -> float:
        """Map each page as a fault handler does."""
        pgt, cache, minimum = self.pgt, self.cache, self.pgt.geometry.cache_min_pages

        def carry_out() -> None:
            for offset in range(0, self.size, PAGE_SIZE):
                cache.topup(minimum)
                pgt.map(IPA(_BASE + offset), PAGE_SIZE, PA(_OUTPUT + offset), _RW, cache)

        return _timed(carry_out)

    def wrprotect(self) -> float:
        """Take the right to write."""
        return _timed(lambda: _done(self.pgt.wrprotect(_BASE, self.size)))

    def unmap(self) -> float:
        """Unmap the range."""
        return _timed(lambda: _done(self.pgt.unmap(_BASE, self.size)))

    def split(self) -> float:
        """Split blocks to pages, a table each."""

        def carry_out() -> None:
            for offset in range(0, self.size, _BLOCK):
                self.cache.topup(1)
                _done(self.pgt.split(IPA(_BASE + offset), _BLOCK, self.cache))

        self.map_blocks()
        seconds = _timed(carry_out)
        self.unmap()
        return seconds


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    tables = Tables(scale.of(RANGE_PAGES))
    single = Tables(scale.of(SINGLE_PAGES))

    def one_by_one() -> float:
        seconds = single.map_one_by_one()
        single.unmap()
        return seconds

    *ranges, one = best_of(
        scale.rounds, tables.map, tables.wrprotect, tables.unmap, tables.split, one_by_one
    )
    size = f"{tables.size >> 20:,} MiB"
    names = ("map", "write-protect", "unmap", "split")
    return [
        *(
            Row(f"{name} {size} of pages", seconds, Unit.SECONDS, limit=RANGE_LIMIT)
            for name, seconds in zip(names, ranges, strict=True)
        ),
        Row(
            "map a page, shared walk",
            one / (single.size // PAGE_SIZE) * 1e6,
            Unit.MICROSECONDS,
        ),
    ]


def _timed(work: Callable[[], None]) -> float:
    started = clock()
    work()
    return clock() - started


def _done(error: Errno) -> None:
    if error:
        raise RuntimeError(f"a call on the page tables should have succeeded: {error!r}")
