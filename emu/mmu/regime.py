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
    LAST_LEVEL,
    MAX_CONCATENATED_BITS,
    STAGE2_START_LEVEL,
    Granule,
    table_base,
)
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTCR_EL2, VTTBR_EL2

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures

STAGE1_OFF = -1
"""Stands for the ASID of entries made while stage 1 is off: they belong to no ASID."""


class Stage1Half(NamedTuple):
    """One half of the stage-1 address space: what TTBR0 or TTBR1 translates."""

    walks: bool
    """Whether a TLB miss walks: TCR_EL1.EPDn is 0."""
    base: IPA
    granule: Granule
    input_bits: int
    start_level: int
    tbi: bool
    """Whether the address's top byte is ignored."""


class Stage1(NamedTuple):
    """The controls of stage 1."""

    enabled: bool
    lower: Stage1Half
    """TTBR0_EL1: addresses with bit 55 clear."""
    upper: Stage1Half
    """TTBR1_EL1: addresses with bit 55 set."""
    output_bits: int
    wxn: int


class Stage2(NamedTuple):
    """The controls of stage 2."""

    enabled: bool
    base: PA
    granule: Granule
    input_bits: int
    start_level: int
    consistent: bool
    """Whether T0SZ and SL0 fit together; if not, every translation faults at level 0."""
    output_bits: int
    xnx: bool
    ptw: bool
    """HCR_EL2.PTW: a stage-1 walk may not touch Device memory."""


class TranslationRegime(NamedTuple):
    """Both stages of EL1&0, and the tags of the TLB entries that they make."""

    stage1: Stage1
    stage2: Stage2
    vmid: int
    asid: int
    """The current ASID, or :data:`STAGE1_OFF`."""


class ControlRegisters(NamedTuple):
    """The register values that a regime is decoded from."""

    sctlr: int
    tcr: int
    ttbr0: int
    ttbr1: int
    hcr: int
    vtcr: int
    vttbr: int


@lru_cache(maxsize=256)
def decode_regime(registers: ControlRegisters, features: CpuFeatures) -> TranslationRegime:
    """Decode the EL1&0 regime.

    Parameters
    ----------
    registers
        Raw values; fields that the CPU does not implement are treated as RES0.
    features
        Address, ASID and VMID sizes and the granules of the CPU.
    """
    hcr = HCR_EL2(registers.hcr)
    sctlr = SCTLR_EL1(registers.sctlr)
    tcr = TCR_EL1(registers.tcr)
    enabled = bool(sctlr.M) and not (hcr.TGE or hcr.DC)
    current = TTBR0_EL1(registers.ttbr1 if tcr.A1 else registers.ttbr0)
    asid_mask = (1 << (features.asid_bits if tcr.AS else 8)) - 1
    vtcr = VTCR_EL2(registers.vtcr)
    vmid_mask = (1 << (features.vmid_bits if vtcr.VS else 8)) - 1
    return TranslationRegime(
        _stage1(registers, sctlr, tcr, features, enabled=enabled),
        _stage2(registers, hcr, vtcr, features),
        VTTBR_EL2(registers.vttbr).VMID & vmid_mask,
        current.ASID & asid_mask if enabled else STAGE1_OFF,
    )


def _stage1(
    registers: ControlRegisters,
    sctlr: SCTLR_EL1,
    tcr: TCR_EL1,
    features: CpuFeatures,
    *,
    enabled: bool,
) -> Stage1:
    lower, upper = (BY_TG0.get(tcr.TG0), BY_TG1.get(tcr.TG1))
    return Stage1(
        enabled,
        _half(registers.ttbr0, tcr.T0SZ, lower, tcr.EPD0, tcr.TBI0, features),
        _half(registers.ttbr1, tcr.T1SZ, upper, tcr.EPD1, tcr.TBI1, features),
        _output_bits(tcr.IPS, features),
        sctlr.WXN,
    )


def _half(
    ttbr: int, tsz: int, granule: Granule | None, epd: int, tbi: int, features: CpuFeatures
) -> Stage1Half:
    granule = _implemented(granule, features)
    # Out-of-range sizes behave as the nearest that is allowed (D8.2.4), one of the choices given.
    input_bits = 64 - min(max(tsz, 16), 39)
    level = granule.start_level(input_bits)
    entries_shift = input_bits - granule.level_shift(level)
    base = IPA(table_base(ttbr, entries_shift + 3))
    return Stage1Half(not epd, base, granule, input_bits, level, bool(tbi))


def _stage2(
    registers: ControlRegisters, hcr: HCR_EL2, vtcr: VTCR_EL2, features: CpuFeatures
) -> Stage2:
    granule = _implemented(BY_TG0.get(vtcr.TG0), features)
    input_bits = 64 - max(vtcr.T0SZ, 16)
    start = STAGE2_START_LEVEL[granule].get(vtcr.SL0)
    level = LAST_LEVEL if start is None else start
    index_bits = input_bits - granule.level_shift(level)
    consistent = (
        start is not None
        and input_bits <= max(features.pa_bits, 40)
        and 0 < index_bits <= granule.stride + MAX_CONCATENATED_BITS
    )
    return Stage2(
        bool(hcr.VM or hcr.DC),
        PA(table_base(registers.vttbr, max(index_bits, 0) + 3)),
        granule,
        input_bits,
        level,
        consistent,
        _output_bits(vtcr.PS, features),
        features.xnx,
        bool(hcr.PTW),
    )


def _implemented(granule: Granule | None, features: CpuFeatures) -> Granule:
    """Return a reserved or missing granule's stand-in: one that is implemented (D8.2.1)."""
    return granule if granule is not None and granule in features.granules else KB4


def _output_bits(encoded: int, features: CpuFeatures) -> int:
    """Return the output address size: what is configured, at most what is implemented."""
    return min(ADDRESS_SIZE_BITS.get(encoded, 48), features.pa_bits, 48)
