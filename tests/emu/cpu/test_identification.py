"""What a guest reads from identification registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.esr.classes import ExceptionClass
from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import (
    CLIDR_EL1,
    CTR_EL0,
    DCZID_EL0,
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1,
    MIDR_EL1,
    MPIDR_EL1,
)
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import VMPIDR_EL2, VPIDR_EL2
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, Bare

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (ID_AA64PFR0_EL1, 0x0100_0222),
        (ID_AA64PFR1_EL1, 0),
        (ID_AA64DFR0_EL1, 0x1030_5106),
        (ID_AA64ISAR0_EL1, 0x1_1120),
        (ID_AA64MMFR0_EL1, 0x1124),
        (ID_AA64MMFR1_EL1, 0),
        (ID_AA64MMFR2_EL1, 0),
        (CTR_EL0, 0x8444_C004),
        (DCZID_EL0, 4),
    ],
)
def test_guest_reads_the_values_of_the_cortex_a72(
    bare: Bare, register: type[SystemRegister], value: int
) -> None:
    bare.trap(a64.mrs(5, register), a64.hvc(0))
    assert bare.x(5) == value
    assert bare.pe.read(register) == value


def test_guest_reads_the_features_that_the_machine_was_given() -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(XNX=1, PAN=2)))
    bare.trap(a64.mrs(5, ID_AA64MMFR1_EL1), a64.hvc(0))
    assert bare.x(5) == 0x1020_0000


def test_reserved_id_register_reads_zero(bare: Bare) -> None:
    bare.trap(0xD538_07E5, a64.hvc(0))
    assert bare.x(5) == 0


def test_read_into_xzr_is_dropped(bare: Bare) -> None:
    assert bare.trap(a64.mrs(a64.XZR, ID_AA64MMFR0_EL1), a64.hvc(0)).esr == 0x5A00_0000


def test_guest_sees_the_identity_that_el2_gives_it(bare: Bare) -> None:
    bare.pe.write(VPIDR_EL2(0x1234_5678))
    bare.pe.write(VMPIDR_EL2(0x8000_0003))
    bare.trap(a64.mrs(5, MIDR_EL1), a64.mrs(6, MPIDR_EL1), a64.hvc(0))
    assert (bare.x(5), bare.x(6)) == (0x1234_5678, 0x8000_0003)


def test_el2_reads_the_pe_s_own_identity() -> None:
    bare = Bare(pe_count=3)
    assert [int(pe.read(MPIDR_EL1)) for pe in bare.machine.pes] == [
        0x8000_0000,
        0x8000_0001,
        0x8000_0002,
    ]
    assert bare.pe.read(MIDR_EL1) == 0x410F_D083


ID_SPACE = {
    "ID_AA64PFR0_EL1": a64.mrs(5, ID_AA64PFR0_EL1),
    "ID_PFR0_EL1": 0xD538_0105,
    "reserved": 0xD538_07E5,
    "MIDR_EL1": a64.mrs(5, MIDR_EL1),
    "CLIDR_EL1": a64.mrs(5, CLIDR_EL1),
}


@pytest.mark.parametrize("word", ID_SPACE.values(), ids=ID_SPACE)
@pytest.mark.parametrize("idst", [0, 1])
def test_id_registers_are_not_for_el0(word: int, idst: int) -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64MMFR2_EL1.build(IDS=idst)))
    bare.change_hcr(TID1=1, TID2=1, TID3=1)
    taken = bare.taken_to_el1(a64.NOP, word, pstate=EL0T)
    expected = ExceptionClass.SYS64 if idst else ExceptionClass.UNKNOWN
    assert (taken.esr >> 26, taken.elr) == (expected, CODE + 4)


def test_only_reads_of_the_id_space_are_reported_as_traps() -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64MMFR2_EL1.build(IDS=1)))
    assert bare.taken_to_el1(a64.mrs(5, SCTLR_EL1), pstate=EL0T).esr == 1 << 25
