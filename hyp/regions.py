"""The rules of KVM_SET_USER_MEMORY_REGION2: what a request amounts to, or why it is refused."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_MASK, PAGE_SHIFT
from hyp.errors import Errno, KvmError
from hyp.gmem import GuestMemfdFlags, check_binding
from hyp.host import TASK_SIZE, PfnMemory
from hyp.memslots import KVM_MEM_MAX_NR_PAGES, MemoryRegion, MemoryRegion2, MemoryRegionFlags

if TYPE_CHECKING:
    from hyp.host import Vma
    from hyp.memslots import MemorySlot, MemSlots
    from hyp.vm import VM

_FLAGS: Final = int(MemoryRegionFlags.LOG_DIRTY_PAGES | MemoryRegionFlags.READONLY)
_GMEM_FLAGS: Final = int(MemoryRegionFlags.GUEST_MEMFD)


class RegionChange(Enum):
    """``enum kvm_mr_change``."""

    NONE = "none"
    CREATE = "create"
    DELETE = "delete"
    MOVE = "move"
    FLAGS_ONLY = "flags only"


def refuse_guest_memfd(region: MemoryRegion) -> None:
    """Refuse in KVM_SET_USER_MEMORY_REGION what only the second form of the call can do.

    Raises
    ------
    KvmError
        EINVAL.
    """
    if isinstance(region, MemoryRegion2) or region.flags & MemoryRegionFlags.GUEST_MEMFD:
        raise KvmError(
            Errno.EINVAL,
            f"flags {region.flags:#x}: a guest_memfd needs set_user_memory_region2",
        )


def check_change(vm: VM, region: MemoryRegion) -> tuple[RegionChange, MemorySlot | None]:
    """Check a request before anything is touched, in KVM's order.

    Parameters
    ----------
    vm
        The VM, whose slots are to change.
    region
        The request.

    Returns
    -------
    tuple
        What the request amounts to, and the slot that it changes.

    Raises
    ------
    KvmError
        EINVAL or EEXIST.
    """
    _check_values(region)
    old = vm.memslots.by_id(region.slot)
    if region.memory_size == 0:
        if old is None:
            raise KvmError(Errno.EINVAL, f"slot {region.slot} does not exist and cannot be deleted")
        return RegionChange.DELETE, old
    change = _classify(region, old)
    if change in (RegionChange.CREATE, RegionChange.MOVE):
        _check_overlap(vm.memslots, region)
    if region.flags & MemoryRegionFlags.GUEST_MEMFD:
        check_binding(vm, region)
    return change, old


def prepare_arch_memory_region(vm: VM, slot: MemorySlot) -> None:
    """Check what arm64 asks of a slot (``kvm_arch_prepare_memory_region``).

    Raises
    ------
    KvmError
        EFAULT beyond the guest's physical address space; EINVAL for a guest_memfd
        that user space cannot map, and for raw frames that are to be logged, or are
        cacheable where the hardware does not keep the caches coherent.
    """
    end = slot.base_ipa + slot.size
    if end > vm.ipa_end:
        raise KvmError(
            Errno.EFAULT,
            f"the slot ends at {end:#x}, beyond the guest's physical address space of "
            f"{vm.ipa_end:#x}; create the VM with more IPA bits",
        )
    if slot.gmem is not None and not slot.gmem.flags & GuestMemfdFlags.MMAP:
        raise KvmError(
            Errno.EINVAL,
            "the guest_memfd cannot be mapped by user space, and this machine has no guests "
            "with memory of their own; create it with the flag MMAP (1)",
        )
    # A slot may span several areas, and holes: only what is there is looked at.
    for vma in vm.host.vmas.overlapping(slot.userspace_addr, slot.userspace_addr + slot.size):
        if vma.pfn is not None:
            _check_raw_frames(vm, slot, vma)


def _check_raw_frames(vm: VM, slot: MemorySlot, vma: Vma) -> None:
    """Check a slot's part of an area of raw frames (VM_PFNMAP)."""
    if slot.flags & MemoryRegionFlags.LOG_DIRTY_PAGES:
        raise KvmError(
            Errno.EINVAL,
            f"slot {slot.id} holds raw frames at hva {vma.start:#x}, which cannot be logged; "
            "leave LOG_DIRTY_PAGES out",
        )
    if vma.pfn_memory is PfnMemory.CACHEABLE and not (vm.features.fwb and vm.features.dic):
        raise KvmError(
            Errno.EINVAL,
            f"slot {slot.id} holds cacheable raw frames at hva {vma.start:#x}, which need "
            "FEAT_S2FWB and CTR_EL0.DIC; use a CPU that has both",
        )


def _check_values(region: MemoryRegion) -> None:
    """Check what does not depend on the slots there are."""
    gmem = isinstance(region, MemoryRegion2) and region.flags & MemoryRegionFlags.GUEST_MEMFD
    # Pages of a guest_memfd are neither logged nor read-only.
    known = _GMEM_FLAGS if gmem else _FLAGS
    if region.flags & ~known:
        raise KvmError(
            Errno.EINVAL,
            f"flags {region.flags:#x} has bits beyond {known:#x}; use LOG_DIRTY_PAGES (1) and "
            "READONLY (2), or with set_user_memory_region2 GUEST_MEMFD (4) alone",
        )
    for name in ("memory_size", "guest_phys_addr", "userspace_addr"):
        value = getattr(region, name)
        if value & PAGE_MASK or value < 0:
            raise KvmError(
                Errno.EINVAL, f"{name} {value:#x} is not a multiple of the page size 0x1000"
            )
    if region.userspace_addr + region.memory_size > TASK_SIZE:
        raise KvmError(
            Errno.EINVAL,
            f"userspace_addr {region.userspace_addr:#x} with memory_size "
            f"{region.memory_size:#x} reaches beyond user space ({TASK_SIZE:#x})",
        )
    if region.guest_phys_addr + region.memory_size > 1 << 64:
        raise KvmError(
            Errno.EINVAL,
            f"guest_phys_addr {region.guest_phys_addr:#x} with memory_size "
            f"{region.memory_size:#x} wraps around",
        )
    if region.memory_size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES:
        raise KvmError(
            Errno.EINVAL,
            f"a slot has at most {KVM_MEM_MAX_NR_PAGES} pages, not "
            f"{region.memory_size >> PAGE_SHIFT}; use several slots",
        )


def _classify(region: MemoryRegion, old: MemorySlot | None) -> RegionChange:
    """Say what the request changes."""
    if old is None:
        return RegionChange.CREATE
    if (region.flags | old.flags) & MemoryRegionFlags.GUEST_MEMFD:
        raise KvmError(
            Errno.EINVAL,
            f"slot {region.slot} is to have, or has, a guest_memfd and cannot change; "
            "delete the slot first",
        )
    if region.memory_size != old.size:
        raise _fixed(region, "memory_size", f"{old.size:#x}")
    if region.userspace_addr != old.userspace_addr:
        raise _fixed(region, "userspace_addr", f"{old.userspace_addr:#x}")
    if (region.flags ^ old.flags) & MemoryRegionFlags.READONLY:
        raise _fixed(region, "READONLY", "set" if old.readonly else "clear")
    if region.guest_phys_addr != old.base_ipa:
        return RegionChange.MOVE
    if region.flags != old.flags:
        return RegionChange.FLAGS_ONLY
    return RegionChange.NONE


def _fixed(region: MemoryRegion, what: str, value: str) -> KvmError:
    return KvmError(
        Errno.EINVAL,
        f"{what} of slot {region.slot} is {value} and cannot change; delete the slot first",
    )


def _check_overlap(slots: MemSlots, region: MemoryRegion) -> None:
    other = slots.overlapping(
        region.guest_phys_addr >> PAGE_SHIFT,
        region.memory_size >> PAGE_SHIFT,
        except_id=region.slot,
    )
    if other is not None:
        raise KvmError(
            Errno.EEXIST,
            f"slot {region.slot} at {region.guest_phys_addr:#x} to "
            f"{region.guest_phys_addr + region.memory_size - 1:#x} overlaps slot {other.id} at "
            f"{other.base_ipa:#x} to {other.base_ipa + other.size - 1:#x}; choose another address",
        )
