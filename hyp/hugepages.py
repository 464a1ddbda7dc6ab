"""How much one fault maps: a page, or a block of 2 MiB or 1 GiB.

A block is used where the host's page, the slot and both alignments allow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.fault_info import PERMISSION
from hyp.host import HVA, SIZE_1G, SIZE_2M, SIZE_4K
from hyp.pte import GRANULE

if TYPE_CHECKING:
    from hyp.fault_info import FaultInfo
    from hyp.host import HostMemory, Vma
    from hyp.memslots import MemorySlot
    from hyp.profiles import KvmProfile


def kvm_s2_resolve_vma_size(profile: KvmProfile, vma: Vma, hva: HVA, slot: MemorySlot) -> int:
    """Return the size to map: that of the host's pages, if the slot allows it."""
    if slot.logging:
        return SIZE_4K
    vma_size = get_vma_page_size(profile, vma, hva)
    if vma_size == SIZE_4K:
        return SIZE_4K
    for size in profile.block_sizes:
        fits = size == vma_size or (profile.falls_through and size < vma_size)
        if fits and fault_supports_stage2_huge_mapping(slot, hva, size):
            return size
    return SIZE_4K


def get_vma_page_size(profile: KvmProfile, vma: Vma, hva: HVA) -> int:
    """Return the size of what the host has at ``hva`` (``get_vma_page_shift``).

    Raw frames have no size: as much as is aligned alike and lies in the area.
    """
    if vma.pfn is None:
        return 1 << vma.page_shift
    if profile.device_blocks:
        for size in (SIZE_1G, SIZE_2M):
            start = hva & -size
            aligned = not (vma.start ^ vma.pfn) & (size - 1)
            if aligned and vma.start <= start and start + size <= vma.end:
                return size
    return SIZE_4K


def fault_supports_stage2_huge_mapping(slot: MemorySlot, hva: HVA, size: int) -> bool:
    """Return whether a block of ``size`` around ``hva`` maps this slot and nothing else.

    IPA and host address must have the same offset in the block, and the block
    must not reach out of the slot.
    """
    if (slot.base_ipa ^ slot.userspace_addr) & (size - 1):
        return False
    block = hva & -size
    return slot.userspace_addr <= block and block + size <= slot.userspace_addr + slot.size


def transparent_hugepage_adjust(
    profile: KvmProfile, host: HostMemory, fault: FaultInfo, hva: HVA, slot: MemorySlot
) -> int | None:
    """Return the size to map of memory that may have come as a transparent huge page.

    Parameters
    ----------
    profile
        Whether a permission fault of a block shows that one is mapped.
    host
        Whose own mapping decides.
    fault
        The fault; its granule is that of the entry it met.
    hva, slot
        Where, and the slot. It is not logged.

    Returns
    -------
    int or None
        ``None`` if the host has nothing mapped there any more: the fault is to be repeated.
    """
    if profile.keeps_granule and fault.fault is PERMISSION and GRANULE[fault.level] > SIZE_4K:
        return GRANULE[fault.level]
    if not fault_supports_stage2_huge_mapping(slot, hva, SIZE_2M):
        return SIZE_4K
    mapped = host.user_mapping_size(hva)
    if mapped is None:
        return None
    return SIZE_2M if mapped >= SIZE_2M else SIZE_4K
