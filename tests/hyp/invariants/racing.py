"""The VMM process's memory: watched, spoilt where it is given back, changed once it is looked up.

A frame that nobody owns holds rubbish: whoever still uses one finds out. Something may
happen between the look-up of a page and its use, as it does on another CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import PA, PAGE_SIZE
from hyp.frames import FrameAllocator
from hyp.host import HostMemory, HostPfn
from hyp.host.backing import SharedFrames

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.memory import PhysicalMemory
    from hyp.host import HVA, FaultinError, Vma

RUBBISH: Final = 0xA5


class SpoilingFrames(FrameAllocator):
    """Overwrites what comes back."""

    __slots__ = ()

    def free(self, block: PA, size: int = PAGE_SIZE) -> None:
        """Take a block back, and spoil it."""
        self._memory.fill(block, size, RUBBISH)
        super().free(block, size)


class RacingHost(HostMemory):
    """An address space in which a look-up can be overtaken.

    Attributes
    ----------
    between
        Called once, after the next look-up of a page for a guest.
    on_write
        Called with the address of a page that was looked up for a write.
    looked_up
        How many invalidations had begun or ended when the last look-up began.
    watcher
        Hears of all invalidations.
    """

    __slots__ = ("between", "looked_up", "on_write", "watcher")

    def __init__(self, memory: PhysicalMemory, watcher: Watcher) -> None:
        super().__init__(memory)
        self.frames = SpoilingFrames(memory)
        self.shared = SharedFrames(self.frames)
        self.watcher = watcher
        self.notifiers.register(watcher)
        self.between: Callable[[], None] | None = None
        self.on_write: Callable[[int], None] = lambda _hva: None
        self.looked_up = 0

    def faultin_pfn(self, vma: Vma, hva: int, *, write: bool) -> HostPfn | FaultinError:
        """Look a page up; then let happen what was asked for."""
        looked_up = self.looked_up = len(self.watcher.seen)
        found = super().faultin_pfn(vma, hva, write=write)
        if isinstance(found, HostPfn):
            if write:
                self.on_write(hva)
            between, self.between = self.between, None
            if between is not None:
                between()
        self.looked_up = looked_up
        return found


class Watcher:
    """Knows what the host has changed, and what it is about to change.

    Attributes
    ----------
    seen
        The range of each beginning and each end of an invalidation.
    open
        What is under way.
    replaced
        The page that was copied, and its new frame, until that invalidation ends.
    at_end
        Called before an invalidation ends.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.open: list[tuple[int, int]] = []
        self.replaced: tuple[int, int] | None = None
        self.at_end: Callable[[], None] = lambda: None

    def stale(self, start: int, end: int, since: int) -> bool:
        """Return whether a part of a range has changed since, or is about to."""
        return any(low < end and start < high for low, high in self.seen[since:] + self.open)

    def invalidate_range_start(self, start: HVA, end: HVA) -> None:
        """Note a beginning."""
        self.seen.append((start, end))
        self.open.append((start, end))

    def invalidate_range_end(self, start: HVA, end: HVA) -> None:
        """Note an end."""
        self.at_end()
        self.seen.append((start, end))
        self.open.remove((start, end))
        self.replaced = None

    def change_pte(self, hva: HVA, pa: PA) -> None:
        """Note what a page has become; it is the VMs that map it."""
        self.replaced = (hva, pa)

    def clear_young(self, start: HVA, end: HVA) -> bool:
        """Say that this one uses no pages."""
        del start, end
        return False

    def clear_flush_young(self, start: HVA, end: HVA) -> bool:
        """Say the same."""
        return self.clear_young(start, end)

    def test_young(self, hva: HVA) -> bool:
        """Say the same."""
        del hva
        return False
