"""The features of a vCPU: what KVM_ARM_VCPU_INIT asks for (arch/arm64/kvm/arm.c)."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from emu.arch.registers.identification import ID_AA64DFR0_EL1
from hyp.errors import Errno, KvmError
from hyp.pmu import Pmu, guest_pmu_version
from hyp.profiles import Service

if TYPE_CHECKING:
    from hyp.vcpu import VCPU
    from hyp.vm import VM


class VcpuFeature(IntFlag):
    """The KVM_ARM_VCPU_* features that are known here, one bit each."""

    PSCI_0_2 = 1 << 2
    PMU_V3 = 1 << 3


def kvm_vcpu_set_features(vcpu: VCPU, features: VcpuFeature) -> None:
    """Give a vCPU its features, which all of the VM share (``kvm_vcpu_set_target``).

    Raises
    ------
    KvmError
        EINVAL for a feature that the machine lacks, or other features than the first vCPU's.
    """
    vm = vcpu.vm
    if features & VcpuFeature.PMU_V3 and not (
        vm.features.pmu_version and vm.profile.services & Service.PMU
    ):
        raise KvmError(
            Errno.EINVAL,
            f"the CPU has no PMUv3 (ID_AA64DFR0_EL1.PMUVer), or KVM of {vm.profile.name} does not "
            "know of it; initialise without pmu",
        )
    if vm.vcpu_features not in (None, features):
        raise KvmError(
            Errno.EINVAL,
            f"the features {features!r} are not those of the VM, {vm.vcpu_features!r}; all of its "
            "vCPUs have the same",
        )
    if vm.vcpu_features is None:
        vm.vcpu_features = features
        if features & VcpuFeature.PMU_V3:
            _give_pmu(vm)
    if features & VcpuFeature.PMU_V3 and vcpu.pmu is None:
        vcpu.pmu = Pmu(vcpu)


def _give_pmu(vm: VM) -> None:
    """Have the VM's vCPUs have the performance monitors of the PE."""
    vm.arm_pmu.version = guest_pmu_version(vm.features)
    vm.arm_pmu.nr_counters = vm.features.pmu_counters
    encoding = ID_AA64DFR0_EL1.encoding
    dfr0 = ID_AA64DFR0_EL1(vm.id_registers[encoding])
    vm.id_registers[encoding] = dfr0.replace(PMUVer=vm.arm_pmu.version)
