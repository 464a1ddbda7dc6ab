"""Register values as software writes them, decoded and encoded."""

import pytest

from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.registers import BY_NAME
from emu.arch.registers.exceptions import (
    ESR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    PAR_EL1_FAULT,
    PSTATE,
    SPSR_EL1,
    VBAR_EL1,
    Mode,
)
from emu.arch.registers.identification import CTR_EL0, ID_AA64MMFR0_EL1
from emu.arch.registers.translation import (
    SCTLR_EL1,
    TCR_EL1,
    TG0,
    TG1,
    PhysicalAddressSize,
    Shareability,
)
from emu.arch.registers.virtualization import HCR_EL2, VTCR_EL2, VTTBR_EL2


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("SCTLR_EL1", (3, 0, 1, 0, 0)),
        ("TCR_EL1", (3, 0, 2, 0, 2)),
        ("TTBR1_EL1", (3, 0, 2, 0, 1)),
        ("MAIR_EL1", (3, 0, 10, 2, 0)),
        ("VBAR_EL1", (3, 0, 12, 0, 0)),
        ("ESR_EL1", (3, 0, 5, 2, 0)),
        ("FAR_EL1", (3, 0, 6, 0, 0)),
        ("PAR_EL1", (3, 0, 7, 4, 0)),
        ("SP_EL0", (3, 0, 4, 1, 0)),
        ("SP_EL1", (3, 4, 4, 1, 0)),
        ("HCR_EL2", (3, 4, 1, 1, 0)),
        ("VTCR_EL2", (3, 4, 2, 1, 2)),
        ("VTTBR_EL2", (3, 4, 2, 1, 0)),
        ("HPFAR_EL2", (3, 4, 6, 0, 4)),
        ("VPIDR_EL2", (3, 4, 0, 0, 0)),
        ("VMPIDR_EL2", (3, 4, 0, 0, 5)),
        ("CTR_EL0", (3, 3, 0, 0, 1)),
        ("DCZID_EL0", (3, 3, 0, 0, 7)),
        ("ID_AA64MMFR0_EL1", (3, 0, 0, 7, 0)),
        ("CurrentEL", (3, 0, 4, 2, 2)),
        ("TPIDRRO_EL0", (3, 3, 13, 0, 3)),
        ("CNTV_CTL_EL0", (3, 3, 14, 3, 1)),
        ("CNTVCT_EL0", (3, 3, 14, 0, 2)),
    ],
)
def test_encodings_of_well_known_registers(
    name: str, encoding: tuple[int, int, int, int, int]
) -> None:
    assert BY_NAME[name].encoding == encoding


def test_linux_sctlr_with_the_mmu_on() -> None:
    sctlr = SCTLR_EL1(0x34D5_D91D)
    assert (sctlr.M, sctlr.C, sctlr.I, sctlr.A, sctlr.WXN) == (1, 1, 1, 0, 0)
    assert (sctlr.SA, sctlr.SA0, sctlr.UCT, sctlr.DZE, sctlr.SPAN) == (1, 1, 1, 1, 1)
    assert (sctlr.EE, sctlr.E0E, sctlr.UCI, sctlr.UMA) == (0, 0, 1, 0)


def test_tcr_granules_of_the_two_halves_are_numbered_differently() -> None:
    tcr = TCR_EL1.build(TG0=TG0.KB16, TG1=TG1.KB16)
    assert tcr == 2 << 14 | 1 << 30
    assert TCR_EL1.build(TG0=TG0.KB4, TG1=TG1.KB4) == 2 << 30


def test_linux_tcr_for_48_bits_and_4k() -> None:
    tcr = TCR_EL1(0x0000_0035_B510_3510 | 1 << 39)
    assert (tcr.T0SZ, tcr.T1SZ, tcr.TG0, tcr.TG1) == (16, 16, TG0.KB4, TG1.KB4)
    assert (tcr.SH0, tcr.SH1) == (Shareability.INNER_SHAREABLE, Shareability.INNER_SHAREABLE)
    assert (tcr.IPS, tcr.AS, tcr.TBI0, tcr.HA) == (PhysicalAddressSize.BITS_48, 1, 1, 1)


def test_reserved_granule_reads_as_a_number() -> None:
    assert VTCR_EL2(3 << 14).TG0 == 3


def test_vtcr_of_kvm_for_40_bit_ipa() -> None:
    vtcr = VTCR_EL2.build(
        RES1=1,
        PS=PhysicalAddressSize.BITS_40,
        TG0=TG0.KB4,
        SH0=Shareability.INNER_SHAREABLE,
        ORGN0=1,
        IRGN0=1,
        SL0=1,
        T0SZ=24,
    )
    assert vtcr == 0x8002_3558


def test_vttbr_holds_the_address_from_bit_1() -> None:
    vttbr = VTTBR_EL2.build(VMID=3, BADDR=0x8_4800_0000 >> 1)
    assert vttbr == 3 << 48 | 0x8_4800_0000


def test_hcr_bits_at_both_ends() -> None:
    hcr = HCR_EL2.build(VM=1, RW=1, E2H=1, FWB=1, TID5=1)
    assert hcr == 1 | 1 << 31 | 1 << 34 | 1 << 46 | 1 << 58


def test_hpfar_gives_the_page() -> None:
    hpfar = HPFAR_EL2.build(FIPA=0x4000_1000 >> 12)
    assert hpfar == 0x40_0010
    assert hpfar.FIPA << 12 == 0x4000_1000


def test_esr_has_class_length_and_both_syndromes() -> None:
    esr = ESR_EL2(0x20_9383_0047)
    assert (esr.EC, esr.IL, esr.ISS, esr.ISS2) == (ExceptionClass.DABT_LOW, 1, 0x183_0047, 0x20)


def test_par_of_a_successful_translation() -> None:
    par = PAR_EL1(0xFF00_0000_4020_1B80)
    assert (par.F, par.PA << 12, par.ATTR, par.SH) == (0, 0x4020_1000, 0xFF, 3)


def test_par_of_a_stage_2_fault_on_the_stage_1_walk() -> None:
    par = PAR_EL1_FAULT(1 << 11 | 1 << 9 | 1 << 8 | 0x07 << 1 | 1)
    assert (par.F, par.S, par.PTW, par.FST) == (1, 1, 1, FaultStatusCode.TRANSLATION_L3)


@pytest.mark.parametrize(
    ("word", "level", "mode"),
    [(0x3C5, 1, Mode.EL1h), (0x3C4, 1, Mode.EL1t), (0, 0, Mode.EL0t), (0x3C9, 2, Mode.EL2h)],
)
def test_pstate_of_aarch64_modes(word: int, level: int, mode: Mode) -> None:
    assert (level, mode) == (PSTATE(word).EL, PSTATE(word).M)


@pytest.mark.parametrize(("word", "level"), [(0x10, 0), (0x13, 1)])
def test_pstate_of_aarch32_modes(word: int, level: int) -> None:
    assert level == PSTATE(word).EL


def test_spsr_bits_are_where_linux_has_them() -> None:
    spsr = SPSR_EL1.build(TCO=1, DIT=1, UAO=1, PAN=1, SS=1, IL=1, SSBS=1, BTYPE=2)
    assert spsr == 1 << 25 | 1 << 24 | 1 << 23 | 1 << 22 | 1 << 21 | 1 << 20 | 1 << 12 | 2 << 10


def test_vbar_is_aligned_to_2_kilobytes() -> None:
    assert VBAR_EL1.build(VBA=0x4E01_0000 >> 11) == 0x4E01_0000


def test_identification_of_caches_and_memory_model() -> None:
    ctr = CTR_EL0(0x8444_C004)
    assert (ctr.IminLine, ctr.DminLine, ctr.L1Ip, ctr.IDC, ctr.DIC) == (4, 4, 3, 0, 0)
    mmfr0 = ID_AA64MMFR0_EL1(0x0000_1124)
    assert (mmfr0.PARange, mmfr0.ASIDBits) == (PhysicalAddressSize.BITS_44, 2)
