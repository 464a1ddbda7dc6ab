"""Code that may have changed since the engine translated it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.address import PA, PAGE_SIZE, VA

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

FEW_PAGES: Final = 16
"""Of more pages than these, all translated code is forgotten, which is quicker."""


class ChangedCode:
    """The changed pages of one PE.

    Attributes
    ----------
    pages
        Those of which the engine still has translated code: VA to PA.
    everywhere
        Whether it may have translated them from elsewhere, too.
    """

    NOT_STATE: ClassVar = frozenset({"pages"})

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self.pages: dict[VA, PA] = {}
        self.everywhere = False

    def invalidate(self, pa: PA | None, size: int = 1) -> None:
        """Carry out IC on the lines of some bytes of a page, or on all."""
        icache = self._pe.icache
        lines = bool(icache.copies)
        if lines:
            icache.invalidate(pa, size)
        self.look_again(pa, everywhere=lines)

    def look_again(self, pa: PA | None, *, everywhere: bool = False) -> None:
        """Forget what is known of the code on the page of ``pa``, or of all code."""
        self.pages.update(self._pe.code.changed(pa))
        self.everywhere |= everywhere
        if self.pages:
            self._pe.engine.flush_tlb()
            if not self._pe.execution.running:
                self.forget()  # else as soon as the engine stops

    def forget(self) -> None:
        """Have the engine forget what it translated from changed pages."""
        engine = self._pe.engine
        if self.everywhere or len(self.pages) > FEW_PAGES:
            engine.forget_code()
            self.everywhere = False
        else:
            # The engine finds the code of a page by the memory behind it, for which it asks.
            for page in self.pages:
                engine.forget_code_at(page, VA(page + PAGE_SIZE))
            engine.flush_tlb()
        self.pages = {}
