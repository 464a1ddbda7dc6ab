"""The instruction cache of one PE, as far as it does not hold what memory does.

The engine fetches from memory. Once a line is corrupted, the page around it is executed from a
copy, while data accesses see memory; and once :attr:`InstructionCache.is_cache` is set, all pages
are. A line of a copy stays as it is until an IC operation names it.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

from emu.arch.address import PA, PAGE_SIZE

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.memory import PhysicalMemory

_WORD: Final = 4
_CHUNK: Final = 64
"""Pages for copies that are made at once."""


class InstructionCache:
    """The copies that one PE executes.

    Parameters
    ----------
    pe
        The PE.
    memory
        What lines hold when they are filled.
    line_size
        Bytes of a line (CTR_EL0.IminLine).

    Attributes
    ----------
    copies
        The physical pages that are executed from a copy, and where the engine finds it.
    is_cache
        Whether a page is copied when it is first executed, so that stores to it are not seen
        by fetches.
    wrong
        The lines that were corrupted.
    once
        A word that is wrong for one execution only: PA, VA, and what is executed.
    """

    def __init__(self, pe: ProcessingElement, memory: PhysicalMemory, line_size: int) -> None:
        self._pe = pe
        self._memory = memory
        self._line_size = line_size
        self.copies: dict[PA, PA] = {}
        self.is_cache = False
        self.wrong: set[PA] = set()
        self.once: tuple[PA, int, int] | None = None
        self._right = b""
        self._tried = False
        self._views: dict[PA, memoryview] = {}
        self._free: list[PA] = []

    def view(self, page: PA) -> memoryview:
        """Return what is executed of a physical page."""
        copy = self.copies.get(page)
        return self._memory.view(page, PAGE_SIZE) if copy is None else self._views[copy]

    def fill(self, page: PA) -> None:
        """Take note that a physical page is about to be executed."""
        if self.is_cache:
            self._copy_of(page)

    def use_as_cache(self) -> None:
        """Have fetches not see stores from now on. What was executed before is held."""
        if not self.is_cache:
            self.is_cache = True
            for page in sorted(set(self._pe.code.scanned.values())):
                self._copy_of(page)
            self._pe.changed_code.look_again(None, everywhere=True)

    def follow_memory(self) -> None:
        """Forget all lines, and have fetches see stores again."""
        self.is_cache = False
        self.once = None
        if self.copies:
            self._pe.changed_code.invalidate(None)

    def corrupt(self, pa: PA, word: int) -> None:
        """Have the line of ``pa`` hold another word there, until it is invalidated."""
        self._write(pa, word.to_bytes(_WORD, "little"))
        self.wrong.add(PA(pa & -self._line_size))

    # One execution

    def corrupt_once(self, pa: PA, va: int, word: int) -> None:
        """Have another word executed at ``va`` once, whatever is invalidated meanwhile."""
        self.heal_once()
        self.once, self._tried = (pa, va, word), False
        self._right = bytes(self.view(_page(pa))[pa - _page(pa) :][:_WORD])
        self._write(pa, word.to_bytes(_WORD, "little"))
        self._pe.debug.single = True
        self._pe.leave_engine()

    def heal_once(self) -> None:
        """Have the right word executed again."""
        if self.once is not None:
            pa, self.once = self.once[0], None
            self._write(pa, self._right)
            self._give_back(_page(pa))

    def before_step(self, va: int) -> None:
        """Take note of the instruction that is executed next.

        If EL2 has come back to another than the wrong one, that is done with.
        """
        if self.once is not None and self._tried and va != self.once[1]:
            self.heal_once()

    def after_step(self, va: int, *, over: bool) -> None:
        """Take note of an instruction that was tried, and whether it was completed or refused."""
        if self.once is not None and va == self.once[1]:
            self._tried = True
            if over:
                self.heal_once()

    # Lines

    def invalidate(self, pa: PA | None, size: int) -> None:
        """Fill lines again, from memory: those of some bytes of a page, or all."""
        if pa is None:
            self.wrong.clear()
            for page in list(self.copies):
                self._fill(page, 0, PAGE_SIZE)
            return
        page = _page(pa)
        first, end = (pa - page) & -self._line_size, -(-(pa + size - page) // self._line_size)
        end *= self._line_size
        self.wrong -= {PA(page + offset) for offset in range(first, end, self._line_size)}
        if page in self.copies:
            self._fill(page, first, end)

    def _fill(self, page: PA, first: int, end: int) -> None:
        view = self._views[self.copies[page]]
        view[first:end] = self._memory.view(page, PAGE_SIZE)[first:end]
        if self.once is not None and first <= self.once[0] - page < end:
            offset = self.once[0] - page
            self._right = bytes(view[offset : offset + _WORD])
            view[offset : offset + _WORD] = self.once[2].to_bytes(_WORD, "little")
        self._give_back(page)

    def _write(self, pa: PA, word: bytes) -> None:
        page = _page(pa)
        view = self._views[self._copy_of(page)]
        view[pa - page : pa - page + _WORD] = word
        self._pe.changed_code.look_again(page, everywhere=True)

    def _copy_of(self, page: PA) -> PA:
        copy = self.copies.get(page)
        if copy is None:
            if not self._free:
                self._add_pages()
            copy = self.copies[page] = self._free.pop()
            self._views[copy][:] = self._memory.view(page, PAGE_SIZE)
        return copy

    def _give_back(self, page: PA) -> None:
        """Have a page executed from memory again, if nothing in its copy is wrong."""
        needed = self.is_cache or any(_page(line) == page for line in self.wrong)
        if not needed and (self.once is None or _page(self.once[0]) != page):
            self._free.append(self.copies.pop(page))

    def _add_pages(self) -> None:
        buffer = mmap.mmap(-1, _CHUNK * PAGE_SIZE)
        first, view = self._pe.engine.add_memory(buffer, len(buffer)), memoryview(buffer)
        for offset in range(0, len(buffer), PAGE_SIZE):
            self._views[PA(first + offset)] = view[offset : offset + PAGE_SIZE]
            self._free.append(PA(first + offset))


def _page(pa: int) -> PA:
    return PA(pa & -PAGE_SIZE)
