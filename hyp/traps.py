"""Why the guest came out: dispatch by exception class (arch/arm64/kvm/handle_exit.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.iss import IssHvc, IssSmc, IssWFx, TrappedWait
from hyp.aborts import handle_abort
from hyp.debug import kvm_handle_guest_debug
from hyp.events import KvmHvcArm64, KvmWfxArm64
from hyp.exits import Intr, IntrCause
from hyp.halt import kvm_vcpu_halt
from hyp.hypercalls import kvm_smccc_call_handler
from hyp.inject import kvm_incr_pc, kvm_inject_undefined
from hyp.smccc import NOT_SUPPORTED, smccc_set_retval
from hyp.sysregs import kvm_handle_sys_reg

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.exits import Exit
    from hyp.vcpu import VCPU

    ExitHandler = Callable[[VCPU, int], Exit | None]

_EC_SHIFT: Final = 26
_EC_MASK: Final = 0x3F


def handle_exit(vcpu: VCPU, esr: int) -> Exit | None:
    """Handle a trap.

    Parameters
    ----------
    vcpu
        The vCPU that trapped; its registers are in the PE.
    esr
        ESR_EL2.

    Returns
    -------
    Exit or None
        ``None`` to enter the guest again.
    """
    ec = esr >> _EC_SHIFT & _EC_MASK
    vcpu.vm.stats.traps[ec] += 1
    exit_ = _HANDLER_OF[ec](vcpu, esr)
    if vcpu.vm.steps.late:
        vcpu.vm.steps.settle()
    return exit_


def _kvm_handle_unknown_ec(vcpu: VCPU, _esr: int) -> None:
    kvm_inject_undefined(vcpu)


def _kvm_handle_wfx(vcpu: VCPU, esr: int) -> Exit | None:
    """Step over WFI, and wait for an interrupt; over WFE, and let others run."""
    is_wfe = IssWFx(esr).TI in (TrappedWait.WFE, TrappedWait.WFET)
    emit = vcpu.vm.events.emit
    if emit is not None:
        emit(KvmWfxArm64(vcpu.index, vcpu.pe.retired, vcpu.pc, is_wfe))
    kvm_incr_pc(vcpu)
    if is_wfe:
        return Intr(IntrCause.YIELD) if vcpu.shares_machine else None
    return None if kvm_vcpu_halt(vcpu) else Intr(IntrCause.WAITING)


def _handle_hvc(vcpu: VCPU, esr: int) -> Exit | None:
    """Serve HVC; the PC is past it already."""
    emit = vcpu.vm.events.emit
    if emit is not None:
        x0, imm = vcpu.pe.read_x(0), IssHvc(esr).imm16
        emit(KvmHvcArm64(vcpu.index, vcpu.pe.retired, vcpu.pc, x0, imm))
    return kvm_smccc_call_handler(vcpu)


def _handle_smc(vcpu: VCPU, esr: int) -> Exit | None:
    """Serve SMC as if it were HVC. Unlike HVC, a trapped SMC has not been stepped over."""
    kvm_incr_pc(vcpu)
    if IssSmc(esr).imm16:
        smccc_set_retval(vcpu, NOT_SUPPORTED)
        return None
    return kvm_smccc_call_handler(vcpu)


_EXIT_HANDLERS: Final[dict[int, ExitHandler]] = {
    ExceptionClass.WFx: _kvm_handle_wfx,
    ExceptionClass.HVC64: _handle_hvc,
    ExceptionClass.SMC64: _handle_smc,
    ExceptionClass.SYS64: kvm_handle_sys_reg,
    ExceptionClass.SOFTSTP_LOW: kvm_handle_guest_debug,
    ExceptionClass.WATCHPT_LOW: kvm_handle_guest_debug,
    ExceptionClass.BREAKPT_LOW: kvm_handle_guest_debug,
    ExceptionClass.BRK64: kvm_handle_guest_debug,
    ExceptionClass.IABT_LOW: handle_abort,
    ExceptionClass.DABT_LOW: handle_abort,
}
_HANDLER_OF: Final[tuple[ExitHandler, ...]] = tuple(
    _EXIT_HANDLERS.get(ec, _kvm_handle_unknown_ec) for ec in range(_EC_MASK + 1)
)
"""By the exception class's number."""
