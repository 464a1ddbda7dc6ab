"""KVM_RUN: a vCPU goes into the guest, and comes out (arch/arm64/kvm/arm.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.registers.exceptions import ESR_EL2
from emu.cpu.pe import EL2Entry
from hyp.errors import Errno, KvmError
from hyp.events import ExceptionType, KvmEntry, KvmExit, KvmUserspaceExit
from hyp.exits import (
    DirtyRingFull,
    Error,
    Exit,
    ExitReason,
    InternalError,
    InternalErrorCode,
    Intr,
    IntrCause,
    MemoryFault,
)
from hyp.halt import kvm_vcpu_block
from hyp.inject import kvm_adjust_pc
from hyp.load import kvm_arch_vcpu_load
from hyp.mmio import kvm_handle_mmio_return
from hyp.pmu_attributes import kvm_arm_pmu_v3_enable
from hyp.traps import handle_exit

if TYPE_CHECKING:
    from hyp.percpu import HostCpu
    from hyp.vcpu import VCPU


class VcpuRun:
    """The runs of one vCPU.

    Parameters
    ----------
    vcpu
        The vCPU.
    """

    __slots__ = ("_exit", "_vcpu")

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self._exit: Exit | None = None

    def run(self, budget: int, on: HostCpu, *, shares_machine: bool) -> Exit:
        """Run the guest until user space is needed (``kvm_arch_vcpu_ioctl_run``).

        Parameters
        ----------
        budget, shares_machine
            As for :meth:`hyp.vcpu.VCPU.run`.
        on
            The CPU to run on.

        Raises
        ------
        KvmError
            EBUSY if the vCPU or the CPU is running already.
        """
        vcpu = self._vcpu
        for busy in (on, vcpu.loaded_on):
            if busy is not None and busy.running is not None:
                raise KvmError(
                    Errno.EBUSY,
                    f"vCPU {vcpu.index} cannot run on PE {on.pe.index}: PE {busy.pe.index} is "
                    f"running vCPU {busy.running.index}; use another PE, or wait until it returns",
                )
        kvm_arm_pmu_v3_enable(vcpu)
        vgic = vcpu.vm.vgic
        if vgic is not None:
            vgic.map_resources()
        vcpu.has_run_once = True
        vcpu.shares_machine = shares_machine
        kvm = vcpu.vm.kvm
        caller = kvm.current.pe
        kvm.current.pe = on.pe
        kvm_arch_vcpu_load(vcpu, on)
        on.pe.el2_vector = self._el2_vector
        on.running = vcpu
        vcpu.stolen_time.record(vcpu)
        exit_: Exit | None = None
        self._exit = None
        was_in_guest = None if vgic is None else vgic.load(vcpu)
        vcpu.debug.enter()
        try:
            exit_ = self._run(budget)
            # User space sees the guest after what was pending.
            kvm_adjust_pc(vcpu)
        finally:
            vcpu.debug.leave()
            on.running = None
            vcpu.stolen_time.leave(vcpu, exit_)
            if vgic is not None:
                vgic.put(was_in_guest)
            if caller is not on.pe and kvm.is_running():  # the caller is EL2 on another PE
                kvm.current.pe = caller
        self._note_exit(exit_)
        return exit_

    def _run(self, budget: int) -> Exit:
        vcpu = self._vcpu
        pe = vcpu.pe
        deadline = pe.retired + budget
        kvm_handle_mmio_return(vcpu)
        kvm_adjust_pc(vcpu)
        if vcpu.immediate_exit:
            return Intr(IntrCause.IMMEDIATE_EXIT)
        while True:
            if (exit_ := self._exit) is not None:
                return exit_
            if vcpu.powered_off:
                return Intr(IntrCause.STOPPED)
            left = deadline - pe.retired
            if left <= 0:
                return Intr(IntrCause.BUDGET)
            self._check_requests()
            if self._exit is not None:
                continue
            if vcpu.halted and not kvm_vcpu_block(vcpu):
                return Intr(IntrCause.WAITING)
            vcpu.timer_lines.sync()
            self._trace_entry()
            entry = pe.run(left)
            if entry is EL2Entry.LIVELOCK:
                return self._no_progress()
            if entry is EL2Entry.IRQ:
                self._trace_exit(ExceptionType.IRQ, 0)
                if vcpu.pmu is not None:
                    vcpu.pmu.handle_irq()

    def _el2_vector(self) -> bool:
        """Handle a trap; return whether the guest is to go on."""
        vcpu = self._vcpu
        esr = vcpu.pe.word(ESR_EL2)
        if vcpu.vm.events.emit is not None:
            self._trace_exit(ExceptionType.TRAP, esr)
        self._exit = handle_exit(vcpu, esr)
        if self._exit is None:
            self._check_requests()
        if self._exit is not None or vcpu.powered_off:
            return False
        kvm_adjust_pc(vcpu)
        self._trace_entry()  # to whom a device has subscribed meanwhile, too
        return True

    def _check_requests(self) -> None:
        """Find what keeps the vCPU from entering the guest (``check_vcpu_requests``)."""
        vcpu = self._vcpu
        if vcpu.vm.woken and vcpu.shares_machine:
            self._exit = Intr(IntrCause.YIELD)
        ring = vcpu.dirty_ring
        if ring is not None and ring.soft_full_requested and ring.check_request():
            self._exit = DirtyRingFull()

    def _no_progress(self) -> InternalError:
        """End a guest that takes exceptions for ever; KVM would let it spin."""
        vcpu = self._vcpu
        return InternalError(
            InternalErrorCode.NO_PROGRESS,
            f"the guest takes exception after exception at PC {vcpu.pc:#x} and retires no "
            f"instruction; the last trap: {vcpu.pe.read(ESR_EL2)}",
        )

    def _trace_exit(self, kind: ExceptionType, esr: int) -> None:
        vcpu = self._vcpu
        emit = vcpu.vm.events.emit
        if emit is not None:
            emit(KvmExit(vcpu.index, vcpu.pe.retired, kind, esr >> ESR_EL2.EC.lsb & 0x3F, vcpu.pc))

    def _trace_entry(self) -> None:
        vcpu = self._vcpu
        emit = vcpu.vm.events.emit
        if emit is not None:
            emit(KvmEntry(vcpu.index, vcpu.pe.retired, vcpu.pc))

    def _note_exit(self, exit_: Exit) -> None:
        vcpu = self._vcpu
        errno = 0
        if isinstance(exit_, Error | MemoryFault):
            errno = -exit_.errno
        elif exit_.reason is ExitReason.INTR:
            errno = -Errno.EINTR
        name = "ERROR" if isinstance(exit_, Error) else exit_.reason.name
        vcpu.vm.stats.exits[name] += 1
        emit = vcpu.vm.events.emit
        if emit is not None:
            emit(KvmUserspaceExit(vcpu.index, vcpu.pe.retired, exit_.reason, errno))
