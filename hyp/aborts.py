"""Guest aborts: what KVM's mmu.c does with a fault of stage 2.

``kvm_handle_guest_abort`` decides whose fault it is: KVM's (memory not mapped
yet), the guest's (an abort is injected), or user space's (MMIO).
:mod:`hyp.user_mem_abort` brings in the host page and maps it. The order of the
decisions is the kernel's of 2026, and it matters; what was decided otherwise in other
years is in :mod:`hyp.profiles`.

Every handler returns ``None`` to enter the guest again, or the exit for user space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA, PAGE_SHIFT, VA
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ESR_EL2
from hyp.errors import Errno
from hyp.events import KvmAccessFault, KvmGuestFault
from hyp.exits import ArmSea, Exit, SeaFlags
from hyp.fault_info import (
    ACCESS_FLAG,
    TRANSLATION,
    fnv,
    populate_fault_info,
)
from hyp.gmem import gmem_abort
from hyp.inject import (
    kvm_incr_pc,
    kvm_inject_sea,
    kvm_inject_serror,
    kvm_inject_size_fault,
)
from hyp.mmio import io_mem_abort
from hyp.profiles import IpaCheck
from hyp.stats import Resolution
from hyp.user_mem_abort import count, failed, user_mem_abort

if TYPE_CHECKING:
    from hyp.fault_info import FaultInfo
    from hyp.memslots import MemorySlot
    from hyp.vcpu import VCPU

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
_CM: Final = IssDataAbort.CM.in_place
_ISV: Final = IssDataAbort.ISV.in_place
_MMIO: Final = Resolution.MMIO
_NISV: Final = Resolution.NISV
"""Looked up once: an enumeration takes as long as a call to find a member."""


def handle_abort(vcpu: VCPU, esr: int) -> Exit | None:
    """Take an abort from its entry to EL2 (the exit handler of IABT_LOW and DABT_LOW)."""
    fault = populate_fault_info(vcpu.pe, esr)
    if fault is None:
        return None
    rule = vcpu.vm.profile.write_rule
    if rule is not None:
        fault.is_write = rule(fault)
    vcpu.fault = fault
    return kvm_handle_guest_abort(vcpu, fault)


def kvm_handle_guest_abort(vcpu: VCPU, fault: FaultInfo) -> Exit | None:
    """Decide what becomes of an abort."""
    vm = vcpu.vm
    profile = vm.profile
    if fault.is_sea and profile.handles_sea:
        return kvm_handle_guest_sea(vcpu, fault)
    # Of an external abort the hardware does not give the IPA; old kernels traced what was there.
    ipa = fault.ipa if fault.ipa is not None else IPA(0)
    kind = fault.fault
    if kind is TRANSLATION and ipa >= vm.ipa_end and profile.ipa_check is not IpaCheck.NONE:
        _ipa_too_large(vcpu, fault, ipa)
        return None

    emit = vm.events.emit
    if emit is not None:
        emit(KvmGuestFault(vcpu.index, vcpu.pe.retired, vcpu.pc, fault.esr, fault.far, ipa))
    if kind not in profile.accepted:
        return failed(
            vcpu,
            fault,
            Errno.EFAULT,
            f"Unsupported FSC: EC={fault.ec:#x} xFSC={fault.fsc:#x} ESR_EL2={fault.esr:#x}",
        )

    slot = vm.memslots.find(ipa >> PAGE_SHIFT)
    if slot is None or (fault.is_write and slot.readonly):
        return _outside_slots(vcpu, fault, ipa, slot)
    if kind is ACCESS_FLAG:
        handle_access_fault(vcpu, fault, ipa)
        return None
    if slot.gmem is not None:
        return gmem_abort(vcpu, fault, ipa, slot)
    return user_mem_abort(vcpu, fault, ipa, slot)


def _ipa_too_large(vcpu: VCPU, fault: FaultInfo, ipa: IPA) -> None:
    """Give the guest an abort for an address that its machine does not have."""
    vm = vcpu.vm
    beyond_limit = ipa >= 1 << vm.features.ipa_limit
    if beyond_limit or vm.profile.ipa_check is IpaCheck.SIZE_FAULT:
        kvm_inject_size_fault(vcpu, fault)
    else:
        kvm_inject_sea(vcpu, is_iabt=fault.is_iabt, far=ipa | fault.offset)
    count(vcpu, fault, Resolution.INJECTED)


def _outside_slots(vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot | None) -> Exit | None:
    """Handle an access to no slot, or a write to a read-only one."""
    profile = vcpu.vm.profile
    if slot is not None and not profile.readonly_slots:
        return failed(vcpu, fault, Errno.EFAULT, f"{slot} is read-only")
    if fault.is_iabt or (fault.is_s1ptw and profile.aborts_walks):
        kvm_inject_sea(vcpu, is_iabt=fault.is_iabt, far=fault.far)
        count(vcpu, fault, Resolution.INJECTED)
        return None
    if slot is None and fault.esr & _CM and profile.skips_cmo:
        # Cleaning memory that is not there is no error.
        kvm_incr_pc(vcpu)
        count(vcpu, fault, Resolution.SKIPPED)
        return None
    count(vcpu, fault, _MMIO if fault.esr & _ISV else _NISV)
    return io_mem_abort(vcpu, fault, IPA(ipa | fault.offset))


def kvm_handle_guest_sea(vcpu: VCPU, fault: FaultInfo) -> Exit | None:
    """Handle an external abort that the guest's access met in physical memory."""
    count(vcpu, fault, Resolution.SEA)
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
    count(vcpu, fault, Resolution.ACCESS_FLAG)
