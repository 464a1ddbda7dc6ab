"""Alignment faults: of ordered and exclusive accesses, with SCTLR_EL1.A, of Device memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import DC
from emu.arch.a64.tlbi import TLBI
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import FAR_EL1
from emu.arch.registers.identification import (
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
)
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import (
    CODE,
    DATA,
    EL0T,
    EL1H,
    S1_USER,
    S2_NORMAL,
    S2_RW,
    SCTLR_RES1,
    Bare,
    Taken,
    Trap,
)

if TYPE_CHECKING:
    from emu.arch.address import PA

FAULT: Final = 0x9600_0021
DEVICE_S2: Final = S2_RW & ~tables.S2_NORMAL
LDADD: Final = 0xF821_0043
"""LDADD X1, X3, [X2]."""

UNALIGNED: Final = {
    "ldr x": (a64.ldr(1, 2), 4, 0),
    "ldr w": (a64.ldr(1, 2, 0, 4), 2, 0),
    "ldrh": (a64.ldr(1, 2, 0, 2), 1, 0),
    "str x": (a64.str_(1, 2), 4, 0x40),
    "ldp": (a64.ldp(1, 3, 2), 4, 0),
    "stp": (a64.stp(1, 3, 2), 4, 0x40),
    "ldr q": (a64.ldr_q(1, 2), 8, 0),
    "str post-index": (a64.str_post(1, 2, 8), 1, 0x40),
}
ALWAYS: Final = {
    "ldar": (a64.ldar(1, 2), 4, 0),
    "stlr": (a64.stlr(1, 2), 4, 0x40),
    "ldxr": (a64.ldxr(1, 2), 4, 0),
}


def normal(bare: Bare) -> PA:
    """Map DATA and the page after it as Normal memory, and turn stage 1 on."""
    pa = bare.map_ipa(DATA)
    bare.map_ipa(DATA + 0x1000)
    bare.code(a64.NOP)
    bare.stage1_on()
    for page in (DATA, DATA + 0x1000):
        bare.map_va(page, page, S1_USER)
    return pa


@pytest.mark.parametrize("case", UNALIGNED)
def test_normal_memory_may_be_accessed_unaligned(bare: Bare, case: str) -> None:
    word, offset, _ = UNALIGNED[case]
    normal(bare)
    bare.set_x(x2=DATA + offset)
    assert bare.trap(word, a64.hvc(7)).esr == 0x5A00_0007


@pytest.mark.parametrize("case", UNALIGNED)
def test_sctlr_a_refuses_it(bare: Bare, case: str) -> None:
    word, offset, wnr = UNALIGNED[case]
    normal(bare)
    bare.pe.write(SCTLR_RES1.replace(M=1, A=1))
    bare.set_x(x2=DATA + offset)
    taken = bare.taken_to_el1(a64.NOP, word)
    assert taken == Taken(0x200, FAULT | wnr, DATA + offset, CODE + 4, EL1H)
    assert bare.x(2) == DATA + offset


def test_sctlr_a_allows_pairs_of_aligned_elements(bare: Bare) -> None:
    normal(bare)
    bare.pe.write(SCTLR_RES1.replace(M=1, A=1))
    bare.set_x(x2=DATA + 8)
    assert bare.trap(a64.ldp(1, 3, 2), a64.ldr(4, 2), a64.hvc(7)).esr == 0x5A00_0007


def test_sctlr_a_turned_on_by_the_guest_takes_effect(bare: Bare) -> None:
    normal(bare)
    bare.set_x(x2=DATA + 4, x10=SCTLR_RES1.replace(M=1, A=1), x11=SCTLR_RES1.replace(M=1))
    program = (
        a64.ldr(1, 2),
        a64.msr(SCTLR_EL1, 10),
        a64.ISB,
        a64.msr(SCTLR_EL1, 11),
        a64.ISB,
        a64.ldr(1, 2),
        a64.msr(SCTLR_EL1, 10),
        a64.ISB,
        a64.ldr(1, 2),
    )
    taken = bare.taken_to_el1(*program)
    assert (taken.esr, taken.elr) == (FAULT, CODE + 4 * 8)


@pytest.mark.parametrize("case", ALWAYS)
@pytest.mark.parametrize("pstate", [EL1H, EL0T])
def test_ordered_and_exclusive_accesses_are_always_refused(
    bare: Bare, case: str, pstate: int
) -> None:
    word, offset, wnr = ALWAYS[case]
    normal(bare)
    bare.set_x(x2=DATA + offset)
    taken = bare.taken_to_el1(a64.NOP, word, pstate=pstate)
    ec = 0x9600_0000 if pstate == EL1H else 0x9200_0000
    vector = 0x200 if pstate == EL1H else 0x400
    assert taken == Taken(vector, ec | 0x21 | wnr, DATA + offset, CODE + 4, pstate)


@pytest.mark.parametrize("case", ALWAYS)
def test_aligned_ordered_and_exclusive_accesses_work(bare: Bare, case: str) -> None:
    normal(bare)
    bare.set_x(x2=DATA + 8)
    assert bare.trap(ALWAYS[case][0], a64.hvc(7)).esr == 0x5A00_0007


def test_unaligned_atomic_is_refused() -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(Atomic=2)))
    normal(bare)
    bare.set_x(x2=DATA + 4)
    taken = bare.taken_to_el1(LDADD)
    assert (taken.esr & ~0x40, taken.far) == (FAULT, DATA + 4)


@pytest.mark.parametrize(("offset", "naa", "fails"), [(4, 0, True), (4, 1, False), (12, 1, False)])
def test_lse2_with_naa_allows_unaligned_ordered_accesses(
    offset: int, naa: int, *, fails: bool
) -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64MMFR2_EL1.build(AT=1)))
    normal(bare)
    bare.pe.write(SCTLR_RES1.replace(M=1, nAA=naa))
    bare.set_x(x2=DATA + offset)
    assert (bare.trap(a64.ldar(1, 2), a64.hvc(7)).esr != 0x5A00_0007) is fails


LATER: Final = {
    "ldlar": 0xC8DF_7C41,
    "ldapr": 0xF8BF_C041,
    "ldapur": 0xD940_0041,
    "ldraa": 0xF820_0441,
}
"""Loads of X1 from [X2] that later features bring."""
WITH_LSE: Final = CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(Atomic=2))
WITH_ALL: Final = WITH_LSE.replace(
    ID_AA64MMFR1_EL1.build(LO=1), ID_AA64ISAR1_EL1.build(LRCPC=2, APA=1)
)


@pytest.mark.parametrize("word", LATER.values(), ids=LATER)
def test_loads_that_the_cpu_lacks_are_undefined(word: int) -> None:
    bare = Bare(WITH_LSE)
    normal(bare)
    bare.set_x(x2=DATA)
    assert bare.taken_to_el1(word).esr == 0x0200_0000


@pytest.mark.parametrize("word", LATER.values(), ids=LATER)
def test_loads_that_the_cpu_has_are_done(word: int) -> None:
    bare = Bare(WITH_ALL)
    normal(bare)
    bare.set_x(x2=DATA + 8)
    assert bare.trap(word, a64.hvc(7)).esr == 0x5A00_0007


@pytest.mark.parametrize("name", ["ldlar", "ldapr", "ldapur"])
def test_ordered_loads_of_later_features_must_be_aligned(name: str) -> None:
    bare = Bare(WITH_ALL)
    normal(bare)
    bare.set_x(x2=DATA + 4)
    assert bare.taken_to_el1(LATER[name]).esr == FAULT


# Device memory


@pytest.mark.parametrize("case", UNALIGNED)
def test_with_stage_1_off_all_data_is_device_memory(bare: Bare, case: str) -> None:
    word, offset, wnr = UNALIGNED[case]
    bare.change_hcr(DC=0)
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA + offset)
    taken = bare.taken_to_el1(a64.NOP, word)
    assert taken == Taken(0x200, FAULT | wnr, DATA + offset, CODE + 4, EL1H)


def test_device_memory_of_stage_1_refuses_before_stage_2_is_asked(bare: Bare) -> None:
    bare.code(a64.ldr(1, 2))
    bare.stage1_on()
    bare.pe.write(MAIR_EL1.build(Attr0=0xFF, Attr1=0x04))
    bare.map_va(DATA, DATA, S1_USER | 1 << 2)
    bare.set_x(x2=DATA + 4)
    assert bare.taken_to_el1(a64.ldr(1, 2)).esr == FAULT


def test_device_memory_of_stage_2_refuses_to_el2(bare: Bare) -> None:
    normal(bare)
    bare.map_ipa(DATA, attributes=DEVICE_S2)
    bare.set_x(x2=DATA + 4)
    trap = bare.trap(a64.NOP, a64.ldr(1, 2))
    assert (trap.esr & ~0x1FF_C000, trap.far, trap.elr) == (0x9200_0021, DATA + 4, CODE + 4)


@pytest.mark.parametrize("attributes", [S2_RW, DEVICE_S2])
def test_aligned_access_to_any_memory_works(bare: Bare, attributes: int) -> None:
    normal(bare)
    bare.map_ipa(DATA, attributes=attributes)
    bare.set_x(x1=5, x2=DATA + 8)
    assert bare.trap(a64.str_(1, 2), a64.ldr(3, 2), a64.hvc(7)).esr == 0x5A00_0007
    assert bare.x(3) == 5


def test_dc_zva_of_device_memory_is_refused(bare: Bare) -> None:
    bare.change_hcr(DC=0)
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA + 0x40)
    taken = bare.taken_to_el1(a64.NOP, DC.ZVA.word(2))
    assert taken == Taken(0x200, FAULT | 0x40, DATA + 0x40, CODE + 4, EL1H)


def test_dc_zva_that_is_trapped_is_trapped_before_its_memory_is_looked_at(bare: Bare) -> None:
    bare.change_hcr(DC=0, TDZ=1)
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    assert bare.trap(a64.NOP, DC.ZVA.word(2)).esr >> 26 == 0x18


@pytest.mark.parametrize("second", ["normal", "device", "unmapped"])
def test_unaligned_access_to_two_pages_is_refused_if_either_is_device(
    bare: Bare, second: str
) -> None:
    normal(bare)
    device = DATA + 0x2000
    bare.map_ipa(device, attributes=DEVICE_S2)
    bare.map_va(device, device, S1_USER)
    if second == "device":
        bare.map_ipa(DATA + 0x1000, attributes=DEVICE_S2)
    if second == "unmapped":
        bare.s2.unmap(DATA + 0x1000)
    bare.set_x(x2=DATA + 0xFFC, x3=device)
    trap = bare.trap(a64.ldr(1, 3), a64.ldr(1, 2), a64.hvc(7))
    expected = {
        "normal": (0x5A00_0007, None),
        "device": (0x9200_0021, DATA + 0xFFC),
        "unmapped": (0x9200_0007, DATA + 0x1000),
    }
    esr, far = expected[second]
    assert trap.esr & ~0x1FF_C000 == esr
    assert far in {None, trap.far}


def test_unprivileged_access_to_device_memory_is_checked_as_one_of_el0(bare: Bare) -> None:
    bare.change_hcr(DC=0)
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA + 4)
    assert bare.taken_to_el1(a64.ldtr(1, 2)).esr == FAULT


def test_page_that_becomes_device_memory_is_noticed(bare: Bare) -> None:
    normal(bare)
    bare.set_x(x2=DATA + 4)
    assert bare.trap(a64.ldr(1, 2), a64.hvc(7)).esr == 0x5A00_0007
    bare.s2.write(DATA, bare.s2.read(DATA) & ~tables.S2_NORMAL)
    bare.pe.tlbi(TLBI.VMALLS12E1IS)
    bare.start()
    assert bare.trap().esr & ~0x1FF_C000 == 0x9200_0021


def test_translation_fault_comes_before_alignment_of_what_is_behind_it(bare: Bare) -> None:
    bare.code(a64.ldr(1, 2))
    bare.stage1_on()
    bare.s1.entry(DATA)
    bare.set_x(x2=DATA + 4)
    assert bare.taken_to_el1(a64.ldr(1, 2)).esr == 0x9600_0007


def test_stage_2_permission_comes_after_alignment(bare: Bare) -> None:
    normal(bare)
    bare.map_ipa(DATA, attributes=S2_NORMAL & ~tables.S2_NORMAL)
    bare.set_x(x2=DATA + 4)
    assert bare.trap(a64.ldr(1, 2)).esr & 0x3F == 0x21


def test_prefetch_of_device_memory_never_faults(bare: Bare) -> None:
    bare.change_hcr(DC=0)
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA + 3)
    assert bare.trap(a64.prfm(2), a64.hvc(7)).esr == 0x5A00_0007


# PC


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("pstate", [EL1H, EL0T])
def test_branch_to_a_misaligned_address(bare: Bare, offset: int, pstate: int) -> None:
    bare.code(a64.hvc(0), at=DATA)
    bare.set_x(x2=DATA + offset)
    taken = bare.taken_to_el1(a64.NOP, a64.br(2), pstate=pstate)
    vector = 0x200 if pstate == EL1H else 0x400
    assert taken == Taken(vector, 0x8A00_0000, DATA + offset, DATA + offset, pstate)
    assert bare.pe.read(FAR_EL1) == DATA + offset


def test_el2_may_return_to_a_misaligned_address(bare: Bare) -> None:
    bare.code(a64.NOP)
    bare.start(CODE + 2)
    assert bare.taken_to_el1().esr == 0x8A00_0000


def test_misaligned_pc_comes_before_the_fetch(bare: Bare) -> None:
    bare.set_x(x2=DATA + 2)
    assert bare.taken_to_el1(a64.br(2)).esr == 0x8A00_0000


def test_trap_of_an_aligned_page_is_not_changed_by_the_watch(bare: Bare) -> None:
    """Of Device memory every load and store is watched; aborts stay what they are."""
    bare.change_hcr(DC=0)
    bare.set_x(x2=DATA)
    assert bare.trap(a64.ldr(1, 2)) == Trap(0x93C1_8006, DATA, DATA >> 12 << 4, CODE, EL1H)
