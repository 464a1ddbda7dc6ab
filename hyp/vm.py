"""A virtual machine: the VM file descriptor of KVM (virt/kvm/kvm_main.c, arm.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.capabilities import Cap, check_extension, enable_cap
from hyp.cpufeature import HostFeatures
from hyp.dirty_log import DirtyLog
from hyp.errors import Errno, KvmError
from hyp.event_stream import Events
from hyp.firmware import Firmware
from hyp.gmem import GuestMemfd, require_guest_memfd
from hyp.guest_memory import kvm_read_guest, kvm_write_guest
from hyp.idregs import guest_id_registers
from hyp.interrupts import VirtualInterrupts
from hyp.iobus import IoBus
from hyp.kvm import Kvm
from hyp.load import kvm_arch_vcpu_put
from hyp.memslots import MemSlots
from hyp.notifier import KvmMmuNotifier
from hyp.pmu import ArmPmu
from hyp.profiles import profile_named
from hyp.regions import refuse_guest_memfd
from hyp.reset import MPIDR_AFFINITY
from hyp.slot_update import set_memory_region
from hyp.stage2_mmu import kvm_init_stage2_mmu, kvm_uninit_stage2_mmu
from hyp.stats import Stats
from hyp.steps import Steps
from hyp.vcpu import VCPU
from hyp.vgic import kvm_irq_line
from hyp.vmid import KvmVmid
from hyp.vtcr import Stage2Geometry, ipa_bits_of_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.address import IPA
    from emu.machine import Machine
    from hyp.devices.device import Device
    from hyp.host import HostMemory
    from hyp.memslots import MemoryRegion, MemoryRegion2
    from hyp.vcpu_features import VcpuFeature
    from hyp.vgic import Vgic, VgicDevice

__all__ = ["VM", "Cap"]

KVM_MAX_VCPUS: Final = 512


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
    profile
        How KVM handles aborts: as in "2012", "2018", "2021" or "2026".
    seed
        Of the random numbers that the firmware gives the guest.

    Attributes
    ----------
    events, stats
        What the hypervisor does, as a stream and as counters.
    steps
        How it does its steps: as it should, unless an experiment says otherwise.
    mmu_events
        A second stream, of what KVM has no tracepoints for: how faults use spare tables.
    memslots
        The memory slots.
    vcpus
        The vCPUs by index.
    vgic
        The virtual GIC, once there is one.
    interrupts
        What its GIC signals to its vCPUs.
    woken
        Set when a vCPU that had nothing to do has been given something.
    kvm
        What all VMs on the machine share.
    vmid, last_vcpu_ran
        The tag of the VM's TLB entries, and for each PE the vCPU that ran there last; -1
        before the first.
    dirty_log
        Dirty logging: bitmaps, rings, and how they are collected.
    notifier
        Hears of changes of the VMM process's memory.
    system_suspend
        Whether PSCI SYSTEM_SUSPEND is offered; it is an exit.
    vcpu_features, arm_pmu
        The features that all vCPUs have, None before the first is initialised; and their
        performance monitors.
    firmware
        What the guest's firmware offers.
    synchronize_srcu
        Called where a change of the slots waits for the other CPUs, which may run here.

    Raises
    ------
    KvmError
        EINVAL for an IPA size or a profile that is not possible; ENOMEM without
        memory for tables.
    """

    features: HostFeatures
    dirty_log: DirtyLog
    notifier: KvmMmuNotifier

    def __init__(
        self,
        machine: Machine,
        ipa_bits: int = 40,
        *,
        host: HostMemory | None = None,
        profile: str = "2026",
        seed: int = 0,
    ) -> None:
        self.profile = profile_named(profile)
        pe = machine.pes[0]
        self.machine = machine
        self.features = HostFeatures.of(pe)
        self.ipa_bits = ipa_bits_of_type(ipa_bits, self.features.ipa_limit)
        self.ipa_end = 1 << self.ipa_bits
        self.kvm = Kvm.of(machine, self.features, host)
        self.host = self.kvm.host if host is None else host
        self.host.copies_huge_zero = self.profile.copies_huge_zero
        self.events = Events()
        self.mmu_events = Events()
        self.stats = Stats()
        self.steps = Steps()
        self.memslots = MemSlots()
        self.io_bus = IoBus()
        self.synchronize_srcu: Callable[[], None] | None = None
        self.vgic: Vgic | None = None
        self.interrupts = VirtualInterrupts(self)
        self.woken = False
        self.vcpus: dict[int, VCPU] = {}
        self.id_registers = guest_id_registers(pe)
        self.nisv_to_user = False
        self.sea_to_user = False
        self.system_suspend = False
        self.vcpu_features: VcpuFeature | None = None
        self.arm_pmu = ArmPmu(version=0, nr_counters=0)
        self.firmware = Firmware(self.profile, seed)

        self.vmid = KvmVmid()
        self.last_vcpu_ran = [-1] * len(machine.pes)
        self.geometry = Stage2Geometry.of(self.ipa_bits)
        self.vtcr = self.geometry.vtcr(self.features)
        self.pgt = kvm_init_stage2_mmu(self)
        self.dirty_log = DirtyLog(self)
        self.notifier = KvmMmuNotifier(self)
        self.host.notifiers.register(self.notifier)

    def enable_cap(self, cap: int, value: int = 0) -> None:
        """Turn an optional behaviour on (KVM_ENABLE_CAP).

        Parameters
        ----------
        cap
            The capability.
        value
            Its argument, where it has one.

        Raises
        ------
        KvmError
            EINVAL for a capability that cannot be enabled, with this value, or now.
        """
        enable_cap(self, cap, value)

    def check_extension(self, cap: int) -> int:
        """Return what the VM can do (KVM_CHECK_EXTENSION): 0 if it does not know of it."""
        return check_extension(self, cap)

    @property
    def has_run_once(self) -> bool:
        """Whether any vCPU has been run (``kvm_vm_has_ran_once``)."""
        return any(vcpu.has_run_once for vcpu in self.vcpus.values())

    # --- vCPUs and devices ---------------------------------------------------------------

    def create_vcpu(self, index: int) -> VCPU:
        """Create a vCPU (KVM_CREATE_VCPU).

        Raises
        ------
        KvmError
            EINVAL for an index that is too large, EEXIST if the vCPU exists.
        """
        if not 0 <= index < KVM_MAX_VCPUS:
            raise KvmError(
                Errno.EINVAL, f"vCPU {index} is not possible; use 0 to {KVM_MAX_VCPUS - 1}"
            )
        if index in self.vcpus:
            raise KvmError(Errno.EEXIST, f"vCPU {index} exists; use vm.vcpus[{index}]")
        vcpu = self.vcpus[index] = VCPU(self, index)
        if self.vgic is not None:
            try:
                self.vgic.vcpu_init()
            except KvmError:
                del self.vcpus[index]
                raise
        return vcpu

    def create_device(self, type_: int, flags: int = 0) -> VgicDevice | None:
        """Create a virtual GIC (KVM_CREATE_DEVICE).

        Parameters
        ----------
        type_
            Of :class:`~hyp.vgic.DeviceType`.
        flags
            1 to only ask whether it is possible; the answer then is ``None``.

        Raises
        ------
        KvmError
            ENODEV for another type, or a GICv3 where the machine's CPUs have none; EEXIST if
            the VM has a GIC, EBUSY if a vCPU has run, E2BIG for too many vCPUs.
        """
        return self.interrupts.create_device(type_, flags)

    def irq_line(self, irq: int, *, level: bool) -> None:
        """Move the input of an interrupt (KVM_IRQ_LINE).

        Parameters
        ----------
        irq
            Which, as :class:`~hyp.vgic.IrqLine`.
        level
            The level of a level-sensitive interrupt; true triggers an edge-triggered one.

        Raises
        ------
        KvmError
            ENXIO without a GIC, EINVAL for an interrupt that does not exist, EBUSY for a
            GICv3 that is not initialised.
        """
        kvm_irq_line(self, self.vgic, irq, level=level)

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
        refuse_guest_memfd(region)
        set_memory_region(self, region)

    def set_user_memory_region2(self, region: MemoryRegion2) -> None:
        """Do the same, also with a guest_memfd (KVM_SET_USER_MEMORY_REGION2).

        Raises
        ------
        KvmError
            As :meth:`set_user_memory_region`; EINVAL or EBADF for a guest_memfd that
            cannot be bound; EINVAL where the profile has no such call.
        """
        require_guest_memfd(self, "KVM_SET_USER_MEMORY_REGION2")
        set_memory_region(self, region)

    def create_guest_memfd(self, size: int, flags: int = 0) -> GuestMemfd:
        """Make memory that only this VM has (KVM_CREATE_GUEST_MEMFD).

        Raises
        ------
        KvmError
            EINVAL for unknown flags, or a size that is not a positive number of pages, and
            where the profile has no such call.
        """
        require_guest_memfd(self, "KVM_CREATE_GUEST_MEMFD")
        return GuestMemfd(self, size, flags)

    def get_dirty_log(self, slot_id: int) -> bytes:
        """Return the dirty bitmap of a slot (KVM_GET_DIRTY_LOG).

        Without manual protection, the bitmap starts afresh and the next write to each of
        its pages is seen again.

        Returns
        -------
        bytes
            One bit for each page, in little-endian 64-bit words;
            :func:`hyp.dirty.dirty_pages` reads it.

        Raises
        ------
        KvmError
            EINVAL for an impossible slot number; ENOENT if the slot has no bitmap;
            ENXIO if the VM logs in rings alone.
        """
        return self.dirty_log.get(slot_id)

    def clear_dirty_log(self, slot_id: int, first_page: int, num_pages: int, bitmap: bytes) -> None:
        """Start afresh for some pages of a slot (KVM_CLEAR_DIRTY_LOG).

        Parameters
        ----------
        slot_id
            The slot.
        first_page, num_pages
            Where in the slot ``bitmap`` begins, a multiple of 64, and its length: a
            multiple of 64 unless it ends with the slot.
        bitmap
            The pages, as KVM_GET_DIRTY_LOG gives them.

        Raises
        ------
        KvmError
            EINVAL for a range that is misaligned or not in the slot; EFAULT for a bitmap
            that is shorter; ENOENT and ENXIO as for :meth:`get_dirty_log`.
        """
        self.dirty_log.clear(slot_id, first_page, num_pages, bitmap)

    def reset_dirty_rings(self) -> int:
        """Take harvested ring entries back (KVM_RESET_DIRTY_RINGS).

        Returns
        -------
        int
            How many entries of all vCPUs' rings are free again; the next write to their
            pages is seen.

        Raises
        ------
        KvmError
            EINVAL if the VM has no rings.
        """
        return self.dirty_log.reset_rings()

    def read_guest(self, ipa: IPA, size: int) -> bytes | None:
        """Read guest physical memory; ``None`` if any of it cannot be read."""
        data = kvm_read_guest(self, ipa, size)
        return None if isinstance(data, Errno) else data

    def write_guest(self, ipa: IPA, data: bytes) -> Errno:
        """Write guest physical memory as a device does, and mark the pages dirty.

        Returns
        -------
        Errno
            As of :func:`~hyp.guest_memory.kvm_write_guest`.
        """
        return kvm_write_guest(self, ipa, data)

    def destroy(self) -> None:
        """Give back the page tables and caches; the VM cannot run any more."""
        for vcpu in self.vcpus.values():
            if vcpu.loaded_on is not None:
                kvm_arch_vcpu_put(vcpu)
        self.host.notifiers.unregister(self.notifier)
        kvm_uninit_stage2_mmu(self)
        for vcpu in self.vcpus.values():
            vcpu.memcache.free()
