"""Guest aborts: what KVM's mmu.c does with a fault of stage 2.

``kvm_handle_guest_abort`` decides whose fault it is: KVM's (memory not mapped
yet), the guest's (an abort is injected), or user space's (MMIO).
``user_mem_abort`` brings in the host page and maps it. The order of the
decisions is the kernel's of 2026, and it matters.

Every handler returns ``None`` to enter the guest again, or the exit for user space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PA, PAGE_SHIFT, VA
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ESR_EL2
from hyp.errors import Errno
from hyp.events import KvmAccessFault, KvmGuestFault
from hyp.exits import ArmSea, Error, Exit, SeaFlags
from hyp.fault_info import (
    ACCESS_FLAG,
    EXCL_ATOMIC,
    PERMISSION,
    TRANSLATION,
    fnv,
    populate_fault_info,
)
from hyp.gmem import gmem_abort
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K, FaultinError
from hyp.inject import (
    kvm_incr_pc,
    kvm_inject_dabt_excl_atomic,
    kvm_inject_sea,
    kvm_inject_serror,
    kvm_inject_size_fault,
)
from hyp.mmio import io_mem_abort
from hyp.pte import GRANULE, Prot
from hyp.stats import Resolution

if TYPE_CHECKING:
    from hyp.fault_info import FaultInfo
    from hyp.host import HVA, Vma
    from hyp.memslots import MemorySlot
    from hyp.vcpu import VCPU

_ACCEPTED: Final = frozenset({TRANSLATION, PERMISSION, ACCESS_FLAG, EXCL_ATOMIC})

_PROT: Final = (
    (Prot.R, Prot.R | Prot.X),
    (Prot.R | Prot.W, Prot.R | Prot.W | Prot.X),
)
"""By [writable][executable]."""

_SEA_ESR_MASK: Final = (
    ESR_EL2.EC.in_place
    | ESR_EL2.IL.in_place
    | IssDataAbort.FnV.in_place
    | IssDataAbort.EA.in_place
    | IssDataAbort.CM.in_place
    | IssDataAbort.WnR.in_place
    | IssDataAbort.DFSC.in_place
)
"""What KVM_EXIT_ARM_SEA shows of ESR_EL2."""


def handle_abort(vcpu: VCPU, esr: int) -> Exit | None:
    """Take an abort from its entry to EL2 (the exit handler of IABT_LOW and DABT_LOW)."""
    fault = populate_fault_info(vcpu.pe, esr)
    if fault is None:
        return None
    vcpu.fault = fault
    return kvm_handle_guest_abort(vcpu, fault)


def kvm_handle_guest_abort(vcpu: VCPU, fault: FaultInfo) -> Exit | None:
    """Decide what becomes of an abort."""
    if fault.is_sea:
        return kvm_handle_guest_sea(vcpu, fault)
    ipa = fault.ipa
    assert ipa is not None, "only an external abort comes without its IPA"
    vm = vcpu.vm
    kind = fault.fault
    if kind is TRANSLATION and ipa >= vm.ipa_end:
        _ipa_too_large(vcpu, fault, ipa)
        return None

    emit = vm.events.emit
    if emit is not None:
        emit(KvmGuestFault(vcpu.index, vcpu.pe.retired, vcpu.pc, fault.esr, fault.far, ipa))
    if kind not in _ACCEPTED:
        return _failed(
            vcpu,
            fault,
            Errno.EFAULT,
            f"Unsupported FSC: EC={fault.ec:#x} xFSC={fault.fsc:#x} ESR_EL2={fault.esr:#x}",
        )

    slot = vm.memslots.find(ipa >> PAGE_SHIFT)
    write_fault = fault.is_write
    if slot is None or (write_fault and slot.readonly):
        return _outside_slots(vcpu, fault, ipa, slot)
    if kind is ACCESS_FLAG:
        handle_access_fault(vcpu, fault, ipa)
        return None
    if slot.gmem is not None:
        return gmem_abort(vcpu, fault, ipa, slot)
    return user_mem_abort(vcpu, fault, ipa, slot)


def _ipa_too_large(vcpu: VCPU, fault: FaultInfo, ipa: IPA) -> None:
    """Give the guest an abort for an address that its machine does not have."""
    if ipa >= 1 << vcpu.vm.features.ipa_limit:
        kvm_inject_size_fault(vcpu, fault)
    else:
        kvm_inject_sea(vcpu, is_iabt=fault.is_iabt, far=ipa | fault.offset)
    _count(vcpu, fault, Resolution.INJECTED)


def _outside_slots(vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot | None) -> Exit | None:
    """Handle an access to no slot, or a write to a read-only one."""
    if fault.is_iabt or fault.is_s1ptw:
        kvm_inject_sea(vcpu, is_iabt=fault.is_iabt, far=fault.far)
        _count(vcpu, fault, Resolution.INJECTED)
        return None
    if slot is None and fault.data.CM:
        # Cleaning memory that is not there is no error.
        kvm_incr_pc(vcpu)
        _count(vcpu, fault, Resolution.SKIPPED)
        return None
    _count(vcpu, fault, Resolution.MMIO if fault.data.ISV else Resolution.NISV)
    return io_mem_abort(vcpu, fault, IPA(ipa | fault.offset))


def kvm_handle_guest_sea(vcpu: VCPU, fault: FaultInfo) -> Exit | None:
    """Handle an external abort that the guest's access met in physical memory."""
    _count(vcpu, fault, Resolution.SEA)
    if fault.is_s1ptw or not vcpu.vm.sea_to_user:
        kvm_inject_serror(vcpu)
        return None
    return ArmSea(
        flags=SeaFlags(0) if fault.ipa is None else SeaFlags.GPA_VALID,
        esr=fault.esr & _SEA_ESR_MASK,
        gva=VA(0) if fnv(fault.esr) else fault.far,
        gpa=fault.ipa or IPA(0),
    )


def handle_access_fault(vcpu: VCPU, fault: FaultInfo, ipa: IPA) -> None:
    """Set the access flag again; no page is looked up."""
    emit = vcpu.vm.events.emit
    if emit is not None:
        emit(KvmAccessFault(vcpu.index, vcpu.pe.retired, ipa))
    vcpu.vm.pgt.mkyoung(ipa)
    _count(vcpu, fault, Resolution.ACCESS_FLAG)


# --- user_mem_abort: bring the host page in, and map it --------------------------------------


class PinnedPage(NamedTuple):
    """The host page that a fault is to map."""

    ipa: IPA
    pa: PA
    size: int
    writable: bool
    seq: int
    """``mmu_invalidate_seq``, as it was before the page was looked up."""


def user_mem_abort(vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot) -> Exit | None:
    """Map the host page behind ``ipa``."""
    vm = vcpu.vm
    # A permission fault needs no table, unless it splits a block for logging.
    needs_tables = fault.fault is not PERMISSION or slot.logging
    if needs_tables and vcpu.memcache.topup(vm.geometry.cache_min_pages):
        return _failed(vcpu, fault, Errno.ENOMEM, "no memory left for stage-2 tables")
    page = kvm_s2_fault_pin_pfn(vcpu, fault, ipa, slot)
    if isinstance(page, Error):
        return page
    if fault.fault is EXCL_ATOMIC:
        kvm_inject_dabt_excl_atomic(vcpu, fault)
        _count(vcpu, fault, Resolution.INJECTED)
        return None
    writable = page.writable and (fault.is_write or not slot.logging)
    cmo = vm.pgt.cmo
    executable = cmo.executable(is_exec=fault.is_exec)
    is_permission = fault.fault is PERMISSION
    cmo.before_map(page.pa, page.size, is_exec=fault.is_exec, is_permission=is_permission)
    return kvm_s2_fault_map(vcpu, fault, page, slot, _PROT[writable][executable])


def kvm_s2_fault_pin_pfn(
    vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot
) -> PinnedPage | Error:
    """Find the host page, bring it into being, and decide how much of it to map."""
    host = vcpu.vm.host
    hva = slot.hva_of(ipa >> PAGE_SHIFT)
    vma = host.vma_lookup(hva)
    if vma is None:
        return _failed(vcpu, fault, Errno.EFAULT, f"Failed to find VMA for hva {hva:#x}")
    seq = vcpu.vm.notifier.seq
    pfn = host.faultin_pfn(vma, hva, write=fault.is_write)
    if isinstance(pfn, FaultinError):
        if pfn is FaultinError.NO_ACCESS:
            access = "written" if fault.is_write else "read"
            return _failed(
                vcpu, fault, Errno.EFAULT, f"hva {hva:#x} may not be {access} ({vma.prot!r})"
            )
        errno = Errno.ENOMEM if pfn is FaultinError.NO_MEMORY else Errno.EFAULT
        return _failed(vcpu, fault, errno, f"hva {hva:#x} cannot be had: {pfn.value}")
    size = kvm_s2_resolve_vma_size(vma, hva, slot)
    writable = pfn.writable and not slot.readonly
    return PinnedPage(IPA(ipa & -size), PA(pfn.pa & -size), size, writable, seq)


def kvm_s2_fault_map(
    vcpu: VCPU, fault: FaultInfo, page: PinnedPage, slot: MemorySlot, prot: Prot
) -> Exit | None:
    """Install the mapping, or add rights to the one that is there."""
    vm = vcpu.vm
    if vm.notifier.retry(page.seq):
        _count(vcpu, fault, Resolution.RETRIED)
        return None
    if fault.fault is PERMISSION and page.size == GRANULE[fault.level]:
        error = vm.pgt.relax_perms(page.ipa, prot)
        resolution = Resolution.RELAXED
    else:
        error = vm.pgt.map(page.ipa, page.size, page.pa, prot, vcpu.memcache)
        resolution = Resolution.MAPPED
    if error is Errno.EAGAIN:
        _count(vcpu, fault, Resolution.RETRIED)
        return None
    if error:
        return _failed(vcpu, fault, error, f"cannot map ipa {page.ipa:#x} at stage 2")
    if resolution is Resolution.MAPPED:
        vm.stats.pages_mapped[page.size] += 1
    _count(vcpu, fault, resolution)
    if prot & Prot.W:
        # Only what is mapped writable can be dirty, and only once it is mapped.
        vm.dirty_log.mark_page_dirty_in_slot(slot, page.ipa >> PAGE_SHIFT, vcpu)
    return None


def kvm_s2_resolve_vma_size(vma: Vma, hva: HVA, slot: MemorySlot) -> int:
    """Return the size to map: the host page's, if the slot allows it."""
    if slot.logging or vma.page_shift == PAGE_SHIFT:
        return SIZE_4K
    for size in (SIZE_1G, SIZE_2M):
        if size <= 1 << vma.page_shift and fault_supports_stage2_huge_mapping(slot, hva, size):
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


# --- bookkeeping -----------------------------------------------------------------------------


def _count(vcpu: VCPU, fault: FaultInfo, resolution: Resolution) -> None:
    vcpu.vm.stats.aborts[fault.ec, fault.fsc, resolution] += 1


def _failed(vcpu: VCPU, fault: FaultInfo, errno: Errno, message: str) -> Error:
    """KVM_RUN fails; the guest's state is as at the access, so that it can be repeated."""
    _count(vcpu, fault, Resolution.FAILED)
    return Error(errno, message)
