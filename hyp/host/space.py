"""An address space and the steps that system calls on it are made of (``struct mm_struct``)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from emu.arch.address import PA, PAGE_SHIFT, PAGE_SIZE
from hyp.frames import FrameAllocator
from hyp.host.backing import POISONED, HostFile, SharedFrames, SwapSpace
from hyp.host.notifiers import Notifiers
from hyp.host.tables import (
    OWNED,
    PMD_SHIFT,
    PRESENT,
    SWAPPED,
    WRITE,
    HostTables,
    entry_frame,
    swap_place,
)
from hyp.host.vma import HVA, SIZE_2M, VmaSet

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory
    from hyp.host.vma import Vma


class HostPfn:
    """A page of the host that was looked up for a guest.

    Parameters
    ----------
    pa
        The 4 KiB frame.
    writable
        Whether it may be mapped writable, whatever it was looked up for.
    """

    __slots__ = ("pa", "writable")

    def __init__(self, pa: PA, writable: bool) -> None:
        self.pa = pa
        self.writable = writable


class FaultinError(Enum):
    """Why a page cannot be had."""

    NO_ACCESS = "may not be accessed so"
    """The area does not allow it."""
    NO_MEMORY = "no memory is left"
    HWPOISON = "its memory has failed"
    BLOCKED = "user space has not supplied it yet"


class AddressSpace:
    """Areas, tables, and the frames behind them.

    Parameters
    ----------
    memory
        The machine's physical memory.

    Attributes
    ----------
    frames
        The allocator of all physical memory.
    notifiers
        Who is told before and after the tables change.
    copies_huge_zero
        Whether a huge page of zeros that is written gives way to a huge page (since v6.13);
        before, it was split, and a small page was copied.
    """

    __slots__ = (
        "_zeroes",
        "copies_huge_zero",
        "frames",
        "memory",
        "notifiers",
        "shared",
        "swap",
        "tables",
        "vmas",
    )

    def __init__(self, memory: PhysicalMemory) -> None:
        self.memory = memory
        self.frames = FrameAllocator(memory)
        self.shared = SharedFrames(self.frames)
        self.swap = SwapSpace()
        self.vmas = VmaSet()
        self.tables = HostTables()
        self.notifiers = Notifiers()
        self.copies_huge_zero = True
        self._zeroes: dict[int, PA] = {}

    def zero_frame(self, shift: int) -> PA | None:
        """Return the frame of zeros that all untouched pages of a size show."""
        frame = self._zeroes.get(shift)
        if frame is None:
            frame = self.frames.allocate(1 << shift)
            if frame is not None:
                self._zeroes[shift] = frame
        return frame

    def put_page(self, entry: int, shift: int) -> None:
        """Give up what an entry owned."""
        if entry & SWAPPED:
            self.swap.free(swap_place(entry))
        elif entry & OWNED:
            self.shared.put(entry_frame(entry), 1 << shift)

    def zap(self, vma: Vma, start: int, end: int) -> None:
        """Empty the tables for a part of an area; what only they owned is gone."""
        for shift in {vma.page_shift, PMD_SHIFT} if vma.thp else {vma.page_shift}:
            for hva, entry in self.tables.present_in(start, end, shift):
                self.tables.set(hva, shift, 0)
                self.put_page(entry, shift)

    def split_huge_page(self, hva: int) -> bool:
        """Map the 2 MiB around ``hva`` by small pages of the same frames, if one huge page does.

        Nobody sees another page for it, but a guest may map it by one block: it is told.
        """
        start = HVA(hva & -SIZE_2M)
        vma = self.vmas.lookup(start)
        if vma is None or not vma.thp:
            return False
        entry, shift = self.tables.lookup(vma, start)
        if shift != PMD_SHIFT:
            return False
        with self.notifiers.invalidate(start, HVA(start + SIZE_2M)):
            self.tables.set(start, PMD_SHIFT, 0)
            self.tables.pte_tables.add(start >> PMD_SHIFT)
            # The huge page of zeros is not split: small pages of zeros come again by themselves.
            if entry & (OWNED | PRESENT) == OWNED | PRESENT:
                for offset in range(0, SIZE_2M, PAGE_SIZE):
                    self.tables.set(start + offset, PAGE_SHIFT, entry + offset)
        return True

    def mappings_of(self, file: HostFile, index: int) -> list[tuple[Vma, HVA]]:
        """Return where a page of a file is mapped (``rmap_walk``)."""
        found = []
        for vma in self.vmas:
            if vma.file is file:
                hva = vma.start + (index << vma.page_shift) - vma.offset
                if vma.start <= hva < vma.end:
                    found.append((vma, HVA(hva)))
        return found

    def unmap_file_page(self, file: HostFile, index: int) -> None:
        """Take a page of a file out of all tables; private copies stay."""
        for vma, hva in self.mappings_of(file, index):
            entry, shift = self.tables.lookup(vma, hva)
            if entry & PRESENT and not entry & OWNED:
                with self.notifiers.invalidate(hva, HVA(hva + (1 << shift))):
                    self.tables.set(hva, shift, 0)

    def file_page(self, file: HostFile, index: int) -> PA | FaultinError:
        """Return a page of a file, bringing it into being, or back from swap space."""
        page = file.pages.get(index)
        if page is POISONED:
            return FaultinError.HWPOISON
        if isinstance(page, int):
            return page
        frame = self.frames.allocate(1 << file.page_shift)
        if frame is None:
            return FaultinError.NO_MEMORY
        if isinstance(page, bytes):
            self.memory.write(frame, page)
        file.pages[index] = frame
        return frame

    def free_file_pages(self, file: HostFile, first: int, last: int) -> None:
        """Make pages of a file as if nobody had touched them."""
        for index in sorted(index for index in file.pages if first <= index < last):
            self.unmap_file_page(file, index)
            page = file.pages.pop(index)
            if isinstance(page, int):
                self.frames.free(page, 1 << file.page_shift)

    def copy_page(self, hva: HVA, entry: int, shift: int) -> int | None:
        """Give the process its own copy of a page it may only read; ``None`` without memory."""
        frame = self.frames.allocate(1 << shift)
        if frame is None:
            return None
        self.memory.write(frame, self.memory.view(entry_frame(entry), 1 << shift))
        start = HVA(hva & -(1 << shift))
        new = frame | PRESENT | WRITE | OWNED
        with self.notifiers.invalidate(start, HVA(start + (1 << shift))):
            self.tables.set(start, shift, new)
            if shift == PAGE_SHIFT:
                self.notifiers.change_pte(start, frame)
        self.put_page(entry, shift)
        return new
