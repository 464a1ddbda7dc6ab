"""Carrying out a change of the memory slots (``kvm_set_memslot``).

Other CPUs run while slots change. They look slots up at any time, and a CPU in the
middle of a fault goes on with the slot that it has found. So a slot is first made
invalid; once nobody holds the old one any more, its pages are unmapped; and only
then is the new set put in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.errors import Errno, KvmError
from hyp.memslots import GEN_UPDATE_IN_PROGRESS, MemorySlot
from hyp.regions import RegionChange, check_change, prepare_arch_memory_region

if TYPE_CHECKING:
    from hyp.memslots import MemoryRegion
    from hyp.vm import VM


def set_memory_region(vm: VM, region: MemoryRegion) -> None:
    """Serve KVM_SET_USER_MEMORY_REGION2 (``__kvm_set_memory_region``).

    Raises
    ------
    KvmError
        EINVAL, EEXIST or EFAULT: the slots are as before. A move that is refused by
        what arm64 asks of a slot has unmapped its pages, as in KVM; they fault in again.
        EBUSY while the host invalidates pages: KVM would wait for the end of that.
    """
    change, old = check_change(vm, region)
    if change is RegionChange.NONE:
        return
    if vm.notifier.active:
        raise KvmError(
            Errno.EBUSY,
            f"{vm.notifier.active} invalidations of host pages are under way; change the slots "
            "after their end",
        )
    if old is not None and change in (RegionChange.DELETE, RegionChange.MOVE):
        _invalidate(vm, old)
    if change is RegionChange.DELETE:
        assert old is not None
        vm.memslots.remove(old.id)
        _swap(vm)
        if old.gmem is not None:
            old.gmem.unbind(old)
        vm.dirty_log.commit(None)
        return
    slot = MemorySlot.of(region, vm.dirty_log.bitmap_for(region, old))
    try:
        prepare_arch_memory_region(vm, slot)
    except KvmError:
        if old is not None and change is RegionChange.MOVE:
            vm.memslots.install(old)
            _swap(vm)
        raise
    if slot.gmem is not None:
        slot.gmem.bind(slot)
    vm.memslots.install(slot)
    _swap(vm)
    vm.dirty_log.commit(slot)


def _invalidate(vm: VM, old: MemorySlot) -> None:
    """Make sure that no CPU uses the slot, then unmap it (``kvm_invalidate_memslot``)."""
    vm.memslots.install(old.invalid())
    _swap(vm)
    # kvm_arch_flush_shadow_memslot
    vm.pgt.unmap(old.base_ipa, old.size)


def _swap(vm: VM) -> None:
    """Let every CPU see the new set (``kvm_swap_active_memslots``)."""
    slots = vm.memslots
    slots.generation |= GEN_UPDATE_IN_PROGRESS
    if vm.synchronize_srcu is not None:
        vm.synchronize_srcu()
    slots.generation = (slots.generation & ~GEN_UPDATE_IN_PROGRESS) + 1
