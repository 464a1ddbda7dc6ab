"""Exceptions that the hypervisor gives the guest (inject_fault.c, hyp/exception.c).

An exception, or a step of the PC over an emulated instruction, is noted on the
vCPU and applied just before the guest or user space sees it. One of each at most
can be pending, and the exception wins: then the instruction was not completed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import VA
from emu.arch.esr.build import data_abort, instruction_abort, syndrome
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode, FaultType, fsc
from emu.arch.exceptions import ExceptionKind, entry_to_el1
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    PSTATE,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
    VSESR_EL2,
)
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.stage1 import find_s1_desc_level

if TYPE_CHECKING:
    from hyp.fault_info import FaultInfo
    from hyp.vcpu import VCPU

_INSTRUCTION_SIZE: Final = 4
_CLEARED: Final = SPSR_EL2.BTYPE.in_place | SPSR_EL2.SS.in_place
"""What completing an instruction clears."""
_ADDRESS_MASK: Final = (1 << 64) - 1
_ABOVE_EC: Final = _ADDRESS_MASK & -1 << 32
"""What the class of an abort, whose highest bit is set, becomes with its sign extended."""


class PendingException(NamedTuple):
    """A synchronous exception to EL1 that waits for the next entry."""

    esr: int
    far: VA | None
    """FAR_EL1; ``None`` if the exception does not set it."""


def kvm_inject_sea(vcpu: VCPU, *, is_iabt: bool, far: int) -> None:
    """Inject a synchronous external abort (``kvm_inject_sea``).

    When the trapped access was a stage-1 walk, the abort says so and names the
    level of the descriptor. If no descriptor of the walk lies there any more,
    the guest is just restarted.
    """
    code = FaultStatusCode.EXTERNAL
    fault = vcpu.fault
    if fault is not None and fault.is_s1ptw and vcpu.vm.profile.names_walk_level:
        assert fault.ipa is not None, "a fault on a walk has an IPA"
        level = find_s1_desc_level(vcpu, fault.far, fault.ipa)
        if level is None:
            return
        code = fsc(FaultType.EXTERNAL_ON_WALK, level)
    _pend_abort(vcpu, is_iabt=is_iabt, code=code, far=far)


def kvm_inject_size_fault(vcpu: VCPU, fault: FaultInfo) -> None:
    """Inject an address size fault at level 0. FAR_EL1 gets the IPA, as it always did."""
    assert fault.ipa is not None, "a translation fault has an IPA"
    far = fault.ipa | fault.offset
    _pend_abort(vcpu, is_iabt=fault.is_iabt, code=FaultStatusCode.ADDRESS_SIZE_L0, far=far)


def kvm_inject_dabt_excl_atomic(vcpu: VCPU, fault: FaultInfo) -> None:
    """Inject the abort of an exclusive or atomic access to memory that cannot do it."""
    code = FaultStatusCode.UNSUPPORTED_EXCLUSIVE
    _pend_abort(vcpu, is_iabt=False, code=code, far=fault.far)


def kvm_inject_undefined(vcpu: VCPU) -> None:
    """Inject the exception of an undefined instruction."""
    vcpu.pending_exception = PendingException(syndrome(ExceptionClass.UNKNOWN), None)


def kvm_inject_serror(vcpu: VCPU) -> None:
    """Make a virtual SError pending; the PE takes it once PSTATE.A allows."""
    vcpu.write(VSESR_EL2(0))
    vcpu.write(vcpu.read(HCR_EL2).replace(VSE=1))


def kvm_incr_pc(vcpu: VCPU) -> None:
    """Step over the trapped instruction before the next entry."""
    vcpu.pending_incr_pc = True


def kvm_pending_sync_exception(vcpu: VCPU) -> bool:
    """Return whether a synchronous exception waits for the next entry."""
    return vcpu.pending_exception is not None


def kvm_adjust_pc(vcpu: VCPU) -> None:
    """Apply what is pending (``__kvm_adjust_pc``)."""
    pending = vcpu.pending_exception
    if pending is not None:
        _enter_el1(vcpu, pending)
    elif vcpu.pending_incr_pc:
        _skip_instruction(vcpu)
    vcpu.pending_exception = None
    vcpu.pending_incr_pc = False


def _pend_abort(vcpu: VCPU, *, is_iabt: bool, code: FaultStatusCode, far: int) -> None:
    same_el = PSTATE(vcpu.pstate).EL == 1
    if is_iabt:
        esr: int = instruction_abort(code, same_el=same_el)
    else:
        # IL is that of the trapped instruction, should its syndrome have it.
        esr = data_abort(code, same_el=same_el).replace(IL=vcpu.read(ESR_EL2).IL)
    if vcpu.vm.profile.signed_esr:
        esr |= _ABOVE_EC
    vcpu.pending_exception = PendingException(esr, VA(far))


def _enter_el1(vcpu: VCPU, exception: PendingException) -> None:
    pe = vcpu.pe
    pstate = vcpu.pstate
    pe.write(SPSR_EL1(pstate))
    pe.write(ELR_EL1(vcpu.pc))
    pe.write(ESR_EL1(exception.esr))
    if exception.far is not None:
        pe.write(FAR_EL1(exception.far))
    entry = entry_to_el1(
        pstate,
        pe.read(SCTLR_EL1),
        pe.read(VBAR_EL1),
        ExceptionKind.SYNCHRONOUS,
        vcpu.vm.features.pstate,
    )
    pe.probe.taken(1, ExceptionKind.SYNCHRONOUS, exception.esr, pstate)
    pe.set_return(entry.pc, entry.pstate)


def _skip_instruction(vcpu: VCPU) -> None:
    """Do what completing the instruction would do to PC and PSTATE."""
    pe = vcpu.pe
    pe.set_return(
        (pe.word(ELR_EL2) + _INSTRUCTION_SIZE) & _ADDRESS_MASK, pe.word(SPSR_EL2) & ~_CLEARED
    )
