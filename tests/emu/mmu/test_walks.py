"""Walks of both stages, descriptor by descriptor: faults by type and level, and what is mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import IPA, PA, VA
from emu.arch.esr.fsc import FaultType
from emu.arch.features import CORTEX_A72
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1
from emu.arch.registers.virtualization import HCR_EL2, SCTLR_EL2, VTCR_EL2
from emu.memory import PhysicalMemory
from emu.mmu import stage1, stage2
from emu.mmu.fault import Fault
from emu.mmu.permissions import EL0, EL1, EXECUTE, READ, WRITE
from emu.mmu.regime import ControlRegisters, decode_regime
from tests.emu.mmu.test_regime import EVERYTHING

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.mmu.stage1 import Stage1Mapping
    from emu.mmu.stage2 import Stage2Mapping

BASE: Final = 0x8_0000_0000
ROOT, LEVEL1, LEVEL2, LEVEL3 = (BASE + 0x1_0000 * n for n in range(4))
OUTPUT: Final = 0x8_0040_0000
AF: Final = 1 << 10
RW: Final = 3 << 6
NORMAL: Final = 0xF << 2
VTCR_4_LEVELS: Final = VTCR_EL2.build(RES1=1, SL0=2, T0SZ=20, PS=4)
TCR_4_LEVELS: Final = TCR_EL1.build(T0SZ=16, T1SZ=16, TG1=2, IPS=4)
ADDRESS: Final = 0x0123_4567_89AB & (1 << 44) - 1


class Flat(stage1.Tables):
    """Tables that are where their IPAs say."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory

    def fetch(self, ipa: IPA, level: int) -> int | Fault:
        word = self._memory.fetch_u64(PA(ipa))
        return Fault(FaultType.EXTERNAL_ON_WALK, level, 1) if word is None else word


class Walks:
    """Tables of four levels that lead to one page, in RAM of one MiB."""

    def __init__(self, attributes: int, features: CpuFeatures = CORTEX_A72) -> None:
        self.features = features
        self.memory = PhysicalMemory(PA(BASE), 1 << 20)
        tables = (ROOT, LEVEL1, LEVEL2, LEVEL3)
        self.entries = [
            PA(table + 8 * (ADDRESS >> shift & 0x1FF))
            for table, shift in zip(tables, (39, 30, 21, 12), strict=True)
        ]
        for entry, table in zip(self.entries, tables[1:], strict=False):
            self.memory.write_u64(entry, table | 3)
        self.memory.write_u64(self.entries[3], OUTPUT | attributes | 3)

    def change(self, level: int, descriptor: int) -> None:
        """Write the descriptor of one level."""
        self.memory.write_u64(self.entries[level], descriptor)

    def swap(self) -> None:
        """Write all descriptors in big-endian byte order."""
        for entry in self.entries:
            self.memory.write(entry, self.memory.read(entry, 8)[::-1])

    def stage1(
        self, va: int = ADDRESS, tcr: int = TCR_4_LEVELS, sctlr: int = SCTLR_EL1.build(M=1)
    ) -> Stage1Mapping | Fault:
        """Walk stage 1, whose tables are where their IPAs say."""
        registers = ControlRegisters(SCTLR_EL1(sctlr), tcr, ROOT, ROOT, 0, 0, 0, mair=0xFF_04_44)
        controls = decode_regime(registers, self.features).stage1

        return stage1.walk(controls, VA(va), Flat(self.memory))

    def stage2(
        self, ipa: int = ADDRESS, vtcr: int = VTCR_4_LEVELS, vttbr: int = ROOT, sctlr_el2: int = 0
    ) -> Stage2Mapping | Fault:
        """Walk stage 2."""
        hcr = HCR_EL2.build(VM=1)
        registers = ControlRegisters(0, 0, 0, 0, hcr, vtcr, vttbr, sctlr_el2=sctlr_el2)
        controls = decode_regime(registers, self.features).stage2
        return stage2.walk(self.memory, controls, IPA(ipa))


@pytest.fixture
def two() -> Walks:
    """Return stage-2 tables that map a page for reading and writing."""
    return Walks(AF | RW | NORMAL)


@pytest.fixture
def one() -> Walks:
    """Return stage-1 tables that map a page for EL1."""
    return Walks(AF)


def fault2(name: FaultType, level: int) -> Fault:
    """Return a fault of stage 2 on ADDRESS."""
    return Fault(name, level, 2, IPA(ADDRESS))


# Stage 2


def test_stage_2_page(two: Walks) -> None:
    found = two.stage2()
    assert not isinstance(found, Fault)
    assert ADDRESS + found.offset == OUTPUT | ADDRESS & 0xFFF
    assert (found.shift, found.level, found.memattr) == (12, 3, 0xF)
    assert found.allowed[EL1] == READ | WRITE | EXECUTE
    assert found.address == two.entries[3]
    assert found.descriptor == two.memory.read_u64(two.entries[3])


@pytest.mark.parametrize(("level", "shift"), [(1, 30), (2, 21)])
def test_stage_2_block(two: Walks, level: int, shift: int) -> None:
    two.change(level, (1 << 43) | AF | RW | 1)
    found = two.stage2()
    assert not isinstance(found, Fault)
    assert (found.shift, found.level) == (shift, level)
    assert ADDRESS + found.offset == 1 << 43 | ADDRESS & (1 << shift) - 1


@pytest.mark.parametrize(("level", "shift"), [(1, 30), (2, 21)])
def test_low_bits_of_a_block_s_address_are_ignored(two: Walks, level: int, shift: int) -> None:
    two.change(level, (1 << 43) | (1 << shift) - 0x1000 | AF | RW | 1)
    found = two.stage2()
    assert not isinstance(found, Fault)
    assert ADDRESS + found.offset == 1 << 43 | ADDRESS & (1 << shift) - 1


@pytest.mark.parametrize("level", range(4))
def test_stage_2_translation_fault_at_each_level(two: Walks, level: int) -> None:
    two.change(level, 0xFFFF_FFFF_FFFF_FFFE)
    assert two.stage2() == fault2(FaultType.TRANSLATION, level)


@pytest.mark.parametrize("level", [0, 3])
def test_stage_2_block_where_none_may_be(two: Walks, level: int) -> None:
    two.change(level, AF | RW | 1)
    assert two.stage2() == fault2(FaultType.TRANSLATION, level)


@pytest.mark.parametrize(("level", "kind"), [(1, 1), (2, 1), (3, 3)])
def test_stage_2_access_flag_fault(two: Walks, level: int, kind: int) -> None:
    two.change(level, RW | kind)
    assert two.stage2() == fault2(FaultType.ACCESS_FLAG, level)


@pytest.mark.parametrize(("level", "kind"), [(0, 3), (1, 3), (2, 3), (1, 1), (2, 1), (3, 3)])
def test_stage_2_address_size_fault(two: Walks, level: int, kind: int) -> None:
    two.change(level, 1 << 44 | kind)
    assert two.stage2() == fault2(FaultType.ADDRESS_SIZE, level), "before the access flag"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_stage_2_external_abort_on_the_walk(two: Walks, level: int) -> None:
    two.change(level - 1, 0x7_0000_0000 | 3)
    assert two.stage2() == fault2(FaultType.EXTERNAL_ON_WALK, level)


def test_stage_2_root_outside_memory(two: Walks) -> None:
    assert two.stage2(vttbr=0x7_0000_0000) == fault2(FaultType.EXTERNAL_ON_WALK, 0)


def test_stage_2_root_beyond_the_output_size(two: Walks) -> None:
    assert two.stage2(vttbr=1 << 44) == fault2(FaultType.ADDRESS_SIZE, 0)


def test_ipa_beyond_the_input_size(two: Walks) -> None:
    assert two.stage2(1 << 44) == Fault(FaultType.TRANSLATION, 0, 2, IPA(1 << 44))


def test_contradictory_vtcr(two: Walks) -> None:
    found = two.stage2(vtcr=VTCR_EL2.build(SL0=1, T0SZ=20, PS=4))
    assert found == fault2(FaultType.TRANSLATION, 0)


def test_concatenated_tables(two: Walks) -> None:
    """With 43 bits from level 1 there are 16 tables of 512 entries at the root."""
    vtcr = VTCR_EL2.build(RES1=1, SL0=1, T0SZ=21, PS=4)
    ipa = 15 << 39 | 511 << 30 | 0x1234
    two.memory.write_u64(PA(ROOT + 8 * (16 * 512 - 1)), (1 << 43) | AF | RW | 1)
    found = two.stage2(ipa, vtcr)
    assert not isinstance(found, Fault)
    assert (ipa + found.offset, found.level) == (1 << 43 | 0x1234, 1)


def test_stage_2_walk_ignores_upper_attributes_of_tables(two: Walks) -> None:
    two.change(1, LEVEL2 | 0x1F << 59 | 3)
    assert not isinstance(two.stage2(), Fault)


# Stage 1


def test_stage_1_page(one: Walks) -> None:
    found = one.stage1()
    assert not isinstance(found, Fault)
    assert ADDRESS + found.offset == OUTPUT | ADDRESS & 0xFFF
    assert (found.shift, found.level, found.is_global, found.attribute) == (12, 3, True, 0x44)
    assert found.allowed[EL1] == READ | WRITE | EXECUTE
    assert found.allowed[EL0] == EXECUTE


def test_stage_1_attributes(one: Walks) -> None:
    one.change(3, OUTPUT | AF | 1 << 11 | 1 << 2 | 3)
    found = one.stage1()
    assert not isinstance(found, Fault)
    assert (found.is_global, found.attribute) == (False, 0x04)


@pytest.mark.parametrize(("level", "shift"), [(1, 30), (2, 21)])
def test_stage_1_block(one: Walks, level: int, shift: int) -> None:
    one.change(level, (1 << 43) | AF | 1)
    found = one.stage1()
    assert not isinstance(found, Fault)
    assert (found.shift, found.level) == (shift, level)
    assert ADDRESS + found.offset == 1 << 43 | ADDRESS & (1 << shift) - 1


@pytest.mark.parametrize("level", range(4))
def test_stage_1_translation_fault_at_each_level(one: Walks, level: int) -> None:
    one.change(level, 0xFFFF_FFFF_FFFF_FFFE)
    assert one.stage1() == Fault(FaultType.TRANSLATION, level, 1)


@pytest.mark.parametrize("level", [0, 3])
def test_stage_1_block_where_none_may_be(one: Walks, level: int) -> None:
    one.change(level, AF | 1)
    assert one.stage1() == Fault(FaultType.TRANSLATION, level, 1)


@pytest.mark.parametrize(("level", "kind"), [(1, 1), (2, 1), (3, 3)])
def test_stage_1_access_flag_fault(one: Walks, level: int, kind: int) -> None:
    one.change(level, kind)
    assert one.stage1() == Fault(FaultType.ACCESS_FLAG, level, 1)


@pytest.mark.parametrize(("level", "kind"), [(0, 3), (1, 3), (2, 3), (1, 1), (2, 1), (3, 3)])
def test_stage_1_address_size_fault(one: Walks, level: int, kind: int) -> None:
    one.change(level, 1 << 44 | kind)
    assert one.stage1() == Fault(FaultType.ADDRESS_SIZE, level, 1)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_stage_1_fetch_may_fail(one: Walks, level: int) -> None:
    one.change(level - 1, 0x7_0000_0000 | 3)
    assert one.stage1() == Fault(FaultType.EXTERNAL_ON_WALK, level, 1)


def test_upper_half_uses_the_other_table_and_the_same_index(one: Walks) -> None:
    upper = ADDRESS & (1 << 44) - 1 | 0xFFFF << 48
    found = one.stage1(upper)
    assert not isinstance(found, Fault)
    assert (upper & stage1.ADDRESS_BITS) + found.offset == OUTPUT | ADDRESS & 0xFFF


@pytest.mark.parametrize("va", [1 << 48, 0xFFFE << 48, 0x0080 << 48, 0xFF7F << 48])
def test_address_between_the_halves(one: Walks, va: int) -> None:
    assert one.stage1(va | ADDRESS) == Fault(FaultType.TRANSLATION, 0, 1)


def test_tag_is_ignored_with_tbi_only(one: Walks) -> None:
    tagged = ADDRESS | 0x5A << 56
    assert one.stage1(tagged) == Fault(FaultType.TRANSLATION, 0, 1)
    found = one.stage1(tagged, TCR_4_LEVELS.replace(TBI0=1))
    assert not isinstance(found, Fault)
    assert one.stage1(tagged, TCR_4_LEVELS.replace(TBI1=1)) == Fault(FaultType.TRANSLATION, 0, 1)


def test_walk_that_is_disabled(one: Walks) -> None:
    assert one.stage1(tcr=TCR_4_LEVELS.replace(EPD0=1)) == Fault(FaultType.TRANSLATION, 0, 1)
    assert not isinstance(one.stage1(tcr=TCR_4_LEVELS.replace(EPD1=1)), Fault)


HIERARCHICAL: Final = {
    # table bits, leaf bits: EL0, EL1
    "nothing": (0, 1 << 6, READ | WRITE | EXECUTE, READ | WRITE),
    "APTable[0] removes EL0": (1 << 61, 1 << 6, EXECUTE, READ | WRITE | EXECUTE),
    "APTable[1] removes writes": (2 << 61, 1 << 6, READ | EXECUTE, READ | EXECUTE),
    "APTable removes both": (3 << 61, 1 << 6, EXECUTE, READ | EXECUTE),
    "UXNTable": (1 << 60, 1 << 6, READ | WRITE, READ | WRITE),
    "PXNTable": (1 << 59, 0, EXECUTE, READ | WRITE),
}


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("case", HIERARCHICAL)
def test_tables_restrict_what_lies_below(one: Walks, case: str, level: int) -> None:
    table, leaf, el0, el1 = HIERARCHICAL[case]
    one.change(level, one.memory.read_u64(one.entries[level]) | table)
    one.change(3, OUTPUT | AF | leaf | 3)
    found = one.stage1()
    assert not isinstance(found, Fault)
    assert found.allowed[:2] == (el0, el1)


@pytest.mark.parametrize(("hpd", "el0"), [(0, EXECUTE), (1, READ | WRITE | EXECUTE)])
def test_hierarchical_bits_can_be_disabled(hpd: int, el0: int) -> None:
    walks = Walks(AF | 1 << 6, EVERYTHING)
    walks.change(1, LEVEL2 | 1 << 61 | 3)
    found = walks.stage1(tcr=TCR_4_LEVELS.replace(HPD0=hpd))
    assert not isinstance(found, Fault)
    assert found.allowed[EL0] == el0


# Byte order


def test_stage_1_descriptors_are_big_endian_with_ee(one: Walks) -> None:
    little = one.stage1()
    assert not isinstance(little, Fault)
    one.swap()
    big = one.stage1(sctlr=SCTLR_EL1.build(M=1, EE=1))
    assert all(getattr(big, name) == getattr(little, name) for name in little.__slots__)
    assert one.stage1() == Fault(FaultType.TRANSLATION, 0, 1)


def test_stage_2_descriptors_are_big_endian_with_ee_of_el2(two: Walks) -> None:
    little = two.stage2()
    assert not isinstance(little, Fault)
    two.swap()
    assert two.stage2(sctlr_el2=SCTLR_EL2.build(EE=1)) == little
    assert two.stage2() == fault2(FaultType.TRANSLATION, 0)


# Hardware management of the access flag and dirty state

HA: Final = VTCR_4_LEVELS.replace(HA=1)
HD: Final = HA.replace(HD=1)


def test_access_flag_is_left_to_hardware() -> None:
    walks = Walks(RW, EVERYTHING)
    assert walks.stage2() == fault2(FaultType.ACCESS_FLAG, 3)
    found = walks.stage2(vtcr=HA)
    assert not isinstance(found, Fault)
    assert stage2.updated(found, write=False) == found.descriptor | AF


@pytest.mark.parametrize(("vtcr", "dbm", "clean"), [(HD, 1, True), (HD, 0, False), (HA, 1, False)])
def test_dirty_state_of_stage_2(vtcr: int, dbm: int, *, clean: bool) -> None:
    walks = Walks(AF | 1 << 6 | dbm << 51, EVERYTHING)
    found = walks.stage2(vtcr=vtcr)
    assert not isinstance(found, Fault)
    assert found.clean is clean
    assert bool(found.allowed[EL1] & WRITE) is clean
    assert stage2.updated(found, write=False) == found.descriptor
    dirty = found.descriptor | 2 << 6 if clean else found.descriptor
    assert stage2.updated(found, write=True) == dirty


@pytest.mark.parametrize(
    ("fields", "dbm", "clean"),
    [({"HA": 1, "HD": 1}, 1, True), ({"HA": 1, "HD": 1}, 0, False), ({"HA": 1}, 1, False)],
)
def test_dirty_state_of_stage_1(fields: dict[str, int], dbm: int, *, clean: bool) -> None:
    walks = Walks(AF | 2 << 6 | dbm << 51, EVERYTHING)
    found = walks.stage1(tcr=TCR_4_LEVELS.replace(**fields))
    assert not isinstance(found, Fault)
    assert found.clean is clean
    assert bool(found.allowed[EL1] & WRITE) is clean
    dirty = found.descriptor & ~(2 << 6) if clean else found.descriptor
    assert stage1.updated(found, write=True) == dirty


def test_page_that_is_writable_already_is_not_clean() -> None:
    walks = Walks(AF | RW | 1 << 51, EVERYTHING)
    found = walks.stage2(vtcr=HD)
    assert not isinstance(found, Fault)
    assert not found.clean
