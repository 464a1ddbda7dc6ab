"""Isolation: whether every access of a VM stays in the memory of its slots.

Guest code reaches memory only through translations that a walk has put into a TLB. So each of
those is looked at when it is made: its page must be one that backs a slot of the VM, by the
host's own tables at that moment. The same holds for the walks' accesses to stage-1 descriptors.
A page that belongs to a stage-2 table, to another VM, or to nobody, is outside.

An entry that changes by itself passes no walk. All entries are looked at when one does: it counts
from then on, whether the guest uses it or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from emu.arch.address import PA, PAGE_MASK, VA
from emu.mmu.fault import Fault
from emu.mmu.permissions import EL1, rights
from emu.mmu.stage1 import ADDRESS_BITS
from lab.campaign.frames import frame_at, frames_of_slots
from lab.sizes import format_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from emu.cpu.pe import ProcessingElement
    from emu.mmu.tlb import TlbEntry
    from hyp.vm import VM


_Listeners = tuple[
    "Callable[[VA, TlbEntry], None] | None",
    "Callable[[PA], None] | None",
    "Callable[[], None] | None",
]
"""Who listened to a TLB before."""


class Escape(NamedTuple):
    """A page outside of the slots that an access of the VM reaches."""

    pa: int
    """Of the page."""
    whose: str
    """Whom it belongs to."""
    how: str
    """What reaches it."""
    retired: int
    """Instructions that all vCPUs had retired."""

    def __str__(self) -> str:
        return f"{self.how} reaches PA {format_address(self.pa)}, {self.whose}"


class EscapeWatch:
    """Watches the TLBs of a machine, on which only this VM runs.

    Use it as a context manager around a run.

    Parameters
    ----------
    vm : VM
        The VM.

    Attributes
    ----------
    found : list[Escape]
        The escapes so far, each page once.
    """

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self._frames: dict[int, int] = {}
        """Frames that were inside, and the IPA for which."""
        self._pages: set[int] = set()
        self.found: list[Escape] = []
        self._before: list[_Listeners] = []

    def __enter__(self) -> Self:
        pes = self._vm.machine.pes
        self._before = [(pe.mmu.on_fill, pe.mmu.on_table, pe.mmu.on_change) for pe in pes]
        for pe, (fill, _, _) in zip(pes, self._before, strict=True):
            pe.mmu.on_fill = self._filled(pe, fill)
            pe.mmu.on_table = self._table
            pe.mmu.on_change = self.look_at_tlbs
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pe, before in zip(self._vm.machine.pes, self._before, strict=True):
            pe.mmu.on_fill, pe.mmu.on_table, pe.mmu.on_change = before

    def clear(self) -> None:
        """Forget what was found: another run begins, perhaps from an earlier state."""
        self._frames = {}
        self._pages = set()
        self.found = []

    def look_at_tlbs(self) -> None:
        """Look at all entries that the TLBs hold, used or not; one without any right is none."""
        for pe in self._vm.machine.pes:
            for _, _, va, entry in pe.mmu.tlb.combined_entries():
                if any(entry.allowed):
                    self._check(entry.page, va, entry)

    def _filled(
        self, pe: ProcessingElement, also: Callable[[VA, TlbEntry], None] | None
    ) -> Callable[[VA, TlbEntry], None]:
        def filled(va: VA, entry: TlbEntry) -> None:
            if also is not None:
                also(va, entry)
            if entry.page not in self._frames:
                self._expect(pe, va)
            self._check(entry.page, va, entry)

        return filled

    def _expect(self, pe: ProcessingElement, va: VA) -> None:
        """Note the frame that a VA should lead to, which saves looking for it among all."""
        mapping = pe.mmu.stage1(va, EL1)
        if not isinstance(mapping, Fault):
            ipa = va + mapping.offset & ADDRESS_BITS
            frame = frame_at(self._vm, ipa)
            if frame is not None:
                self._frames[frame] = ipa

    def _check(self, page: PA, va: VA, entry: TlbEntry) -> None:
        if page not in self._pages and not self.is_inside(page):
            el0, el1, _ = entry.allowed
            what = f"VA {format_address(va & ~PAGE_MASK)} (EL0 {rights(el0)}, EL1 {rights(el1)})"
            self._note(page, what)

    def _table(self, pa: PA) -> None:
        page = PA(pa & ~PAGE_MASK)
        if page not in self._pages and not self.is_inside(page):
            self._note(page, "a walk of stage 1")

    def is_inside(self, page: PA) -> bool:
        """Whether a page backs a slot now."""
        ipa = self._frames.get(page)
        if ipa is not None and frame_at(self._vm, ipa) == page:
            return True
        self._frames = frames_of_slots(self._vm)
        return page in self._frames

    def _note(self, page: PA, how: str) -> None:
        self._pages.add(page)
        self.found.append(Escape(page, self._whose(page), how, self._retired))

    @property
    def _retired(self) -> int:
        pes: list[ProcessingElement] = self._vm.machine.pes
        return sum(pe.retired for pe in pes)

    def _whose(self, page: PA) -> str:
        if page in self._vm.pgt.pages.counts:
            return "which is a stage-2 table"
        return "which is in no slot of the VM"
