"""Which frames of physical memory the slots of a VM have, by the host's own tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_SHIFT, PAGE_SIZE
from hyp.host import HVA
from hyp.host.tables import PRESENT, entry_frame

if TYPE_CHECKING:
    from hyp.vm import VM

_SHIFTS: Final = (12, 21, 30)
"""Sizes of host pages."""


def frames_of_slots(vm: VM) -> dict[int, int]:
    """Return every frame of 4 KiB that backs a page of a slot now, and the page's IPA."""
    found: dict[int, int] = {}
    for slot in vm.memslots:
        if slot.gmem is not None:
            for page in range(slot.npages):
                file_page = slot.gmem.page_at(slot.gmem_pgoff + page)
                if file_page is not None:
                    found[file_page] = slot.base_ipa + (page << PAGE_SHIFT)
            continue
        start, end = slot.userspace_addr, slot.userspace_addr + slot.size
        for shift in _SHIFTS:
            for hva, entry in vm.host.tables.present_in(start, end, shift):
                if entry & PRESENT:
                    for at in range(max(hva, start), min(hva + (1 << shift), end), PAGE_SIZE):
                        found[entry_frame(entry) + (at - hva)] = slot.base_ipa + at - start
    return found


def frame_at(vm: VM, ipa: int) -> int | None:
    """Return the frame that backs a page of a slot now; None if there is none."""
    gfn = ipa >> PAGE_SHIFT
    slot = vm.memslots.find(gfn)
    if slot is None:
        return None
    if slot.gmem is not None:
        return slot.gmem.page_at(gfn - slot.base_gfn + slot.gmem_pgoff)
    hva = HVA(slot.hva_of(gfn))
    vma = vm.host.vmas.lookup(hva)
    if vma is None:
        return None
    entry, shift = vm.host.tables.lookup(vma, hva)
    return entry_frame(entry) + (hva & (1 << shift) - 1) if entry & PRESENT else None
