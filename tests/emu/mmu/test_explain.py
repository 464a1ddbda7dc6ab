"""An explained walk is the MMU's own: same answer, same changes, and nothing is changed by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA, PA, VA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTCR_EL2
from emu.memory import PhysicalMemory
from emu.mmu.explain import Kind, Walk, explain
from emu.mmu.fault import Fault
from emu.mmu.mmu import Mmu
from emu.mmu.permissions import EL0, EL1, EL1_PAN, EXECUTE, READ, WRITE
from emu.mmu.reasons import reason
from emu.mmu.regime import ControlRegisters
from tests.emu.mmu.world import draw_world, features_of

if TYPE_CHECKING:
    from random import Random

    from tests.emu.mmu.world import World

ACCESSES: Final = st.sampled_from([READ, WRITE, EXECUTE])
PRIVILEGES: Final = st.sampled_from([EL0, EL1, EL1_PAN])


def mmu_of(world: World) -> Mmu:
    mmu = Mmu(world.memory, features_of(world.cpu))
    r = world.registers
    mmu.load(ControlRegisters(r.sctlr, r.tcr, r.ttbr0, r.ttbr1, r.hcr, r.vtcr, r.vttbr, r.mair))
    return mmu


@given(st.randoms(use_true_random=False), ACCESSES, PRIVILEGES)
def test_explanation_comes_to_the_same_as_the_walk(
    random: Random, need: int, privilege: int
) -> None:
    world = draw_world(random)
    mmu = mmu_of(world)
    found = explain(mmu, VA(world.va), need, privilege)
    assert len(mmu.tlb) == 0
    for update in found.updates:
        assert world.memory.read_u64(update.address) == update.before
    assert mmu.walk(VA(world.va), need, privilege) == found.result
    for update in found.updates:
        assert world.memory.read_u64(update.address) == update.after
    assert reason(found).endswith(".")


BASE: Final = 0x8_0000_0000
S1, S2, PAGE = BASE, BASE + 0x1_0000, BASE + 0x2_0000
AF, RW_S2, NORMAL_S2 = 1 << 10, 3 << 6, 0xF << 2
LEAF_S1, LEAF_S2 = AF | 3, AF | RW_S2 | NORMAL_S2 | 3
VTCR: Final = VTCR_EL2.build(RES1=1, SL0=0, T0SZ=34, PS=4)  # 30 bits: a walk from level 2
TCR: Final = TCR_EL1.build(T0SZ=34, T1SZ=34, TG1=2, IPS=4)
LEVEL3: Final = 0x1000


class Two:
    """Both stages, 30 bits each: two levels of tables, that map page 1 to page 1."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory(PA(BASE), 1 << 20)
        self.controls = ControlRegisters(
            SCTLR_EL1.build(M=1), TCR, 0x2000, 0x2000, HCR_EL2.build(VM=1), VTCR, S2
        )
        self.stage2(0x2000, S1)
        self.stage2(0x3000, S1 + LEVEL3)
        self.stage2(0x1000, PAGE)
        self.memory.write_u64(PA(S2), S2 + LEVEL3 | 3)
        self.stage1(2, 0, 0x3000 | 3)
        self.stage1(3, 1, 0x1000 | LEAF_S1)

    def stage1(self, level: int, index: int, word: int) -> None:
        self.memory.write_u64(PA(S1 + LEVEL3 * (level == 3) + 8 * index), word)

    def stage2(self, ipa: int, pa: int, bits: int = LEAF_S2) -> None:
        self.memory.write_u64(PA(S2 + LEVEL3 + 8 * (ipa >> 12)), pa | bits)

    def mmu(self) -> Mmu:
        mmu = Mmu(self.memory, CORTEX_A72)
        mmu.load(self.controls)
        return mmu

    def walk(self, va: int = 0x1008, need: int = READ, privilege: int = EL1) -> Walk:
        return explain(self.mmu(), VA(va), need, privilege)


def test_lookups_of_both_stages_are_told_in_order() -> None:
    walk = Two().walk()
    assert [(step.level, step.address, step.kind) for step in walk.stage1] == [
        (2, 0x2000, Kind.TABLE),
        (3, 0x3008, Kind.PAGE),
    ]
    assert [[step.level for step in lookup.nested] for lookup in walk.stage1] == [[2, 3], [2, 3]]
    assert [(step.level, step.kind) for step in walk.stage2] == [(2, Kind.TABLE), (3, Kind.PAGE)]
    assert (walk.ipa, walk.pa) == (0x1008, PAGE + 8)
    assert reason(walk) == "EL1 may read from it."
    assert len(walk.words) == 6


def test_fields_are_those_of_the_stage_and_kind() -> None:
    walk = Two().walk()
    table, leaf = (lookup.fields for lookup in walk.stage1)
    assert type(table).__name__ == "Stage1Table"
    assert type(leaf).__name__ == "Stage1Leaf"
    assert type(walk.stage2[1].fields).__name__ == "Stage2Leaf"


@pytest.mark.parametrize(
    ("change", "need", "privilege", "said"),
    [
        (lambda t: t.stage1(3, 1, 0), READ, EL1,
         "the level 3 descriptor at IPA 0x3008 is invalid: its bit 0 is 0."),
        (lambda t: t.stage1(3, 1, 1), READ, EL1,
         ("the level 3 descriptor at IPA 0x3008 has the form of a block, which level 3 does not"
         " have.")),
        (lambda t: t.stage1(3, 1, 0x1003), READ, EL1,
         ("AF of the level 3 descriptor at IPA 0x3008 is 0, and TCR_EL1.HA does not have hardware"
         " set it.")),
        (lambda t: t.stage2(0x1000, PAGE, LEAF_S2 & ~AF), READ, EL1,
         ("AF of the level 3 descriptor at PA 0x800011008 is 0, and VTCR_EL2.HA does not have"
         " hardware set it.")),
        (lambda t: t.stage1(3, 1, 0x1000 | LEAF_S1), READ, EL0,
         ("EL0 may not read from it: the level 3 descriptor at IPA 0x3008 has AP 0b00, UXN 0,"
         " PXN 0.")),
        (lambda t: t.stage1(2, 0, 0x3003 | 1 << 62), WRITE, EL1,
         ("EL1 may not write to it: the level 3 descriptor at IPA 0x3008 has AP 0b00, UXN 0, PXN 0"
         " below tables with APTable 0b10, UXNTable 0, PXNTable 0.")),
        (lambda t: t.stage2(0x1000, PAGE, LEAF_S2 & ~(2 << 6)), WRITE, EL1,
         ("EL1 may not write to it: the level 3 descriptor at PA 0x800011008 has S2AP 0b01, XN"
         " 0b00.")),
        (lambda t: t.stage2(0x3000, S1 + LEVEL3, LEAF_S2 & ~RW_S2), READ, EL1,
         ("The stage 1 walk may not read its table: the level 3 descriptor at PA 0x800011018 has"
         " S2AP 0b00, XN 0b00.")),
        (lambda t: t.stage2(0x3000, 0, 0), READ, EL1,
         "the level 3 descriptor at PA 0x800011018 is invalid: its bit 0 is 0."),
        (lambda t: t.stage1(3, 1, 1 << 46 | LEAF_S1), READ, EL1,
         "the level 3 descriptor at IPA 0x3008 points to 0x400000000000, beyond 44 bits."),
        (lambda t: t.stage1(3, 1, 1 << 40 | LEAF_S1), READ, EL1,
         "The IPA has more than the 30 bits of VTCR_EL2.T0SZ."),
        (lambda t: t.stage2(0x1000, 0x1000), READ, EL1,
         "There is no memory at the output address."),
        (lambda t: t.memory.write_u64(PA(S2), 0x1003), READ, EL1,
         "the level 3 descriptor at PA 0x1010 would lie where there is no memory."),
    ],
)  # fmt: skip
def test_reason_names_what_refused(change: object, need: int, privilege: int, said: str) -> None:
    two = Two()
    assert callable(change)
    change(two)
    walk = two.walk(need=need, privilege=privilege)
    assert isinstance(walk.result, Fault)
    assert reason(walk) == said


@pytest.mark.parametrize(
    ("controls", "va", "said"),
    [
        ({}, 1 << 40,
         "The address lies outside the 30 bits that TTBR0_EL1 translates (TCR_EL1.T0SZ)."),
        ({"tcr": TCR | 1 << 7}, 0,
         "TCR_EL1.EPD0 is 1, or T0SZ is no possible size: nothing is walked."),
        ({"sctlr": 0}, 1 << 50, "Stage 1 is off, and the address is larger than a physical one."),
        ({"vtcr": VTCR | 1 << 6}, 0,
         "VTCR_EL2.T0SZ and SL0 do not fit together, so that there is no first lookup."),
        ({"ttbr0": 1 << 45}, 0, "TTBRn_EL1 holds an address of more than 44 bits."),
        ({"vttbr": 1 << 45}, 0, "VTTBR_EL2 holds an address of more than 44 bits."),
    ],
)  # fmt: skip
def test_reason_names_the_register_that_refused(
    controls: dict[str, int], va: int, said: str
) -> None:
    two = Two()
    two.controls = two.controls._replace(**controls)
    assert reason(two.walk(va)) == said


def test_access_words_differ_by_access() -> None:
    assert [reason(Two().walk(need=need)) for need in (READ, WRITE, EXECUTE)] == [
        "EL1 may read from it.", "EL1 may write to it.", "EL1 may fetch from it.",
    ]  # fmt: skip


def test_tlb_entry_that_the_tables_contradict_is_stale() -> None:
    two = Two()
    mmu = two.mmu()
    mmu.walk(VA(0x1000), READ, EL1)
    assert not explain(mmu, VA(0x1000), READ, EL1).is_stale
    two.stage2(0x1000, PAGE + 0x1000)
    assert explain(mmu, VA(0x1000), READ, EL1).is_stale
    two.stage2(0x1000, 0, 0)
    assert explain(mmu, VA(0x1000), READ, EL1).is_stale
    mmu.tlb.contexts.clear()
    assert not explain(two.mmu(), VA(0x1000), READ, EL1).is_stale


def test_ipa_is_unknown_while_stage_1_refuses() -> None:
    two = Two()
    two.stage1(3, 1, 0)
    assert two.walk().ipa is None
    assert two.walk().pa is None
    assert Two().walk().ipa == IPA(0x1008)
