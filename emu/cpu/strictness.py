"""When all loads and stores are watched: while unaligned ones may fault, or they are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement


class Strictness:
    """The reasons of one PE to watch all loads and stores.

    Attributes
    ----------
    restart
        Whether the engine must be left and entered again, for a change, before anything else
        executes. What it was about to do is done again.
    """

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self._device_memory = False
        self._misaligned_stack = False
        self.restart = False

    def device_memory_used(self) -> None:
        """Note that a page of RAM is used as Device memory: unaligned accesses to it fault."""
        self._device_memory = True
        self.choose()

    def stack_misaligned(self) -> None:
        """Note that SP is no multiple of 16: accesses by it may fault from now on."""
        self._misaligned_stack = True
        self.choose()

    def choose(self) -> None:
        """Have all loads and stores watched while there is a reason."""
        pe = self._pe
        sticky = self._device_memory or self._misaligned_stack
        strict = sticky or pe.mmu.regime.stage1.is_strict or pe.pmu.counts_accesses
        if strict is pe.code.strict:
            self._count_accesses()
            return
        if pe.execution.running:
            self.restart = True
            return
        self.restart = False
        pe.code.changed(None)
        pe.code.strict = strict
        pe.engine.watch_everything(strict)
        self._count_accesses()
        pe.engine.flush_tlb()

    def _count_accesses(self) -> None:
        """If they are counted, have a look at what is behind them, too."""
        if self._pe.pmu.counts_accesses:
            self._pe.engine.accesses.mark_all()
