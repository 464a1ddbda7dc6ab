"""What the PE can do, as far as the hypervisor cares: read once from its ID registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from emu.arch.features import CpuFeatures
from emu.arch.registers.identification import (
    CTR_EL0,
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1,
    IcachePolicy,
)
from emu.arch.registers.performance import PMCR_EL0
from emu.arch.registers.translation import PhysicalAddressSize

if TYPE_CHECKING:
    from emu.arch.exceptions import PstateFeatures
    from emu.cpu.pe import ProcessingElement

_AARCH64_AND_AARCH32: Final = 2
"""ID_AA64PFR0_EL1.EL0."""

MAX_PA_BITS: Final = 48
"""Larger physical addresses need FEAT_LPA2 descriptors, which are not used."""

_READ: Final = (
    CTR_EL0,
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1,
)


@dataclass(frozen=True, slots=True)
class HostFeatures:
    """Features of the PE.

    Parameters
    ----------
    ipa_limit
        The largest IPA size of a VM in bits (``kvm_ipa_limit``).
    pa_range
        PARange, at most 48 bits.
    vmid_bits
        8 or 16.
    hw_af
        The walker can set the access flag (FEAT_HAFDBS).
    fwb
        Stage 2 can force write-back memory (FEAT_S2FWB).
    evt
        Reads of the cache identification registers trap without those of CTR_EL0 (FEAT_EVT).
    ras
        Errors are reported by FEAT_RAS.
    tlb_range
        TLB invalidation by range of addresses exists (FEAT_TLBIRANGE).
    ttl
        TLB invalidation takes a hint of the level (FEAT_TTL).
    dic
        Instruction fetch is coherent with data writes without ``IC`` (CTR_EL0.DIC).
    icache_line
        The smallest line of any instruction cache, in bytes.
    icache_policy
        How the instruction cache finds its lines (CTR_EL0.L1Ip).
    gic_sysregs
        The CPU interface of a GICv3 has system registers (ID_AA64PFR0_EL1.GIC).
    pstate
        The optional bits of PSTATE.
    aarch32_el0
        EL0 can run in AArch32.
    pmu_version, pmu_counters
        ID_AA64DFR0_EL1.PMUVer, 0 without architected performance monitors; and how many event
        counters there are.
    """

    ipa_limit: int
    pa_range: PhysicalAddressSize
    vmid_bits: int
    hw_af: bool
    fwb: bool
    evt: bool
    ras: bool
    tlb_range: bool
    ttl: bool
    dic: bool
    icache_line: int
    icache_policy: IcachePolicy
    gic_sysregs: bool
    pstate: PstateFeatures
    aarch32_el0: bool
    pmu_version: int
    pmu_counters: int

    @classmethod
    def of(cls, pe: ProcessingElement) -> Self:
        """Read the ID registers of ``pe``."""
        cpu = CpuFeatures("host", tuple(pe.read(register) for register in _READ))
        ctr = cpu.read(CTR_EL0)
        mmfr2 = cpu.read(ID_AA64MMFR2_EL1)
        pa_range = cpu.read(ID_AA64MMFR0_EL1).PARange
        return cls(
            ipa_limit=min(cpu.pa_bits, MAX_PA_BITS),
            pa_range=min(pa_range, PhysicalAddressSize.BITS_48),
            vmid_bits=cpu.vmid_bits,
            hw_af=cpu.read(ID_AA64MMFR1_EL1).HAFDBS >= 1,
            fwb=mmfr2.FWB >= 1,
            evt=mmfr2.EVT >= 1,
            ras=cpu.ras,
            tlb_range=cpu.read(ID_AA64ISAR0_EL1).TLB >= 2,
            ttl=mmfr2.TTL >= 1,
            dic=bool(ctr.DIC),
            icache_line=4 << ctr.IminLine,
            icache_policy=ctr.L1Ip,
            gic_sysregs=cpu.read(ID_AA64PFR0_EL1).GIC >= 1,
            pstate=cpu.pstate,
            aarch32_el0=cpu.read(ID_AA64PFR0_EL1).EL0 == _AARCH64_AND_AARCH32,
            pmu_version=cpu.pmu_version,
            pmu_counters=pe.read(PMCR_EL0).N if cpu.pmu_version else 0,
        )
