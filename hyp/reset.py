"""The state of a vCPU after reset, and what it traps (arch/arm64/kvm/reset.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.exceptions import SPSR_EL2, Mode
from emu.arch.registers.gic import ICH_HCR_EL2
from emu.arch.registers.identification import MIDR_EL1
from emu.arch.registers.timer import CNTHCTL_EL2
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import (
    HCR_EL2,
    MDCR_EL2,
    VMPIDR_EL2,
    VPIDR_EL2,
    BarrierShareability,
)
from hyp.context import KvmCpuContext
from hyp.load import kvm_arch_vcpu_load, kvm_arch_vcpu_put

if TYPE_CHECKING:
    from hyp.cpufeature import HostFeatures
    from hyp.vcpu import VCPU

_SCTLR_RESET: Final = SCTLR_EL1(0x00C5_0078)
"""MMU and caches off, little-endian; the fields that were once RES1 are set."""

_PSTATE_RESET: Final = SPSR_EL2.build(M=Mode.EL1h, D=1, A=1, I=1, F=1)

_GIC_TRAPS: Final = ICH_HCR_EL2.build(En=1, TC=1, TALL0=1, TALL1=1)
"""The CPU interface of a virtual GICv3 is emulated, as KVM does for CPUs with broken ones."""

_MDCR_RESET: Final = MDCR_EL2.build(TDRA=1, TDOSA=1, TDA=1, TPM=1, TPMCR=1)
"""Debug registers and performance monitors trap; see :mod:`hyp.debug` and :mod:`hyp.pmu`."""

MPIDR_AFFINITY: Final = 0xFF_00FF_FFFF
"""Aff3 to Aff0 of MPIDR_EL1."""


def vcpu_mpidr(index: int) -> VMPIDR_EL2:
    """Return the affinity of a vCPU: 16 in a cluster, as KVM has it for the sake of GICv3 SGIs."""
    return VMPIDR_EL2.build(
        RES1=1, Aff0=index & 0xF, Aff1=index >> 4 & 0xFF, Aff2=index >> 12 & 0xFF
    )


def guest_hcr(features: HostFeatures) -> HCR_EL2:
    """Return what a guest runs with (``HCR_GUEST_FLAGS`` and ``vcpu_reset_hcr``).

    Without FEAT_S2FWB, TVM traps the write that turns the caches on. With FEAT_EVT the
    identification of caches traps without CTR_EL0 (TID4), which is the CPU's own in every VM here.
    With FEAT_RAS, external aborts come to the host (TEA), and error records are hidden (TERR).
    """
    return HCR_EL2.build(
        VM=1,
        SWIO=1,
        FMO=1,
        IMO=1,
        AMO=1,
        FB=1,
        BSU=BarrierShareability.INNER_SHAREABLE,
        TWI=1,
        TWE=1,
        TID1=1,
        TID2=not features.evt,
        TID4=features.evt,
        TID3=1,
        TEA=features.ras,
        TERR=features.ras,
        TSC=1,
        TIDCP=1,
        TACR=1,
        TSW=1,
        RW=1,
        FWB=features.fwb,
        TVM=not features.fwb,
    )


def kvm_reset_vcpu(vcpu: VCPU) -> None:
    """Give a vCPU the architected reset state: EL1h, interrupts masked, MMU off."""
    cpu = vcpu.loaded_on
    if cpu is not None:
        kvm_arch_vcpu_put(vcpu)
    ctxt = vcpu.ctxt = KvmCpuContext()
    ctxt.write(_SCTLR_RESET)
    ctxt.write(_PSTATE_RESET)
    ctxt.write(VMPIDR_EL2(vcpu.mpidr))
    ctxt.write(VPIDR_EL2(vcpu.pe.read(MIDR_EL1)))
    ctxt.write(CNTHCTL_EL2.build(EL1PCTEN=1))
    ctxt.write(guest_hcr(vcpu.vm.features))
    ctxt.write(_MDCR_RESET.replace(HPMN=vcpu.vm.features.pmu_counters))
    ctxt.write(_GIC_TRAPS)
    vcpu.debug.reset()
    if cpu is not None:
        kvm_arch_vcpu_load(vcpu, cpu)
