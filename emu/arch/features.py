"""What a CPU implements. Everything follows from its identification registers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from emu.arch.exceptions import PstateFeatures
from emu.arch.fields import SystemRegister
from emu.arch.granule import ADDRESS_SIZE_BITS, KB4, KB16, KB64, Granule
from emu.arch.registers.identification import (
    CTR_EL0,
    DCZID_EL0,
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1,
    MIDR_EL1,
)
from emu.arch.registers.virtualization import HCR_EL2

R = TypeVar("R", bound=SystemRegister)


@dataclass(frozen=True)
class CpuFeatures:
    """One CPU model, described by the values of its ID registers.

    Attributes
    ----------
    name
        The model, as users name it.
    id_registers
        Their values. A register that is not listed reads as zero.
    """

    name: str
    id_registers: tuple[SystemRegister, ...]

    def read(self, register: type[R]) -> R:
        """Return one ID register."""
        for value in self.id_registers:
            if isinstance(value, register):
                return value
        return register(0)

    def replace(self, *values: SystemRegister) -> CpuFeatures:
        """Return the same CPU with some ID registers changed."""
        changed = {type(value): value for value in (*self.id_registers, *values)}
        return CpuFeatures(self.name, tuple(changed.values()))

    @cached_property
    def pa_bits(self) -> int:
        """Physical address size, in bits."""
        return ADDRESS_SIZE_BITS[self.read(ID_AA64MMFR0_EL1).PARange]

    @cached_property
    def asid_bits(self) -> int:
        """ASID size: 8 or 16."""
        return 16 if self.read(ID_AA64MMFR0_EL1).ASIDBits == 2 else 8

    @cached_property
    def vmid_bits(self) -> int:
        """VMID size: 8 or 16."""
        return 16 if self.read(ID_AA64MMFR1_EL1).VMIDBits == 2 else 8

    @cached_property
    def granules(self) -> dict[Granule, bool]:
        """The stage-1 granules, each with whether it has FEAT_LPA2."""
        mmfr0 = self.read(ID_AA64MMFR0_EL1)
        granules = {KB4: mmfr0.TGran4 == 1, KB16: mmfr0.TGran16 == 2, KB64: False}
        absent = {KB4: mmfr0.TGran4 == 0xF, KB16: mmfr0.TGran16 == 0, KB64: mmfr0.TGran64 == 0xF}
        return {granule: lpa2 for granule, lpa2 in granules.items() if not absent[granule]}

    @cached_property
    def stage2_granules(self) -> dict[Granule, bool]:
        """The stage-2 granules, each with whether it has FEAT_LPA2. A field of 0 is stage 1's."""
        mmfr0 = self.read(ID_AA64MMFR0_EL1)
        fields = {KB4: mmfr0.TGran4_2, KB16: mmfr0.TGran16_2, KB64: mmfr0.TGran64_2}
        return {
            granule: self.granules[granule] if field == 0 else field == 3
            for granule, field in fields.items()
            if field > 1 or (field == 0 and granule in self.granules)
        }

    @cached_property
    def lva(self) -> bool:
        """FEAT_LVA: 52-bit virtual addresses with the 64 KiB granule."""
        return self.read(ID_AA64MMFR2_EL1).VARange != 0

    @cached_property
    def ttst(self) -> bool:
        """FEAT_TTST: small translation tables."""
        return self.read(ID_AA64MMFR2_EL1).ST != 0

    @cached_property
    def hardware_access_flag(self) -> bool:
        """FEAT_HAFDBS, its access flag part."""
        return self.read(ID_AA64MMFR1_EL1).HAFDBS >= 1

    @cached_property
    def hardware_dirty_state(self) -> bool:
        """FEAT_HAFDBS, its dirty state part."""
        return self.read(ID_AA64MMFR1_EL1).HAFDBS >= 2

    @cached_property
    def hpds(self) -> bool:
        """FEAT_HPDS: hierarchical permissions can be disabled."""
        return self.read(ID_AA64MMFR1_EL1).HPDS != 0

    @cached_property
    def pan(self) -> bool:
        """FEAT_PAN: PSTATE.PAN."""
        return self.read(ID_AA64MMFR1_EL1).PAN != 0

    @cached_property
    def epan(self) -> bool:
        """FEAT_PAN3: PAN also covers what EL0 may only execute."""
        return self.read(ID_AA64MMFR1_EL1).PAN >= 3

    @cached_property
    def e0pd(self) -> bool:
        """FEAT_E0PD: half of the address space can be closed to EL0."""
        return self.read(ID_AA64MMFR2_EL1).E0PD != 0

    @cached_property
    def fwb(self) -> bool:
        """FEAT_S2FWB: stage 2 can override memory types."""
        return self.read(ID_AA64MMFR2_EL1).FWB != 0

    @cached_property
    def lse2(self) -> bool:
        """FEAT_LSE2: atomic and ordered accesses need be aligned to 16 bytes only."""
        return self.read(ID_AA64MMFR2_EL1).AT != 0

    @cached_property
    def xnx(self) -> bool:
        """FEAT_XNX: execute-never at stage 2 for EL0 and EL1 separately."""
        return self.read(ID_AA64MMFR1_EL1).XNX != 0

    @cached_property
    def dpb(self) -> bool:
        """FEAT_DPB: DC CVAP."""
        return self.read(ID_AA64ISAR1_EL1).DPB != 0

    @cached_property
    def ras(self) -> bool:
        """FEAT_RAS, which brings HCR_EL2.TEA."""
        return self.read(ID_AA64PFR0_EL1).RAS != 0

    @cached_property
    def lor(self) -> bool:
        """FEAT_LOR: LDLAR and STLLR."""
        return self.read(ID_AA64MMFR1_EL1).LO != 0

    @cached_property
    def lrcpc(self) -> bool:
        """FEAT_LRCPC: LDAPR."""
        return self.read(ID_AA64ISAR1_EL1).LRCPC >= 1

    @cached_property
    def lrcpc2(self) -> bool:
        """FEAT_LRCPC2: LDAPUR and STLUR."""
        return self.read(ID_AA64ISAR1_EL1).LRCPC >= 2

    @cached_property
    def xs(self) -> bool:
        """FEAT_XS: TLBI operations with the suffix nXS."""
        return self.read(ID_AA64ISAR1_EL1).XS != 0

    @cached_property
    def pauth(self) -> bool:
        """FEAT_PAuth: LDRAA and LDRAB."""
        isar1 = self.read(ID_AA64ISAR1_EL1)
        return bool(isar1.APA or isar1.API)

    @cached_property
    def bti(self) -> bool:
        """FEAT_BTI: PSTATE.BTYPE."""
        return self.read(ID_AA64PFR1_EL1).BT != 0

    @cached_property
    def ecv(self) -> bool:
        """FEAT_ECV: counters that are read in program order."""
        return self.read(ID_AA64MMFR0_EL1).ECV != 0

    @cached_property
    def rng(self) -> bool:
        """FEAT_RNG: RNDR and RNDRRS."""
        return self.read(ID_AA64ISAR0_EL1).RNDR != 0

    @cached_property
    def idst(self) -> bool:
        """FEAT_IDST: EL0's reads of ID registers are reported as system register traps."""
        return self.read(ID_AA64MMFR2_EL1).IDS != 0

    @cached_property
    def pmu_version(self) -> int:
        """ID_AA64DFR0_EL1.PMUVer: 1 for PMUv3; 0 without one, or with one of another kind."""
        version = self.read(ID_AA64DFR0_EL1).PMUVer
        return 0 if version == ID_AA64DFR0_EL1.PMUVer.mask else version

    @cached_property
    def gic_sysregs(self) -> bool:
        """The CPU interface of a GICv3 has system registers."""
        return self.read(ID_AA64PFR0_EL1).GIC != 0

    @cached_property
    def hcr_res0(self) -> int:
        """The bits of HCR_EL2 that are RES0 for want of their feature."""
        evt = self.read(ID_AA64MMFR2_EL1).EVT
        bits = 0
        if not self.ras:
            bits |= HCR_EL2.TEA.in_place | HCR_EL2.TERR.in_place
        if not self.fwb:
            bits |= HCR_EL2.FWB.in_place
        if evt < 1:
            bits |= HCR_EL2.TOCU.in_place | HCR_EL2.TICAB.in_place | HCR_EL2.TID4.in_place
        if evt < 2:
            bits |= HCR_EL2.TTLBIS.in_place | HCR_EL2.TTLBOS.in_place
        return bits

    @cached_property
    def armv8_0(self) -> bool:
        """Whether there is no instruction that Armv8.0-A lacks."""
        isar0, isar1 = self.read(ID_AA64ISAR0_EL1), self.read(ID_AA64ISAR1_EL1)
        mmfr1, pfr1 = self.read(ID_AA64MMFR1_EL1), self.read(ID_AA64PFR1_EL1)
        later = int(isar0) >> ID_AA64ISAR0_EL1.Atomic.lsb or int(isar1)
        return not (later or mmfr1.LO or mmfr1.PAN or pfr1.SSBS or pfr1.BT)

    @cached_property
    def pstate(self) -> PstateFeatures:
        """Which optional PSTATE bits exist."""
        pfr1 = self.read(ID_AA64PFR1_EL1)
        return PstateFeatures(
            PAN=self.pan,
            DIT=self.read(ID_AA64PFR0_EL1).DIT != 0,
            SSBS=pfr1.SSBS != 0,
            MTE=pfr1.MTE >= 2,
            NMI=pfr1.NMI != 0,
        )


CORTEX_A72 = CpuFeatures(
    "cortex-a72",
    (
        MIDR_EL1(0x410F_D083),
        ID_AA64PFR0_EL1(0x0100_0222),
        ID_AA64DFR0_EL1(0x1030_5106),
        ID_AA64ISAR0_EL1(0x0001_1120),
        ID_AA64MMFR0_EL1(0x0000_1124),
        CTR_EL0(0x8444_C004),
        DCZID_EL0(0x4),
    ),
)
"""Armv8.0-A: 44-bit physical addresses, 4K and 64K granules, 16-bit ASIDs, 8-bit VMIDs."""
