"""Instruction cache lines of one PE that do not hold what memory does.

The engine fetches from memory, and there are no such lines until somebody corrupts one. The page
around it is then executed from a copy, while data accesses see memory, and the line stays until an
IC operation names it.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from emu.arch.address import PA, PAGE_SIZE

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.memory import PhysicalMemory

_WORD = 4


class InstructionCache:
    """The wrong lines of one PE.

    Parameters
    ----------
    memory
        What all other lines hold.
    line_size
        Bytes of a line (CTR_EL0.IminLine).

    Attributes
    ----------
    lines
        What each wrong line holds, by PA.
    once
        A word that is wrong for one execution only: PA and VA, and what is executed.
    copies
        The pages that are executed from a copy, and where the engine finds it.
    """

    def __init__(self, memory: PhysicalMemory, line_size: int) -> None:
        self._memory = memory
        self._line_size = line_size
        self.lines: dict[PA, bytes] = {}
        self.once: tuple[PA, int, int] | None = None
        self._tried = False
        self.copies: dict[PA, PA] = {}
        self._pages: dict[PA, memoryview] = {}
        self._free: list[PA] = []

    def view(self, page: PA) -> memoryview:
        """Return what is executed of a physical page."""
        copy = self.copies.get(page)
        return self._memory.view(page, PAGE_SIZE) if copy is None else self._pages[copy]

    def corrupt(self, pe: ProcessingElement, pa: PA, word: int) -> None:
        """Have the line of ``pa`` hold another word there, until it is invalidated."""
        start = PA(pa & -self._line_size)
        line = bytearray(self.lines.get(start) or self._memory.read(start, self._line_size))
        line[pa - start : pa - start + _WORD] = word.to_bytes(_WORD, "little")
        self.lines[start] = bytes(line)
        self._refresh(pe, PA(pa & -PAGE_SIZE))

    def corrupt_once(self, pe: ProcessingElement, pa: PA, va: int, word: int) -> None:
        """Have another word executed at ``va`` once, whatever is invalidated meanwhile."""
        self.heal_once(pe)
        self.once, self._tried = (pa, va, word), False
        pe.debug.single = True
        self._refresh(pe, PA(pa & -PAGE_SIZE))

    def heal_once(self, pe: ProcessingElement) -> None:
        """Have memory's word executed again."""
        if self.once is not None:
            page = PA(self.once[0] & -PAGE_SIZE)
            self.once = None
            self._refresh(pe, page)

    def before_step(self, pe: ProcessingElement, va: int) -> None:
        """Take note of the instruction that is executed next.

        If EL2 has come back to another than the wrong one, that is done with.
        """
        if self.once is not None and self._tried and va != self.once[1]:
            self.heal_once(pe)

    def after_step(self, pe: ProcessingElement, va: int, *, over: bool) -> None:
        """Take note of an instruction that was tried, and whether it was completed or refused."""
        if self.once is not None and va == self.once[1]:
            self._tried = True
            if over:
                self.heal_once(pe)

    def invalidate(self, pe: ProcessingElement, pa: PA | None, size: int) -> None:
        """Forget the lines of some bytes, or all of them."""
        first, end = (0, 1 << 64) if pa is None else (pa & -self._line_size, pa + size)
        gone = [line for line in self.lines if first <= line < end]
        for line in gone:
            del self.lines[line]
        for page in [page for page in self.copies if pa is None or first < page + PAGE_SIZE]:
            self._refresh(pe, page)

    def _refresh(self, pe: ProcessingElement, page: PA) -> None:
        """Make the copy of a page anew, or have the engine execute memory again."""
        wrong = {pa: line for pa, line in self.lines.items() if pa & -PAGE_SIZE == page}
        if self.once is not None and self.once[0] & -PAGE_SIZE == page:
            wrong[self.once[0]] = self.once[2].to_bytes(_WORD, "little")
        pe.changed_code.look_again(page, everywhere=True)
        copy = self.copies.get(page)
        if not wrong:
            if copy is not None:
                self._free.append(self.copies.pop(page))
            return
        if copy is None:
            copy = self.copies[page] = self._free.pop() if self._free else self._new_page(pe)
        view = self._pages[copy]
        view[:] = self._memory.view(page, PAGE_SIZE)
        for pa, content in wrong.items():
            view[pa - page : pa - page + len(content)] = content

    def _new_page(self, pe: ProcessingElement) -> PA:
        page = mmap.mmap(-1, PAGE_SIZE)
        pa = pe.engine.add_page(page)
        self._pages[pa] = memoryview(page)
        return pa
