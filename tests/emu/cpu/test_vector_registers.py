from __future__ import annotations

from typing import Final

import pytest

from emu.arch.address import PA
from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.arch.registers.identification import (
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64PFR1_EL1,
)
from emu.memory import PhysicalMemory
from tests.emu.cpu import a64
from tests.emu.cpu.bare import DATA, Bare

STR_Q7_X1: Final = 0x3D80_0027
LDR_Q31_X1: Final = 0x3DC0_003F
LDADD_X2_X0_X1: Final = 0xF822_0020
VALUE: Final = 0x0011_2233_4455_6677_8899_AABB_CCDD_EE00


def test_all_vector_registers_hold_128_bits(bare: Bare) -> None:
    for number in range(32):
        bare.pe.write_q(number, VALUE + number)
    assert [bare.pe.read_q(number) for number in range(32)] == [VALUE + n for n in range(32)]


def test_the_guest_sees_what_el2_wrote_and_the_other_way_round(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x1=DATA)
    bare.pe.write_q(7, VALUE)
    bare.trap(STR_Q7_X1, LDR_Q31_X1, a64.hvc(0))
    assert bare.pe.read_q(31) == VALUE


def test_a_written_vector_register_counts_as_a_change_of_the_guest(bare: Bare) -> None:
    bare.pe.registers.written = False
    bare.pe.write_q(0, 1)
    assert bare.pe.registers.written


@pytest.mark.parametrize(
    "features",
    [
        CORTEX_A72.replace(CORTEX_A72.read(ID_AA64ISAR0_EL1).replace(Atomic=2)),
        CORTEX_A72.replace(ID_AA64ISAR1_EL1.build(DPB=1)),
        CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(LO=1)),
        CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(PAN=1)),
        CORTEX_A72.replace(ID_AA64PFR1_EL1.build(BT=1)),
    ],
)
def test_later_instructions_need_the_larger_engine(features: CpuFeatures) -> None:
    assert CORTEX_A72.armv8_0
    assert not features.armv8_0


def test_the_engine_executes_what_the_cpu_has() -> None:
    lse = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64ISAR0_EL1).replace(Atomic=2))
    for features, vector in ((CORTEX_A72, True), (lse, False)):
        bare = Bare(features)
        bare.map_ipa(DATA)
        bare.set_x(x1=DATA, x2=1)
        esr = bare.trap(LDADD_X2_X0_X1, a64.hvc(0)).esr
        assert (esr & 0xFFFF >= 0x100) is vector


def test_cleared_memory_is_zero_everywhere_and_stays_usable() -> None:
    memory = PhysicalMemory(PA(0x8000_0000), 1 << 20)
    for pa in (0x8000_0000, 0x8008_0008, 0x800F_FFF8):
        memory.write_u64(PA(pa), VALUE & 0xFFFF_FFFF)
    memory.clear()
    assert memory.read(PA(0x8000_0000), 1 << 20) == bytes(1 << 20)
    memory.write_u64(PA(0x8008_0008), 5)
    assert memory.read_u64(PA(0x8008_0008)) == 5
