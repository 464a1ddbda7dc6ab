"""A virtual machine: the VM file descriptor of KVM (virt/kvm/kvm_main.c, arm.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PAGE_MASK, PAGE_SHIFT
from hyp.cpufeature import HostFeatures
from hyp.dirty import mask_range
from hyp.errors import Errno, KvmError
from hyp.events import Events
from hyp.host import HVA, HostMemory
from hyp.icache import CacheMaintenance
from hyp.idregs import guest_id_registers
from hyp.iobus import IoBus
from hyp.memslots import MemorySlot, MemSlots
from hyp.percpu import CurrentCpu
from hyp.pgtable import Stage2PageTable
from hyp.regions import RegionChange, prepare_memory_region
from hyp.reset import MPIDR_AFFINITY
from hyp.stats import Stats
from hyp.tablepages import TablePages
from hyp.tlb import Stage2Tlb
from hyp.vcpu import VCPU
from hyp.vmid import host_of, next_vmid
from hyp.vtcr import Stage2Geometry, ipa_bits_of_type, vttbr

if TYPE_CHECKING:
    from emu.machine import Machine
    from hyp.devices.device import Device
    from hyp.memslots import MemoryRegion


class Cap(IntEnum):
    """Capabilities that can be enabled (KVM_ENABLE_CAP)."""

    ARM_NISV_TO_USER = 177
    ARM_SEA_TO_USER = 245


class VM:
    """A virtual machine on a machine.

    Parameters
    ----------
    machine
        What it runs on.
    ipa_bits
        The size of the guest physical address space: 32 bits to the limit of
        the machine; 0 for 40.
    host
        The VMM process. VMs on one machine share it, since it owns the machine's memory.
    vmid
        The tag of the VM's TLB entries; the machine's next one unless it is given.

    Attributes
    ----------
    events, stats
        What the hypervisor does, as a stream and as counters.
    memslots
        The memory slots.
    vcpus
        The vCPUs by index.

    Raises
    ------
    KvmError
        EINVAL for an IPA size or a VMID that is not possible; ENOMEM without memory for tables.
    """

    def __init__(
        self,
        machine: Machine,
        ipa_bits: int = 40,
        *,
        host: HostMemory | None = None,
        vmid: int | None = None,
    ) -> None:
        pe = machine.pes[0]
        self.machine = machine
        self.features = HostFeatures.of(pe)
        self.ipa_bits = ipa_bits_of_type(ipa_bits, self.features.ipa_limit)
        self.ipa_end = 1 << self.ipa_bits
        if vmid is None:
            vmid = next_vmid(machine, self.features.vmid_bits)
        if not 0 < vmid < 1 << self.features.vmid_bits:
            raise KvmError(
                Errno.EINVAL,
                f"VMID {vmid} is not possible; use 1 to {(1 << self.features.vmid_bits) - 1}",
            )
        self.host = host if host is not None else host_of(machine)
        self.events = Events()
        self.stats = Stats()
        self.memslots = MemSlots()
        self.io_bus = IoBus()
        self.vcpus: dict[int, VCPU] = {}
        self.id_registers = guest_id_registers(pe)
        self.nisv_to_user = False
        self.sea_to_user = False

        self.cpu = CurrentCpu(pe)
        self.geometry = Stage2Geometry.of(self.ipa_bits)
        self.vtcr = self.geometry.vtcr(self.features)
        tlb = Stage2Tlb(self.cpu, self.features, self.stats)
        self.pgt = Stage2PageTable(
            machine.memory,
            self.geometry,
            TablePages(self.host.frames, self.stats),
            tlb=tlb,
            cmo=CacheMaintenance(self.cpu, self.features, self.stats),
            features=self.features,
        )
        assert self.pgt.pgd is not None
        tlb.vttbr = vttbr(self.pgt.pgd, vmid)

    def enable_cap(self, cap: int) -> None:
        """Turn an optional behaviour on (KVM_ENABLE_CAP).

        Raises
        ------
        KvmError
            EINVAL for a capability that cannot be enabled.
        """
        if cap == Cap.ARM_NISV_TO_USER:
            self.nisv_to_user = True
        elif cap == Cap.ARM_SEA_TO_USER:
            self.sea_to_user = True
        else:
            names = ", ".join(f"{known.name} ({known:d})" for known in Cap)
            raise KvmError(Errno.EINVAL, f"capability {cap} cannot be enabled; there are {names}")

    # --- vCPUs and devices ---------------------------------------------------------------

    def create_vcpu(self, index: int) -> VCPU:
        """Create a vCPU on the PE of the same index (KVM_CREATE_VCPU).

        Raises
        ------
        KvmError
            EINVAL if the machine has no such PE, EEXIST if the vCPU exists.
        """
        pes = self.machine.pes
        if not 0 <= index < len(pes):
            raise KvmError(
                Errno.EINVAL,
                f"vCPU {index} needs a PE of its own and the machine has {len(pes)}; "
                f"use 0 to {len(pes) - 1}, or build a machine with more",
            )
        if index in self.vcpus:
            raise KvmError(Errno.EEXIST, f"vCPU {index} exists; use vm.vcpus[{index}]")
        vcpu = self.vcpus[index] = VCPU(self, index, pes[index])
        return vcpu

    def vcpu_by_mpidr(self, mpidr: int) -> VCPU | None:
        """Return the vCPU with this affinity."""
        for vcpu in self.vcpus.values():
            if vcpu.mpidr & MPIDR_AFFINITY == mpidr:
                return vcpu
        return None

    def register_device(self, base: IPA, size: int, device: Device) -> None:
        """Let ``device`` serve a range of guest physical addresses that no slot backs.

        Raises
        ------
        KvmError
            EINVAL for an empty range, EEXIST if another device has part of it.
        """
        self.io_bus.register(base, size, device)

    # --- memory --------------------------------------------------------------------------

    def set_user_memory_region(self, region: MemoryRegion) -> None:
        """Create, delete, move or reflag a memory slot (KVM_SET_USER_MEMORY_REGION).

        Parameters
        ----------
        region
            The slot as it is to be. Size 0 deletes it; another address moves it.

        Raises
        ------
        KvmError
            EINVAL for impossible values or changes, EEXIST for an overlap with
            another slot, EFAULT beyond the IPA size.
        """
        change, old = prepare_memory_region(self.memslots, region, self.ipa_end)
        if change is RegionChange.NONE:
            return
        if change in (RegionChange.DELETE, RegionChange.MOVE):
            assert old is not None
            self.memslots.remove(old.id)
            self.pgt.unmap(old.base_ipa, old.size)
        if change is RegionChange.DELETE:
            return
        slot = MemorySlot.of(region, old)
        self.memslots.install(slot)
        if slot.logging:
            self.wp_memory_region(slot)

    def wp_memory_region(self, slot: MemorySlot) -> None:
        """Take the right to write from a whole slot (``kvm_mmu_wp_memory_region``)."""
        self.pgt.wrprotect(slot.base_ipa, slot.size)
        self.pgt.tlb.flush_vmid_range(slot.base_ipa, slot.size)

    def get_dirty_log(self, slot_id: int) -> bytes:
        """Return the dirty bitmap of a slot and start afresh (KVM_GET_DIRTY_LOG).

        Returns
        -------
        bytes
            One bit for each page, in little-endian 64-bit words;
            :func:`hyp.dirty.dirty_pages` reads it.

        Raises
        ------
        KvmError
            EINVAL for an impossible slot number; ENOENT if the slot has no bitmap.
        """
        slot = self.memslots.by_id(slot_id)
        if slot is None or slot.dirty_bitmap is None:
            raise KvmError(
                Errno.ENOENT,
                f"slot {slot_id} has no dirty bitmap; set LOG_DIRTY_PAGES on it first",
            )
        bitmap = slot.dirty_bitmap.copy()
        protected = False
        for first_page, mask in slot.dirty_bitmap.take_words():
            self._enable_log_dirty_pt_masked(slot, first_page, mask)
            protected = True
        if protected:
            self.pgt.tlb.flush_vmid_range(slot.base_ipa, slot.size)
        return bitmap

    def _enable_log_dirty_pt_masked(self, slot: MemorySlot, first_page: int, mask: int) -> None:
        """Write-protect the pages of a mask, and those between them."""
        first, last = mask_range(mask)
        start = (slot.base_gfn + first_page + first) << PAGE_SHIFT
        self.pgt.wrprotect(IPA(start), (last - first + 1) << PAGE_SHIFT)

    def read_guest(self, ipa: IPA, size: int) -> bytes | None:
        """Read guest physical memory within one page; ``None`` where no slot backs it."""
        slot = self.memslots.find(ipa >> PAGE_SHIFT)
        if slot is None:
            return None
        hva = slot.hva_of(ipa >> PAGE_SHIFT) + (ipa & PAGE_MASK)
        if self.host.vma_lookup(hva) is None:
            return None
        return self.host.read(HVA(hva), size)

    def stage2_flush(self) -> None:
        """Clean all of the guest's memory from the caches (``stage2_flush_vm``)."""
        for slot in self.memslots:
            self.pgt.flush(slot.base_ipa, slot.size)

    def stage2_unmap(self) -> None:
        """Make all of the guest's memory fault in again (``stage2_unmap_vm``).

        A vCPU that is reset starts with its caches off, and is to see memory as
        it was cleaned on the way in. With FEAT_S2FWB only the instruction caches matter.
        """
        if self.features.fwb:
            self.pgt.cmo.icache_inval_all_pou()
            return
        for slot in self.memslots:
            self.pgt.unmap(slot.base_ipa, slot.size)

    def destroy(self) -> None:
        """Give back the page tables and caches; the VM cannot run any more."""
        self.pgt.destroy()
        for vcpu in self.vcpus.values():
            vcpu.memcache.free()
