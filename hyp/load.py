"""The world switch: which vCPU's registers a PE holds (``kvm_arch_vcpu_load`` and ``put``).

A vCPU stays loaded when it returns to user space, and no register moves until another vCPU is
to run on that PE, or this one on another PE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.registers.timer import CNTV_CTL_EL0
from hyp.vtcr import vttbr

if TYPE_CHECKING:
    from hyp.percpu import HostCpu
    from hyp.vcpu import VCPU
    from hyp.vm import VM


def kvm_arch_vcpu_load(vcpu: VCPU, cpu: HostCpu) -> None:
    """Make the registers and the stage 2 of a PE those of ``vcpu``."""
    if cpu.loaded is vcpu and vcpu.vm.kvm.vmids.is_current(vcpu.vm.vmid):
        return
    if cpu.loaded is not vcpu:
        if cpu.loaded is not None:
            kvm_arch_vcpu_put(cpu.loaded)
        if vcpu.loaded_on is not None:
            kvm_arch_vcpu_put(vcpu)
        vcpu.ctxt.restore(cpu.pe)
        cpu.loaded, vcpu.loaded_on, vcpu.pe = vcpu, cpu, cpu.pe
    load_stage2(vcpu.vm, cpu)
    vm, index = vcpu.vm, cpu.pe.index
    if vm.last_vcpu_ran[index] != vcpu.index:
        # TLB and instruction cache are private to each vCPU: one ASID may mean two processes.
        vm.pgt.tlb.flush_cpu_context()
        vm.last_vcpu_ran[index] = vcpu.index


def kvm_arch_vcpu_put(vcpu: VCPU) -> None:
    """Take the registers of a loaded vCPU from its PE."""
    cpu = vcpu.loaded_on
    assert cpu is not None, "a vCPU that is put has been loaded"
    vcpu.ctxt.save(cpu.pe)
    vcpu.timer_lines.release()
    cpu.pe.write(CNTV_CTL_EL0(0))
    vcpu.vm.kvm.vmids.clear_active(cpu.pe.index)
    cpu.loaded = vcpu.loaded_on = None


def load_stage2(vm: VM, cpu: HostCpu) -> None:
    """Make the VM's stage 2 the PE's, under a VMID of this generation (``__load_stage2``)."""
    vmids, pe, tlb = vm.kvm.vmids, cpu.pe, vm.pgt.tlb

    def flush_vm_context() -> None:
        tlb.flush_vm_context()
        vm.pgt.cmo.forget_vmids()

    if vmids.update(vm.vmid, pe.index, flush_vm_context):
        assert vm.pgt.pgd is not None, "a VM that runs has page tables"
        tlb.vttbr = vttbr(vm.pgt.pgd, vmids.number(vm.vmid))
    for control in (vm.vtcr, tlb.vttbr):
        if pe.read(type(control)) != control:
            pe.write(control)
