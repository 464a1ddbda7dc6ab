"""Control registers as the walks see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.arch.granule import KB4, KB16, KB64
from emu.arch.registers.identification import (
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
)
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTCR_EL2, VTTBR_EL2
from emu.mmu.regime import STAGE1_OFF, ControlRegisters, TranslationRegime, decode_regime

if TYPE_CHECKING:
    from emu.arch.granule import Granule

EVERYTHING: Final = CpuFeatures(
    "everything",
    (
        ID_AA64MMFR0_EL1.build(PARange=6, ASIDBits=2, TGran4=1, TGran16=2, TGran64=0),
        ID_AA64MMFR1_EL1.build(HAFDBS=2, VMIDBits=2, XNX=1, PAN=3, HPDS=1),
        ID_AA64MMFR2_EL1.build(VARange=1, ST=1, E0PD=1, FWB=1),
    ),
)
M: Final = SCTLR_EL1.build(M=1)
VM: Final = HCR_EL2.build(VM=1, RW=1)


def decode(features: CpuFeatures = CORTEX_A72, **registers: int) -> TranslationRegime:
    """Decode a regime from some registers; the others are zero."""
    zero = ControlRegisters(0, 0, 0, 0, 0, 0, 0)
    return decode_regime(zero._replace(**registers), features)


# Stage 1


@pytest.mark.parametrize(
    ("m", "dc", "tge", "enabled"), [(0, 0, 0, 0), (1, 0, 0, 1), (1, 1, 0, 0), (1, 0, 1, 0)]
)
def test_stage_1_is_on_with_m_unless_el2_overrides_it(
    m: int, dc: int, tge: int, enabled: int
) -> None:
    regime = decode(sctlr=SCTLR_EL1.build(M=m), hcr=HCR_EL2.build(VM=1, DC=dc, TGE=tge))
    assert regime.stage1.enabled == bool(enabled)


def test_the_halves_have_sizes_and_granules_of_their_own() -> None:
    tcr = TCR_EL1.build(T0SZ=25, TG0=0, T1SZ=22, TG1=3, IPS=2)
    lower, upper = decode(sctlr=M, tcr=tcr).stage1[1:3]
    assert (lower.granule, lower.input_bits, lower.start_level) == (KB4, 39, 1)
    assert (upper.granule, upper.input_bits, upper.start_level) == (KB64, 42, 2)


def test_the_halves_have_tables_of_their_own() -> None:
    stage1 = decode(sctlr=M, ttbr0=0x1_2345_F001, ttbr1=0xABCD_0000_0000_4000).stage1
    assert (stage1.lower.base, stage1.upper.base) == (0x1_2345_F000, 0x4000)


@pytest.mark.parametrize("half", ["0", "1"])
@pytest.mark.parametrize(
    ("field", "attribute", "value"),
    [("EPD", "walks", False), ("TBI", "tbi", True), ("E0PD", "e0pd", True), ("HPD", "hpd", True)],
)
def test_controls_of_one_half_leave_the_other(
    half: str, field: str, attribute: str, *, value: bool
) -> None:
    tcr = TCR_EL1.build(T0SZ=25, T1SZ=25, TG1=2, **{field + half: 1})
    halves = decode(EVERYTHING, sctlr=M, tcr=tcr).stage1[1:3]
    assert getattr(halves[int(half)], attribute) is value
    assert getattr(halves[1 - int(half)], attribute) is not value


@pytest.mark.parametrize(
    ("fields", "attribute"),
    [
        ({"HA": 1}, "ha"),
        ({"HA": 1, "HD": 1}, "hd"),
    ],
)
def test_hardware_updates_need_the_feature(fields: dict[str, int], attribute: str) -> None:
    tcr = TCR_EL1.build(**fields)
    assert getattr(decode(EVERYTHING, sctlr=M, tcr=tcr).stage1, attribute)
    assert not getattr(decode(CORTEX_A72, sctlr=M, tcr=tcr).stage1, attribute)


def test_dirty_state_needs_the_access_flag_to_be_managed() -> None:
    assert not decode(EVERYTHING, sctlr=M, tcr=TCR_EL1.build(HD=1)).stage1.hd


@pytest.mark.parametrize("fields", [{"E0PD0": 1}, {"HPD0": 1}])
def test_controls_without_their_feature_are_res0(fields: dict[str, int]) -> None:
    lower = decode(CORTEX_A72, sctlr=M, tcr=TCR_EL1.build(**fields)).stage1.lower
    assert not lower.e0pd
    assert not lower.hpd


@pytest.mark.parametrize(
    ("features", "tsz", "walks"),
    [
        (CORTEX_A72, 15, False),
        (CORTEX_A72, 16, True),
        (CORTEX_A72, 39, True),
        (CORTEX_A72, 40, False),
        (EVERYTHING, 12, False),
        (EVERYTHING, 48, True),
        (EVERYTHING, 49, False),
    ],
)
def test_sizes_out_of_range_make_every_translation_fault(
    features: CpuFeatures, tsz: int, *, walks: bool
) -> None:
    assert decode(features, sctlr=M, tcr=TCR_EL1.build(T0SZ=tsz)).stage1.lower.walks is walks


@pytest.mark.parametrize(("tsz", "walks"), [(47, True), (48, False)])
def test_smallest_space_of_the_64_kib_granule_is_one_page_larger(tsz: int, *, walks: bool) -> None:
    tcr = TCR_EL1.build(T0SZ=tsz, TG0=1)
    assert decode(EVERYTHING, sctlr=M, tcr=tcr).stage1.lower.walks is walks


def test_52_bit_addresses_of_the_4k_granule_are_chosen_by_ds() -> None:
    tcr = TCR_EL1.build(T0SZ=12, IPS=6, DS=1)
    lower = decode(EVERYTHING, sctlr=M, tcr=tcr).stage1.lower
    assert (lower.input_bits, lower.output_bits, lower.start_level) == (52, 52, -1)
    lower = decode(EVERYTHING, sctlr=M, tcr=tcr.replace(DS=0, T0SZ=16)).stage1.lower
    assert (lower.input_bits, lower.output_bits, lower.start_level) == (48, 48, 0)


def test_52_bit_addresses_of_the_64k_granule_come_with_the_cpu() -> None:
    lower = decode(EVERYTHING, sctlr=M, tcr=TCR_EL1.build(T0SZ=12, TG0=1, IPS=6)).stage1.lower
    assert (lower.input_bits, lower.output_bits, lower.start_level) == (52, 52, 1)


@pytest.mark.parametrize(
    ("features", "ips", "bits"),
    [(CORTEX_A72, 0, 32), (CORTEX_A72, 4, 44), (CORTEX_A72, 5, 44), (EVERYTHING, 5, 48)],
)
def test_output_size_is_what_is_configured_but_no_more_than_there_is(
    features: CpuFeatures, ips: int, bits: int
) -> None:
    tcr = TCR_EL1.build(T0SZ=25, IPS=ips)
    assert decode(features, sctlr=M, tcr=tcr).stage1.lower.output_bits == bits


def test_reserved_granule_of_stage_2_is_the_smallest_whichever_field_announces_it() -> None:
    explicit = ID_AA64MMFR0_EL1.build(PARange=5, TGran16=2, TGran16_2=2, TGran4_2=0)
    features = CpuFeatures("mixed", (explicit,))
    assert decode(features, hcr=VM, vtcr=VTCR_EL2.build(TG0=3)).stage2.granule is KB4


@pytest.mark.parametrize(("tg0", "granule"), [(0, KB4), (1, KB64), (2, KB4), (3, KB4)])
def test_granule_that_is_reserved_or_missing_is_one_that_is_there(
    tg0: int, granule: Granule
) -> None:
    regime = decode(CORTEX_A72, sctlr=M, tcr=TCR_EL1(tg0 << 14 | 25))
    assert regime.stage1.lower.granule == granule


def test_wxn_and_epan() -> None:
    stage1 = decode(EVERYTHING, sctlr=SCTLR_EL1.build(M=1, WXN=1, EPAN=1)).stage1
    assert (stage1.wxn, stage1.epan) == (1, 1)
    assert decode(CORTEX_A72, sctlr=SCTLR_EL1.build(M=1, EPAN=1)).stage1.epan == 0


@pytest.mark.parametrize(
    ("sctlr", "hcr", "strict"),
    [
        (SCTLR_EL1.build(M=1), 0, False),
        (SCTLR_EL1.build(M=1, A=1), 0, True),
        (SCTLR_EL1.build(), 0, True),
        (SCTLR_EL1.build(), HCR_EL2.build(DC=1), False),
        (SCTLR_EL1.build(A=1), HCR_EL2.build(DC=1), True),
    ],
)
def test_when_all_accesses_must_be_aligned(sctlr: int, hcr: int, *, strict: bool) -> None:
    assert decode(sctlr=sctlr, hcr=hcr).stage1.is_strict is strict


# ASID and VMID


@pytest.mark.parametrize(
    ("a1", "wide", "asid"), [(0, 1, 0x1234), (0, 0, 0x34), (1, 1, 0x5678), (1, 0, 0x78)]
)
def test_asid(a1: int, wide: int, asid: int) -> None:
    tcr = TCR_EL1.build(A1=a1, AS=wide)
    ttbr0, ttbr1 = TTBR0_EL1.build(ASID=0x1234), TTBR0_EL1.build(ASID=0x5678)
    assert decode(sctlr=M, tcr=tcr, ttbr0=ttbr0, ttbr1=ttbr1).asid == asid


def test_there_is_no_asid_while_stage_1_is_off() -> None:
    assert decode(ttbr0=TTBR0_EL1.build(ASID=3)).asid == STAGE1_OFF


@pytest.mark.parametrize(
    ("features", "vs", "vmid"),
    [(CORTEX_A72, 1, 0x34), (EVERYTHING, 0, 0x34), (EVERYTHING, 1, 0x1234)],
)
def test_vmid(features: CpuFeatures, vs: int, vmid: int) -> None:
    regime = decode(features, vtcr=VTCR_EL2.build(VS=vs), vttbr=VTTBR_EL2.build(VMID=0x1234))
    assert regime.vmid == vmid


# Stage 2


@pytest.mark.parametrize(("vm", "dc", "enabled"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)])
def test_stage_2_is_on_with_vm_or_dc(vm: int, dc: int, enabled: int) -> None:
    assert decode(hcr=HCR_EL2.build(VM=vm, DC=dc)).stage2.enabled == bool(enabled)


SHAPES: Final = [
    # granule, SL0, T0SZ, start level (None: contradictory)
    (0, 1, 24, 1),
    (0, 1, 25, 1),
    (0, 1, 33, 1),
    (0, 1, 34, None),  # one entry at level 1: too small
    (0, 1, 21, 1),  # 43 bits: 16 concatenated tables
    (0, 1, 20, None),  # 44 bits: 32 tables
    (0, 0, 30, 2),
    (0, 0, 34, 2),
    (0, 0, 29, None),
    (0, 2, 20, 0),
    (0, 2, 24, 0),
    (0, 2, 25, None),
    (0, 3, 40, None),  # level 3 needs FEAT_TTST
    (1, 0, 35, 3),
    (1, 1, 24, 2),
    (1, 2, 20, 1),
    (1, 3, 24, None),
]


@pytest.mark.parametrize(("tg0", "sl0", "t0sz", "level"), SHAPES)
def test_start_level_and_size_of_stage_2_must_fit(
    tg0: int, sl0: int, t0sz: int, level: int | None
) -> None:
    vtcr = VTCR_EL2.build(TG0=tg0, SL0=sl0, T0SZ=t0sz, PS=4)
    stage2 = decode(hcr=VM, vtcr=vtcr).stage2
    assert stage2.consistent is (level is not None)
    if level is not None:
        assert (stage2.start_level, stage2.input_bits) == (level, 64 - t0sz)


@pytest.mark.parametrize(
    ("granule", "ds", "sl2", "sl0", "t0sz", "level"),
    [
        (KB4, 1, 1, 0, 12, -1),
        (KB4, 0, 1, 0, 30, 2),
        (KB4, 1, 1, 1, 25, None),
        (KB4, 0, 0, 3, 43, 3),
        (KB16, 1, 0, 3, 12, 0),
        (KB16, 0, 0, 3, 16, None),
        (KB16, 0, 0, 2, 17, 1),
        (KB16, 0, 0, 0, 40, 3),
        (KB64, 0, 0, 2, 12, 1),
    ],
)
def test_start_levels_that_features_bring(
    granule: Granule, ds: int, sl2: int, sl0: int, t0sz: int, level: int | None
) -> None:
    tg0 = {KB4: 0, KB64: 1, KB16: 2}[granule]
    vtcr = VTCR_EL2.build(TG0=tg0, DS=ds, SL2=sl2, SL0=sl0, T0SZ=t0sz, PS=6)
    stage2 = decode(EVERYTHING, hcr=VM, vtcr=vtcr).stage2
    assert stage2.consistent is (level is not None)
    if level is not None:
        assert stage2.start_level == level


def test_ipas_are_no_larger_than_pas() -> None:
    assert not decode(hcr=VM, vtcr=VTCR_EL2.build(SL0=2, T0SZ=19, PS=4)).stage2.consistent


@pytest.mark.parametrize(
    ("t0sz", "base"), [(25, 0x8_1234_7000), (24, 0x8_1234_6000), (21, 0x8_1234_0000)]
)
def test_concatenated_tables_are_aligned_to_their_size(t0sz: int, base: int) -> None:
    vtcr = VTCR_EL2.build(SL0=1, T0SZ=t0sz, PS=4)
    assert decode(hcr=VM, vtcr=vtcr, vttbr=0x8_1234_7FFF).stage2.base == base


@pytest.mark.parametrize(
    ("register", "fields", "attribute"),
    [
        ("vtcr", {"HA": 1}, "ha"),
        ("vtcr", {"HA": 1, "HD": 1}, "hd"),
        ("hcr", {"FWB": 1}, "fwb"),
    ],
)
def test_stage_2_controls_need_their_feature(
    register: str, fields: dict[str, int], attribute: str
) -> None:
    layout = {"vtcr": VTCR_EL2, "hcr": HCR_EL2}[register]
    value = layout(0).replace(**fields)
    assert getattr(decode(EVERYTHING, **{register: value}).stage2, attribute)
    assert not getattr(decode(CORTEX_A72, **{register: value}).stage2, attribute)


def test_protected_table_walks_and_xnx() -> None:
    stage2 = decode(EVERYTHING, hcr=HCR_EL2.build(VM=1, PTW=1)).stage2
    assert (stage2.ptw, stage2.xnx) == (True, True)
    assert not decode(CORTEX_A72, hcr=VM).stage2.xnx


def test_updates_by_hardware_are_summed_up() -> None:
    assert not decode(EVERYTHING, sctlr=M, hcr=VM).updates
    assert decode(EVERYTHING, sctlr=M, tcr=TCR_EL1.build(HA=1)).updates
    assert decode(EVERYTHING, hcr=VM, vtcr=VTCR_EL2.build(HA=1)).updates
