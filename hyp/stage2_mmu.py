"""A VM's stage 2 as a whole: made, cleaned, emptied, given back (arch/arm64/kvm/mmu.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.icache import CacheMaintenance
from hyp.pgtable import Stage2PageTable
from hyp.tablepages import TablePages
from hyp.tlb import Stage2Tlb
from hyp.vtcr import vttbr

if TYPE_CHECKING:
    from hyp.vm import VM


def kvm_init_stage2_mmu(vm: VM) -> Stage2PageTable:
    """Return page tables for a VM whose VMID and geometry are known.

    Raises
    ------
    KvmError
        ENOMEM when there is no memory for the top-level tables.
    """
    tlb = Stage2Tlb(vm.kvm.current, vm.features, vm.stats, vm.steps)
    pgt = Stage2PageTable(
        vm.machine.memory,
        vm.geometry,
        TablePages(vm.host.frames, vm.stats),
        tlb=tlb,
        cmo=CacheMaintenance(vm.kvm.current, vm.features, vm.stats, vm.steps),
        features=vm.features,
        steps=vm.steps,
    )
    pgt.use_cache_rules(vm.profile.caches)
    assert pgt.pgd is not None
    tlb.vttbr = vttbr(pgt.pgd, vm.kvm.vmids.number(vm.vmid))
    return pgt


def kvm_uninit_stage2_mmu(vm: VM) -> None:
    """Give back a VM's page tables, and the spare ones for splitting."""
    vm.pgt.destroy()
    vm.dirty_log.split.free_cache()


def stage2_flush_vm(vm: VM) -> None:
    """Clean all of the guest's memory from the caches."""
    for slot in vm.memslots:
        vm.pgt.flush(slot.base_ipa, slot.size)


def stage2_unmap_vm(vm: VM) -> None:
    """Make all of the guest's memory fault in again.

    A vCPU that is reset starts with its caches off, and is to see memory as
    it was cleaned on the way in. With FEAT_S2FWB only the instruction caches matter.
    """
    if vm.features.fwb:
        vm.pgt.cmo.icache_inval_all_pou()
        return
    for slot in vm.memslots:
        vm.pgt.unmap(slot.base_ipa, slot.size)
