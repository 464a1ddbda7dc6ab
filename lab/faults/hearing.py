"""Listening to what a VM reports, and to its TLBs, only while somebody waits for something."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lab import tlbtrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.cpu.pe import ProcessingElement
    from hyp.events import Event
    from hyp.vm import VM


class Hearing:
    """Listens to one VM.

    Parameters
    ----------
    vm : VM
        The VM.
    reported : Callable[[Event], None]
        Told of the events of the hypervisor.
    tlb_changed : Callable[[ProcessingElement, Event], None]
        Told of those of the TLBs, and of whose TLB it is.
    """

    def __init__(
        self,
        vm: VM,
        reported: Callable[[Event], None],
        tlb_changed: Callable[[ProcessingElement, Event], None],
    ) -> None:
        self._vm, self._reported, self._tlb_changed = vm, reported, tlb_changed
        self._ends: list[Callable[[], None]] = []

    def listen(self, *, events: bool, of_tlb: bool) -> None:
        """Listen to the events of the hypervisor, or to those of the TLBs, and to nothing else."""
        self.stop()
        vm = self._vm
        if events:
            for stream in (vm.events, vm.mmu_events, vm.pgt.cmo.events):
                stream.subscribe(self._reported)
                self._ends.append(partial(stream.unsubscribe, self._reported))
        if of_tlb:
            for pe in vm.machine.pes:
                self._ends.append(tlbtrace.listen(pe, partial(self._tlb_changed, pe)))

    def stop(self) -> None:
        """Listen no longer."""
        ends, self._ends = self._ends, []
        for end in reversed(ends):
            end()
