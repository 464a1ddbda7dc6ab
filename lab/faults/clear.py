"""The end of all faults that a machine and its hypervisor hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyp.vm import VM


def clear_faults(vm: VM) -> None:
    """Take away what makes a VM and its machine misbehave, as if no fault had been injected.

    What faults have done to registers, memory, tables and TLB entries stays.
    """
    machine = vm.machine
    machine.memory.failed.clear()
    for pe in machine.pes:
        pe.disturbances.clear()
        pe.mmu.tlb.survivors.clear()
        pe.icache.follow_memory()
    vm.steps.conform_all()
    if vm.vgic is not None and vm.vgic.initialized:
        vm.vgic.distributor.losing.clear()
