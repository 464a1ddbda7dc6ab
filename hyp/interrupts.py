"""A VM's virtual interrupts: what its GIC signals becomes HCR_EL2.VI and VF of its vCPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.errors import Errno, KvmError
from hyp.vgic import DeviceType, create_device

if TYPE_CHECKING:
    from hyp.vcpu import VCPU
    from hyp.vgic import VgicDevice
    from hyp.vgic.vmlike import VcpuLike
    from hyp.vm import VM

_VI: Final = HCR_EL2.VI.in_place
_VF: Final = HCR_EL2.VF.in_place


class VirtualInterrupts:
    """What connects a VM's GIC and its vCPUs.

    Parameters
    ----------
    vm
        The VM.
    """

    __slots__ = ("_vm",)

    def __init__(self, vm: VM) -> None:
        self._vm = vm

    def create_device(self, type_: int, flags: int) -> VgicDevice | None:
        """Serve KVM_CREATE_DEVICE; see :meth:`hyp.vm.VM.create_device`."""
        vm = self._vm
        if type_ == DeviceType.VGIC_V3 and not vm.features.gic_sysregs:
            raise KvmError(
                Errno.ENODEV, "the CPU has no system registers of a GICv3; use a GICv2 (type 5)"
            )
        device = create_device(vm, type_, flags, existing=vm.vgic, kick=self._kick)
        if device is not None:
            vm.vgic = device.vgic
            vm.vgic.resample = self._resample
            if vm.vgic.version == 3:
                pfr0 = ID_AA64PFR0_EL1(vm.id_registers[ID_AA64PFR0_EL1.encoding])
                vm.id_registers[ID_AA64PFR0_EL1.encoding] = pfr0.replace(GIC=1)
        return device

    # Methods, not lambdas: compiled ones have no name, which a digest of the state needs.

    def _kick(self, vcpu: VcpuLike) -> None:
        self.update(self._vm.vcpus[vcpu.index])

    def _resample(self, vcpu: VcpuLike) -> None:
        self._vm.vcpus[vcpu.index].timer_lines.sync()

    def update(self, vcpu: VCPU) -> None:
        """Assert for a vCPU what the GIC signals: HCR_EL2.VI and VF."""
        vm = self._vm
        vgic = vm.vgic
        if vgic is None:
            return
        hcr = vcpu.read(HCR_EL2)
        lines = hcr & ~(_VI | _VF)
        if vgic.pending(vcpu):
            lines |= _VI
        if vgic.fiq_pending(vcpu):
            lines |= _VF
        if lines != hcr:
            vcpu.write(HCR_EL2(lines))
            vm.woken |= vcpu.halted
