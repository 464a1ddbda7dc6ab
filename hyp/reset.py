"""The state of a vCPU after reset, and what it traps (arch/arm64/kvm/reset.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.control import (
    CPACR_EL1,
    MDSCR_EL1,
    TPIDR_EL0,
    TPIDR_EL1,
    TPIDRRO_EL0,
)
from emu.arch.registers.exceptions import (
    AFSR0_EL1,
    AFSR1_EL1,
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    FAR_EL1,
    PAR_EL1,
    SP_EL0,
    SP_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
    Mode,
)
from emu.arch.registers.identification import MIDR_EL1
from emu.arch.registers.timer import CNTHCTL_EL2, CNTKCTL_EL1, CNTVOFF_EL2
from emu.arch.registers.translation import (
    AMAIR_EL1,
    CONTEXTIDR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from emu.arch.registers.virtualization import (
    HCR_EL2,
    VMPIDR_EL2,
    VPIDR_EL2,
    BarrierShareability,
)

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.cpufeature import HostFeatures
    from hyp.vcpu import VCPU

_SCTLR_RESET: Final = SCTLR_EL1(0x00C5_0078)
"""MMU and caches off, little-endian; the fields that were once RES1 are set."""

_PSTATE_RESET: Final = SPSR_EL2.build(M=Mode.EL1h, D=1, A=1, I=1, F=1)

_RESET_TO_ZERO: Final[tuple[type[SystemRegister], ...]] = (
    AFSR0_EL1,
    AFSR1_EL1,
    AMAIR_EL1,
    CNTKCTL_EL1,
    CONTEXTIDR_EL1,
    CPACR_EL1,
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    FAR_EL1,
    MAIR_EL1,
    MDSCR_EL1,
    PAR_EL1,
    SPSR_EL1,
    SP_EL0,
    SP_EL1,
    TCR_EL1,
    TPIDRRO_EL0,
    TPIDR_EL0,
    TPIDR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
    VBAR_EL1,
    CNTVOFF_EL2,
)


MPIDR_AFFINITY: Final = 0xFF_00FF_FFFF
"""Aff3 to Aff0 of MPIDR_EL1."""


def vcpu_mpidr(index: int) -> VMPIDR_EL2:
    """Return the affinity of a vCPU: 16 in a cluster, as KVM has it for the sake of GICv3 SGIs."""
    return VMPIDR_EL2.build(
        RES1=1, Aff0=index & 0xF, Aff1=index >> 4 & 0xFF, Aff2=index >> 12 & 0xFF
    )


def guest_hcr(features: HostFeatures) -> HCR_EL2:
    """Return what a guest runs with (``HCR_GUEST_FLAGS`` and ``vcpu_reset_hcr``).

    Without FEAT_S2FWB, TVM traps the write that turns the caches on.
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
        TID2=1,
        TID3=1,
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
    pe = vcpu.pe
    for number in range(31):
        pe.write_x(number, 0)
    for register in _RESET_TO_ZERO:
        pe.write(register(0))
    pe.write(_SCTLR_RESET)
    pe.write(_PSTATE_RESET)
    pe.write(VMPIDR_EL2(vcpu.mpidr))
    pe.write(VPIDR_EL2(pe.read(MIDR_EL1)))
    pe.write(CNTHCTL_EL2.build(EL1PCTEN=1))
    pe.write(guest_hcr(vcpu.vm.features))
