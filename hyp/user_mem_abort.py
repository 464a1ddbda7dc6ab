"""Bringing in the host page behind a guest's access, and mapping it (``user_mem_abort``).

Four stages: make sure of spare tables, look the host page up, decide what the mapping
is to allow, install it. What the host changes between the second and the last stage
makes the last one give up; the guest then faults again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA, PA, PAGE_SHIFT
from hyp.errors import Errno
from hyp.events import MemcacheTopup, Stage2Install
from hyp.exits import Error, Intr, IntrCause, Sigbus
from hyp.fault_info import EXCL_ATOMIC, PERMISSION
from hyp.host import SIZE_4K, FaultinError, HostPfn, PfnMemory
from hyp.hugepages import kvm_s2_resolve_vma_size, transparent_hugepage_adjust
from hyp.inject import kvm_inject_dabt_excl_atomic, kvm_inject_sea
from hyp.profiles import Install, Topup
from hyp.pte import GRANULE, Prot, pte_executable, pte_valid
from hyp.set_pte import stage2_set_pte
from hyp.stats import Resolution
from hyp.steps import Step

if TYPE_CHECKING:
    from hyp.exits import Exit
    from hyp.fault_info import FaultInfo
    from hyp.host import HVA, Vma
    from hyp.memslots import MemorySlot
    from hyp.vcpu import VCPU
    from hyp.vm import VM

_OK: Final = Errno.OK
_EAGAIN: Final = Errno.EAGAIN
_MAPPED: Final = Resolution.MAPPED
_RELAXED: Final = Resolution.RELAXED
_RELAX: Final = Install.RELAX
_WRITABLE: Final = int(Prot.W)

_PROT: Final = (
    (Prot.R, Prot.R | Prot.X),
    (Prot.R | Prot.W, Prot.R | Prot.W | Prot.X),
)
"""By [writable][executable]."""

_UNCACHED: Final[dict[PfnMemory, Prot | None]] = {
    PfnMemory.DEVICE: Prot.DEVICE,
    PfnMemory.ANY_UNCACHED: Prot.NORMAL_NC,
    PfnMemory.CACHEABLE: None,
}
"""What raw frames are mapped as, beside normal memory."""


class PinnedPage:
    """The host page that a fault is to map.

    Parameters
    ----------
    pa
        The 4 KiB frame of the access.
    hva, vma
        Where the process has it.
    size
        How much to map, as far as the area decides.
    writable
        Whether it may be mapped writable.
    uncached
        The memory type of raw frames; ``None`` for normal memory.
    seq
        ``mmu_invalidate_seq``, as it was before the page was looked up.
    """

    __slots__ = ("hva", "pa", "seq", "size", "uncached", "vma", "writable")

    def __init__(
        self,
        pa: PA,
        hva: HVA,
        vma: Vma,
        size: int,
        writable: bool,
        uncached: Prot | None,
        seq: int,
    ) -> None:
        self.pa = pa
        self.hva = hva
        self.vma = vma
        self.size = size
        self.writable = writable
        self.uncached = uncached
        self.seq = seq


def user_mem_abort(vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot) -> Exit | None:
    """Map the host page behind ``ipa``.

    Returns
    -------
    Exit or None
        ``None`` to enter the guest again.
    """
    vm = vcpu.vm
    profile = vm.profile
    if profile.refuses(fault):
        return failed(vcpu, fault, Errno.EFAULT, "Unexpected L2 read permission error")
    if profile.needs_topup(fault, slot) and _lacks_pages(vcpu):
        return failed(vcpu, fault, Errno.ENOMEM, "no memory left for stage-2 tables")
    page = kvm_s2_fault_pin_pfn(vcpu, fault, ipa, slot)
    if not isinstance(page, PinnedPage):
        return page
    prot = kvm_s2_fault_compute_prot(vcpu, fault, ipa, page, slot)
    if prot is None:
        count(vcpu, fault, Resolution.INJECTED)
        return None
    return kvm_s2_fault_map(vcpu, fault, ipa, page, slot, prot)


def topup(vcpu: VCPU) -> Errno:
    """Make sure of enough spare pages for the tables that one mapping can need."""
    vm, cache = vcpu.vm, vcpu.memcache
    minimum = vm.profile.topup_min or vm.geometry.cache_min_pages
    emit = vm.mmu_events.emit
    if emit is None:
        return cache.topup(minimum)
    before = len(cache)
    error = cache.topup(minimum)
    if len(cache) != before:
        emit(MemcacheTopup(vcpu.index, vcpu.pe.retired, len(cache) - before, len(cache)))
    return error


def _lacks_pages(vcpu: VCPU) -> bool:
    steps = vcpu.vm.steps
    return bool(steps.do(Step.TOPUP, topup, vcpu) if steps.deviating else topup(vcpu))


# --- the host page ---------------------------------------------------------------------------


def kvm_s2_fault_pin_pfn(
    vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot
) -> PinnedPage | Exit:
    """Find the host page, bring it into being, and decide how much of it to map."""
    vm = vcpu.vm
    hva = slot.hva_of(ipa >> PAGE_SHIFT)
    vma = vm.host.vma_lookup(hva)
    if vma is None:
        return failed(vcpu, fault, Errno.EFAULT, f"Failed to find VMA for hva {hva:#x}")
    size = kvm_s2_resolve_vma_size(vm.profile, vma, hva, slot)
    seq = vm.notifier.seq
    pfn = vm.host.faultin_pfn(vma, hva, write=fault.is_write)
    if not isinstance(pfn, HostPfn):
        return _no_page(vcpu, fault, hva, vma, pfn)
    uncached = None
    if vma.pfn is not None and not vm.machine.memory.contains(pfn.pa):
        uncached = _uncached(vcpu, vma)
        if uncached is None and not (vm.features.fwb and vm.features.dic):
            return failed(
                vcpu,
                fault,
                Errno.EFAULT,
                f"hva {hva:#x} is cacheable memory of a device, and the machine lacks "
                "FEAT_S2FWB or CTR_EL0.DIC",
            )
    writable = pfn.writable and not slot.readonly
    return PinnedPage(pfn.pa, hva, vma, size, writable, uncached, seq)


def _uncached(vcpu: VCPU, vma: Vma) -> Prot | None:
    """Return the memory type for raw frames; ``None`` for cacheable memory."""
    if not vcpu.vm.profile.pfn_memory:
        return Prot.DEVICE
    return _UNCACHED[vma.pfn_memory]


def _no_page(vcpu: VCPU, fault: FaultInfo, hva: HVA, vma: Vma, error: FaultinError) -> Exit:
    """End the run: there is no page. The guest's state is as at the access."""
    if error is FaultinError.HWPOISON and vcpu.vm.profile.hwpoison_signal:
        count(vcpu, fault, Resolution.SIGNALLED)
        return Sigbus(si_addr=hva, si_addr_lsb=vma.page_shift)
    if error is FaultinError.BLOCKED:
        count(vcpu, fault, Resolution.BLOCKED)
        return Intr(IntrCause.USERFAULT)
    if error is FaultinError.NO_ACCESS:
        access = "written" if fault.is_write else "read"
        return failed(vcpu, fault, Errno.EFAULT, f"hva {hva:#x} may not be {access} ({vma.prot!r})")
    errno = Errno.ENOMEM if error is FaultinError.NO_MEMORY else Errno.EFAULT
    return failed(vcpu, fault, errno, f"hva {hva:#x} cannot be had: {error.value}")


# --- what it is mapped as --------------------------------------------------------------------


def kvm_s2_fault_compute_prot(
    vcpu: VCPU, fault: FaultInfo, ipa: IPA, page: PinnedPage, slot: MemorySlot
) -> Prot | None:
    """Return what the mapping is to allow; ``None`` if the guest gets an abort instead."""
    if page.uncached is not None and fault.is_exec:
        # -ENOEXEC
        kvm_inject_sea(vcpu, is_iabt=True, far=fault.far)
        return None
    if fault.fault is EXCL_ATOMIC:
        kvm_inject_dabt_excl_atomic(vcpu, fault)
        return None
    if page.uncached is not None:
        return (Prot.R | Prot.W if page.writable else Prot.R) | page.uncached
    # A page that is logged becomes writable when it is written, not before.
    writable = page.writable and (fault.is_write or not slot.logging)
    return _PROT[writable][_executable(vcpu, fault, ipa)]


def _executable(vcpu: VCPU, fault: FaultInfo, ipa: IPA) -> bool:
    """Return whether a page is to be executable."""
    vm = vcpu.vm
    if vm.pgt.cmo.executable(is_exec=fault.is_exec):
        return True
    if not vm.profile.keeps_exec or fault.fault is not PERMISSION:
        return False
    leaf = vm.pgt.get_leaf(ipa).pte
    return pte_valid(leaf) and pte_executable(leaf)


# --- installing it ---------------------------------------------------------------------------


def kvm_s2_fault_map(
    vcpu: VCPU, fault: FaultInfo, ipa: IPA, page: PinnedPage, slot: MemorySlot, prot: Prot
) -> Exit | None:
    """Install the mapping, or add rights to the one that is there, if the page is still that."""
    vm = vcpu.vm
    size: int | None = page.size
    if _changed_meanwhile(vm, page.seq):
        size = None
    elif page.vma.thp and size == SIZE_4K and not slot.logging and vm.profile.thp:
        size = transparent_hugepage_adjust(vm.profile, vm.host, fault, page.hva, slot)
    if size is None:
        count(vcpu, fault, Resolution.RETRIED)
        return None
    if vm.profile.topup is Topup.GRANULE and GRANULE[fault.level] > size and _lacks_pages(vcpu):
        return failed(vcpu, fault, Errno.ENOMEM, "no memory left for stage-2 tables")
    ipa, pa = IPA(ipa & -size), PA(page.pa & -size)
    if page.uncached is None:
        is_permission = fault.fault is PERMISSION
        vm.pgt.cmo.before_map(pa, size, is_exec=fault.is_exec, is_permission=is_permission)
    emit = vm.mmu_events.emit
    spare = 0 if emit is None else len(vcpu.memcache)
    if vm.steps.deviating:
        installed = vm.steps.do(Step.INSTALL, _install, vcpu, fault, ipa, size, pa, prot)
        error, resolution = installed or (_OK, _MAPPED)
    else:
        error, resolution = _install(vcpu, fault, ipa, size, pa, prot)
    if emit is not None:
        granule, taken = GRANULE[fault.level], spare - len(vcpu.memcache)
        emit(
            Stage2Install(
                vcpu.index, vcpu.pe.retired, ipa, granule, size, prot, resolution, taken, error
            )
        )
    if error is _EAGAIN:
        count(vcpu, fault, Resolution.RETRIED)
        return None
    if error is not _OK:
        return failed(vcpu, fault, error, f"cannot map ipa {ipa:#x} at stage 2")
    if resolution is _MAPPED:
        vm.stats.pages_mapped[size] += 1
    count(vcpu, fault, resolution)
    if slot.logs_dirty and int(prot) & _WRITABLE:
        # Only what is mapped writable can be dirty, and only once it is mapped.
        mark, gfn = vm.dirty_log.mark_page_dirty_in_slot, ipa >> PAGE_SHIFT
        if vm.steps.deviating:
            vm.steps.do(Step.MARK_PAGE_DIRTY, mark, slot, gfn, vcpu)
        else:
            mark(slot, gfn, vcpu)
    return None


def _changed_meanwhile(vm: VM, seq: int) -> bool:
    if vm.steps.deviating:
        return bool(vm.steps.do(Step.INVALIDATE_RETRY, vm.notifier.retry, seq))
    return vm.notifier.retry(seq)


def _install(
    vcpu: VCPU, fault: FaultInfo, ipa: IPA, size: int, pa: PA, prot: Prot
) -> tuple[Errno, Resolution]:
    """Change the entry that is there, or map."""
    pgt, rule = vcpu.vm.pgt, vcpu.vm.profile.install
    if rule is _RELAX:
        if fault.fault is PERMISSION and size == GRANULE[fault.level]:
            return pgt.relax_perms(ipa, prot), _RELAXED
    else:
        error = stage2_set_pte(pgt, ipa, size, pa, prot, bbm=rule is Install.WHOLE)
        if error is not None:
            return error, _RELAXED
    return pgt.map(ipa, size, pa, prot, vcpu.memcache), _MAPPED


# --- bookkeeping -----------------------------------------------------------------------------


def count(vcpu: VCPU, fault: FaultInfo, resolution: Resolution) -> None:
    """Count how an abort ended."""
    vcpu.vm.stats.aborts[fault.ec, fault.fsc, resolution] += 1


def failed(vcpu: VCPU, fault: FaultInfo, errno: Errno, message: str) -> Error:
    """Have KVM_RUN fail; the guest's state is as at the access, so that it can be repeated."""
    count(vcpu, fault, Resolution.FAILED)
    return Error(errno, message)
