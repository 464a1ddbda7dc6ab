"""What the kernel keeps for a machine: shared by all VMs on it, and made with the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.registers.debug import OSLAR_EL1
from hyp.host import HostMemory
from hyp.percpu import CurrentCpu, HostCpu
from hyp.vmid import VmidAllocator

if TYPE_CHECKING:
    from emu.machine import Machine
    from hyp.cpufeature import HostFeatures


class Kvm:
    """The kernel's own state.

    Two VMs with one VMID would use each other's TLB entries, two vCPUs that are loaded on one
    PE would share its registers, and two owners of one memory would hand out the same page
    twice.

    Parameters
    ----------
    machine
        What it runs on.
    features
        What its PEs can do.
    host
        The VMM process that owns the machine's memory; a new one unless it is given.

    Attributes
    ----------
    host
        The VMM process.
    cpus
        The PEs, by index.
    current
        The PE that the hypervisor is running on.
    vmids
        The VMIDs.
    """

    def __init__(self, machine: Machine, features: HostFeatures, host: HostMemory | None) -> None:
        self.host = HostMemory(machine.memory) if host is None else host
        self.cpus = [HostCpu(pe) for pe in machine.pes]
        self.current = CurrentCpu(machine.pes[0])
        for pe in machine.pes:
            pe.write(OSLAR_EL1(0))  # clear_os_lock
        self.vmids = VmidAllocator(features.vmid_bits, len(self.cpus))

    @classmethod
    def of(cls, machine: Machine, features: HostFeatures, host: HostMemory | None = None) -> Kvm:
        """Return the state of ``machine``; with the first VM it comes into being."""
        kvm = machine.el2_data
        if not isinstance(kvm, Kvm):
            kvm = machine.el2_data = cls(machine, features, host)
        return kvm

    def is_running(self) -> bool:
        """Whether any vCPU is in ``run``."""
        return any(cpu.running is not None for cpu in self.cpus)
