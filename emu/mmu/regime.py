"""The EL1&0 translation regime, decoded once from its control registers.

Walks read only these values. A snapshot is built when a control register has changed and
is shared by all translations until the next change.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import IPA, PA
from emu.arch.granule import (
    ADDRESS_SIZE_BITS,
    BY_TG0,
    BY_TG1,
    KB4,
    KB16,
    KB64,
    LAST_LEVEL,
    LEVEL_MINUS_1,
    MAX_CONCATENATED_BITS,
    MAX_TSZ,
    MAX_TSZ_SMALL,
    MIN_TSZ,
    MIN_TSZ_52,
    STAGE2_START_LEVEL,
    START_LEVEL_NEEDS_PA_BITS,
    WITH_52_BITS,
    Granule,
    Step,
    table_base,
)
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2, SCTLR_EL2, VTCR_EL2, VTTBR_EL2
from emu.mmu.attributes import NORMAL_WRITE_BACK, DEVICE_nGnRnE

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures

STAGE1_OFF = -1
"""Stands for the ASID of entries made while stage 1 is off: they belong to no ASID."""


class Stage1Half(NamedTuple):
    """One half of the stage-1 address space: what TTBR0 or TTBR1 translates."""

    walks: bool
    """Whether a TLB miss walks: TCR_EL1.EPDn is 0 and TnSZ is a size there is."""
    base: IPA
    granule: Granule
    input_bits: int
    output_bits: int
    steps: tuple[Step, ...]
    """The lookups of a walk, the start level's first."""
    tbi: bool
    """Whether the address's top byte is ignored."""
    checked: int
    """The bits above ``input_bits`` that count, shifted down: all, or all but the top byte."""
    top: int
    """What those are in an address that can be translated: alike, ones in the upper half."""
    e0pd: bool
    """Whether EL0 may not use this half at all."""
    hpd: bool
    """Whether the permissions in table descriptors are ignored."""

    @property
    def start_level(self) -> int:
        """The level of the first lookup."""
        return self.steps[0].level


class Stage1(NamedTuple):
    """The controls of stage 1."""

    enabled: bool
    lower: Stage1Half
    """TTBR0_EL1: addresses with bit 55 clear."""
    upper: Stage1Half
    """TTBR1_EL1: addresses with bit 55 set."""
    wxn: int
    epan: int
    ha: bool
    """Hardware sets the access flag."""
    hd: bool
    """Hardware manages dirty state in descriptors with DBM set."""
    attributes: bytes
    """The memory attributes by AttrIndx, as encoded in MAIR_EL1."""
    flat_attribute: int
    """The memory attribute of data accesses while stage 1 is off."""
    checked: bool
    """SCTLR_EL1.A: every access must be aligned."""
    nAA: bool
    """SCTLR_EL1.nAA: ordered accesses need not be."""
    big_endian: bool
    """SCTLR_EL1.EE: the byte order of descriptors."""

    @property
    def is_strict(self) -> bool:
        """Whether unaligned accesses fault wherever they go, Device memory aside."""
        return self.checked or not (self.enabled or self.flat_attribute)


class Stage2(NamedTuple):
    """The controls of stage 2."""

    enabled: bool
    base: PA
    granule: Granule
    input_bits: int
    steps: tuple[Step, ...]
    consistent: bool
    """Whether T0SZ and SL0 fit together; if not, every translation faults at level 0."""
    output_bits: int
    xnx: bool
    ptw: bool
    """HCR_EL2.PTW: a stage-1 walk may not touch Device memory."""
    ha: bool
    hd: bool
    fwb: bool
    big_endian: bool
    """SCTLR_EL2.EE: the byte order of descriptors."""

    @property
    def start_level(self) -> int:
        """The level of the first lookup."""
        return self.steps[0].level


class TranslationRegime(NamedTuple):
    """Both stages of EL1&0, and the tags of the TLB entries that they make."""

    stage1: Stage1
    stage2: Stage2
    vmid: int
    asid: int
    """The current ASID, or :data:`STAGE1_OFF`."""
    updates: bool
    """Whether hardware updates descriptors of either stage."""


class ControlRegisters(NamedTuple):
    """The register values that a regime is decoded from."""

    sctlr: int
    tcr: int
    ttbr0: int
    ttbr1: int
    hcr: int
    vtcr: int
    vttbr: int
    mair: int = 0
    sctlr_el2: int = 0


@lru_cache(maxsize=256)
def decode_regime(registers: ControlRegisters, features: CpuFeatures) -> TranslationRegime:
    """Decode the EL1&0 regime.

    Parameters
    ----------
    registers
        Raw values; fields that the CPU does not implement are treated as RES0.
    features
        Address, ASID and VMID sizes, granules and optional features of the CPU.
    """
    hcr = HCR_EL2(registers.hcr)
    sctlr = SCTLR_EL1(registers.sctlr)
    tcr = TCR_EL1(registers.tcr)
    vtcr = VTCR_EL2(registers.vtcr)
    enabled = bool(sctlr.M) and not (hcr.TGE or hcr.DC)
    current = TTBR0_EL1(registers.ttbr1 if tcr.A1 else registers.ttbr0)
    asid_mask = (1 << (features.asid_bits if tcr.AS else 8)) - 1
    vmid_mask = (1 << (features.vmid_bits if vtcr.VS else 8)) - 1
    lower = _TcrHalf(
        0, registers.ttbr0, BY_TG0.get(tcr.TG0), tcr.T0SZ, tcr.EPD0, tcr.TBI0, tcr.E0PD0, tcr.HPD0
    )
    upper = _TcrHalf(
        1, registers.ttbr1, BY_TG1.get(tcr.TG1), tcr.T1SZ, tcr.EPD1, tcr.TBI1, tcr.E0PD1, tcr.HPD1
    )
    ha = bool(tcr.HA and features.hardware_access_flag)
    stage1 = Stage1(
        enabled,
        _half(lower, tcr, features),
        _half(upper, tcr, features),
        sctlr.WXN,
        sctlr.EPAN if features.epan else 0,
        ha,
        bool(ha and tcr.HD and features.hardware_dirty_state),
        registers.mair.to_bytes(8, "little"),
        NORMAL_WRITE_BACK if hcr.DC else DEVICE_nGnRnE,
        bool(sctlr.A),
        bool(sctlr.nAA),
        bool(sctlr.EE),
    )
    stage2 = _stage2(registers, hcr, vtcr, features)
    return TranslationRegime(
        stage1,
        stage2,
        VTTBR_EL2(registers.vttbr).VMID & vmid_mask,
        current.ASID & asid_mask if enabled else STAGE1_OFF,
        stage1.ha or stage2.ha,
    )


class _TcrHalf(NamedTuple):
    """A TTBR and the fields of TCR_EL1 that go with it."""

    number: int
    ttbr: int
    granule: Granule | None
    tsz: int
    epd: int
    tbi: int
    e0pd: int
    hpd: int


def _half(fields: _TcrHalf, tcr: TCR_EL1, features: CpuFeatures) -> Stage1Half:
    granule = _granule(fields.granule, tcr.DS, features.granules, features)
    large = granule.high.mask and (features.lva or granule.name != KB64.name)
    size_exists = _smallest_tsz(large) <= fields.tsz <= _largest_tsz(granule, features)
    input_bits = 64 - fields.tsz if size_exists else granule.address_bits
    level = granule.start_level(input_bits)
    table_shift = input_bits - granule.level_shift(level) + 3
    checked = (1 << (56 if fields.tbi else 64) - input_bits) - 1
    return Stage1Half(
        not fields.epd and size_exists,
        IPA(table_base(fields.ttbr, table_shift, granule)),
        granule,
        input_bits,
        _output_bits(tcr.IPS, granule, features),
        granule.steps(level, input_bits),
        bool(fields.tbi),
        checked,
        checked if fields.number else 0,
        bool(fields.e0pd and features.e0pd),
        bool(fields.hpd and features.hpds),
    )


def _stage2(
    registers: ControlRegisters, hcr: HCR_EL2, vtcr: VTCR_EL2, features: CpuFeatures
) -> Stage2:
    granule = _granule(BY_TG0.get(vtcr.TG0), vtcr.DS, features.stage2_granules, features)
    level = _stage2_start_level(granule, vtcr, features)
    input_bits = 64 - vtcr.T0SZ
    index_bits = 0 if level is None else input_bits - granule.level_shift(level)
    consistent = (
        0 < index_bits <= granule.stride + MAX_CONCATENATED_BITS
        and input_bits <= features.pa_bits
        and _smallest_tsz(granule.high.mask) <= vtcr.T0SZ <= _largest_tsz(granule, features)
    )
    ha = bool(vtcr.HA and features.hardware_access_flag)
    return Stage2(
        bool(hcr.VM or hcr.DC),
        PA(table_base(registers.vttbr, max(index_bits, 0) + 3, granule)),
        granule,
        input_bits,
        granule.steps(LAST_LEVEL if level is None else level, input_bits),
        consistent,
        _output_bits(vtcr.PS, granule, features),
        features.xnx,
        bool(hcr.PTW),
        ha,
        bool(ha and vtcr.HD and features.hardware_dirty_state),
        bool(hcr.FWB and features.fwb),
        bool(SCTLR_EL2(registers.sctlr_el2).EE),
    )


def _stage2_start_level(granule: Granule, vtcr: VTCR_EL2, features: CpuFeatures) -> int | None:
    """Return the start level that SL0 and SL2 choose, or None for a reserved value."""
    base = next(plain for plain in STAGE2_START_LEVEL if plain.name == granule.name)
    if granule.high.mask and base is KB4 and vtcr.SL2:
        return LEVEL_MINUS_1 if vtcr.SL0 == 0 else None
    level = STAGE2_START_LEVEL[base].get(vtcr.SL0)
    if level is None or (base is KB4 and level == LAST_LEVEL and not features.ttst):
        return None
    if base is KB16 and level == 0 and not granule.high.mask:
        return None
    return level if features.pa_bits > START_LEVEL_NEEDS_PA_BITS.get((base, level), 0) else None


def _granule(
    granule: Granule | None, ds: int, implemented: dict[Granule, bool], features: CpuFeatures
) -> Granule:
    """Return the granule in force, in the form with 52-bit addresses where that applies.

    A reserved or missing granule behaves as one that is implemented (D8.2.1).
    """
    if granule is None or granule not in implemented:
        granule = next(iter(implemented))
    large = features.pa_bits > granule.address_bits if granule is KB64 else ds
    if not large or not (granule is KB64 or implemented[granule]):
        return granule
    return WITH_52_BITS[granule]


def _smallest_tsz(large: object) -> int:
    return MIN_TSZ_52 if large else MIN_TSZ


def _largest_tsz(granule: Granule, features: CpuFeatures) -> int:
    """Return the largest TxSZ; beyond it, and below the smallest, every translation faults."""
    if not features.ttst:
        return MAX_TSZ
    return next(size for plain, size in MAX_TSZ_SMALL.items() if plain.name == granule.name)


def _output_bits(encoded: int, granule: Granule, features: CpuFeatures) -> int:
    """Return the output address size: what is configured, at most what is implemented."""
    return min(ADDRESS_SIZE_BITS[encoded], features.pa_bits, granule.address_bits)
