"""Which frames of physical memory the slots of a VM have, by the host's own tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import PAGE_SHIFT, PAGE_SIZE
from hyp.host.tables import PRESENT, entry_frame

if TYPE_CHECKING:
    from hyp.host import HVA
    from hyp.host.vma import Vma
    from hyp.vm import VM

_SHIFTS: Final = (12, 21, 30)
"""Sizes of host pages."""


class Backing(NamedTuple):
    """What a frame is for."""

    ipa: int
    hva: int


def frames_of_slots(vm: VM) -> dict[int, Backing]:
    """Return every frame of 4 KiB that backs a page of a slot now, by PA.

    A slot with a guest_memfd has the file's pages.
    """
    found: dict[int, Backing] = {}
    for slot in vm.memslots:
        if slot.gmem is not None:
            for page in range(slot.npages):
                file_page = slot.gmem.page_at(slot.gmem_pgoff + page)
                if file_page is not None:
                    found[file_page] = Backing(slot.base_ipa + (page << PAGE_SHIFT), 0)
            continue
        start, end = slot.userspace_addr, slot.userspace_addr + slot.size
        for shift in _SHIFTS:
            for hva, entry in vm.host.tables.present_in(start, end, shift):
                if entry & PRESENT:
                    for at in range(max(hva, start), min(hva + (1 << shift), end), PAGE_SIZE):
                        frame = entry_frame(entry) + (at - hva)
                        found[frame] = Backing(slot.base_ipa + at - start, at)
    return found


def still_backs(vm: VM, frame: int, backing: Backing) -> bool:
    """Whether a frame is for what it was for when :func:`frames_of_slots` found it."""
    if not backing.hva:
        slot = vm.memslots.find(backing.ipa >> PAGE_SHIFT)
        if slot is None or slot.gmem is None:
            return False
        page = (backing.ipa >> PAGE_SHIFT) - slot.base_gfn + slot.gmem_pgoff
        return slot.gmem.page_at(page) == frame
    vma: Vma | None = vm.host.vmas.lookup(backing.hva)
    if vma is None:
        return False
    hva: HVA = backing.hva  # type: ignore[assignment]  # an address in the VMM
    entry, shift = vm.host.tables.lookup(vma, hva)
    return bool(entry & PRESENT) and entry_frame(entry) + (hva & (1 << shift) - 1) == frame
