"""Page faults of the VMM process (mm/memory.c: ``handle_mm_fault``).

A page that is missed is brought in; a page that is written and may only be read
is copied, or taken over if nobody else has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PAGE_SHIFT
from hyp.host.space import FaultinError
from hyp.host.tables import (
    OWNED,
    PMD_SHIFT,
    POISON,
    PRESENT,
    SWAPPED,
    WRITE,
    entry_frame,
    swap_place,
)
from hyp.host.userfault import UserfaultMessage, UserfaultMode
from hyp.host.vma import HVA

if TYPE_CHECKING:
    from hyp.host.space import AddressSpace
    from hyp.host.userfault import Userfault
    from hyp.host.vma import Vma


Entry = tuple[int, int]
"""What is behind a page: the entry, and log2 of what it maps."""


def handle_mm_fault(mm: AddressSpace, vma: Vma, hva: int, *, write: bool) -> Entry | FaultinError:
    """Make a page accessible.

    Parameters
    ----------
    mm
        The address space.
    vma
        The area of ``hva``; it allows the access.
    hva
        Any address of the page.
    write
        Whether the page is to be written.

    Returns
    -------
    Entry or FaultinError
        The entry, which is present and allows the access.
    """
    entry, shift = mm.tables.lookup(vma, hva)
    if entry & POISON:
        return FaultinError.HWPOISON
    if not entry and vma.userfault is not None:
        missed = _ask_userfault(mm, vma, vma.userfault, hva, write=write)
        if missed is not None:
            return missed
        entry, shift = mm.tables.lookup(vma, hva)
    if not entry:
        return no_page(mm, vma, hva, write=write)
    if entry & SWAPPED:
        return _swap_in(mm, vma, hva, entry)
    if not write or entry & WRITE:
        return entry, shift
    return _write_protected(mm, vma, hva, entry, shift)


def _ask_userfault(
    mm: AddressSpace, vma: Vma, userfault: Userfault, hva: int, *, write: bool
) -> FaultinError | None:
    """Let user space supply a page that is missing (``handle_userfault``)."""
    minor = vma.file is not None and vma.file_index(hva) in vma.file.pages
    if not userfault.mode & (UserfaultMode.MINOR if minor else UserfaultMode.MISSING):
        return None
    page = HVA(hva & -(1 << vma.page_shift))
    userfault.handler(UserfaultMessage(page, write, minor))
    entry, _ = mm.tables.lookup(vma, hva)
    return None if entry else FaultinError.BLOCKED


def no_page(mm: AddressSpace, vma: Vma, hva: int, *, write: bool) -> Entry | FaultinError:
    """Bring in a page that nobody has touched."""
    if vma.file is not None:
        return _file_page(mm, vma, hva, write=write)
    if vma.thp:
        entry = _huge_page(mm, vma, hva, write=write)
        if entry:
            return entry, PMD_SHIFT
        mm.tables.pte_tables.add(hva >> PMD_SHIFT)
    shift = vma.page_shift
    # There is no hugetlb page of zeros: such a page is allocated, and is not writable yet.
    if write or shift != PAGE_SHIFT:
        frame = mm.frames.allocate(1 << shift)
        flags = PRESENT | OWNED | (WRITE if write else 0)
    else:
        frame = mm.zero_frame(shift)
        flags = PRESENT
    if frame is None:
        return FaultinError.NO_MEMORY
    entry = frame | flags
    mm.tables.set(hva, shift, entry)
    return entry, shift


def _file_page(mm: AddressSpace, vma: Vma, hva: int, *, write: bool) -> Entry | FaultinError:
    file = vma.file
    assert file is not None
    frame = mm.file_page(file, vma.file_index(hva))
    if isinstance(frame, FaultinError):
        return frame
    entry = frame | PRESENT | (WRITE if vma.shared else 0)
    if write and not vma.shared:
        # Nobody knows of the page yet, so nobody needs to be told that it is a copy.
        copy = mm.frames.allocate(1 << vma.page_shift)
        if copy is None:
            return FaultinError.NO_MEMORY
        mm.memory.write(copy, mm.memory.view(frame, 1 << vma.page_shift))
        entry = copy | PRESENT | WRITE | OWNED
    mm.tables.set(hva, vma.page_shift, entry)
    return entry, vma.page_shift


def _huge_page(mm: AddressSpace, vma: Vma, hva: int, *, write: bool) -> int:
    """Bring in 2 MiB at once; 0 where that cannot be (``do_huge_pmd_anonymous_page``)."""
    start = hva & -(1 << PMD_SHIFT)
    if start < vma.start or start + (1 << PMD_SHIFT) > vma.end:
        return 0
    if hva >> PMD_SHIFT in mm.tables.pte_tables:
        return 0
    frame = mm.frames.allocate(1 << PMD_SHIFT) if write else mm.zero_frame(PMD_SHIFT)
    if frame is None:
        return 0
    entry = frame | PRESENT | (WRITE | OWNED if write else 0)
    mm.tables.set(hva, PMD_SHIFT, entry)
    return entry


def _swap_in(mm: AddressSpace, vma: Vma, hva: int, entry: int) -> Entry | FaultinError:
    """Read a page back from swap space (``do_swap_page``)."""
    frame = mm.frames.allocate()
    if frame is None:
        return FaultinError.NO_MEMORY
    place = swap_place(entry)
    mm.memory.write(frame, mm.swap.read(place))
    mm.swap.free(place)
    # Only pages with one owner are written out, so the page is the area's own.
    entry = frame | PRESENT | OWNED | (WRITE if vma.writable else 0)
    mm.tables.set(hva, PAGE_SHIFT, entry)
    return entry, PAGE_SHIFT


def _write_protected(
    mm: AddressSpace, vma: Vma, hva: int, entry: int, shift: int
) -> Entry | FaultinError:
    """Write to a page that is not the process's own (``do_wp_page``)."""
    frame = entry_frame(entry)
    if entry & OWNED and not mm.shared.is_shared(frame):
        mm.tables.set(hva, shift, entry | WRITE)
        return entry | WRITE, shift
    if vma.thp and shift == PMD_SHIFT and not entry & OWNED and not mm.copies_huge_zero:
        mm.split_huge_page(hva)
        return no_page(mm, vma, hva, write=True)
    copy = mm.copy_page(HVA(hva), entry, shift)
    return FaultinError.NO_MEMORY if copy is None else (copy, shift)
