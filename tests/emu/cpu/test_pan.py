"""PSTATE.PAN, UAO and E0PD: what EL1 and EL0 are kept off (FEAT_PAN, FEAT_UAO, FEAT_E0PD)."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.a64.maintenance import AT
from emu.arch.features import CORTEX_A72
from emu.arch.registers.control import PAN
from emu.arch.registers.exceptions import PAR_EL1, VBAR_EL1
from emu.arch.registers.identification import ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1
from emu.arch.registers.translation import SCTLR_EL1
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import (
    DATA,
    EL0T,
    EL1H,
    S1_RW,
    S1_USER,
    SCTLR_RES1,
    TCR,
    VECTORS,
    Bare,
)

FEATURES: Final = CORTEX_A72.replace(
    ID_AA64MMFR1_EL1.build(PAN=3), ID_AA64MMFR2_EL1.build(UAO=1, E0PD=1)
)
PAN_BIT, UAO_BIT = 1 << 22, 1 << 23
MSR_PAN_1: Final = 0xD500_419F
MSR_PAN_0: Final = 0xD500_409F
DONE: Final = 0x5A00_0007


def machine(attributes: int, **sctlr: int) -> Bare:
    """Return a machine with DATA mapped at stage 1 with these attributes."""
    bare = Bare(FEATURES)
    bare.map_ipa(DATA)
    bare.code(a64.NOP)
    bare.stage1_on(**sctlr)
    bare.map_va(DATA, DATA, attributes)
    bare.set_x(x2=DATA)
    return bare


@pytest.mark.parametrize(("word", "wnr"), [(a64.ldr(1, 2), 0), (a64.str_(1, 2), 0x40)])
def test_pan_keeps_el1_off_what_el0_can_access(word: int, wnr: int) -> None:
    bare = machine(S1_USER)
    assert bare.trap(word, a64.hvc(7)).esr == DONE
    taken = bare.taken_to_el1(word, pstate=EL1H | PAN_BIT)
    assert (taken.esr, taken.far) == (0x9600_000F | wnr, DATA)


def test_pan_leaves_el1_its_own_pages() -> None:
    bare = machine(S1_RW)
    assert bare.trap(a64.ldr(1, 2), a64.hvc(7), pstate=EL1H | PAN_BIT).esr == DONE


def test_pan_leaves_unprivileged_accesses() -> None:
    bare = machine(S1_USER)
    assert bare.trap(a64.ldtr(1, 2), a64.hvc(7), pstate=EL1H | PAN_BIT).esr == DONE


def test_pan_leaves_el0() -> None:
    bare = machine(S1_USER)
    assert bare.taken_to_el1(a64.ldr(1, 2), a64.svc(3), pstate=EL0T).esr == 0x5600_0003


def test_pan_leaves_fetches() -> None:
    bare = machine(S1_USER | tables.S1_READ_ONLY)
    bare.code(a64.hvc(7), at=DATA)
    assert bare.trap(a64.br(2), pstate=EL1H | PAN_BIT).esr == DONE


def test_guest_that_turns_pan_on_and_off_is_served_each_time() -> None:
    bare = machine(S1_USER)
    program = (a64.ldr(1, 2), MSR_PAN_1, MSR_PAN_0, a64.ldr(1, 2), MSR_PAN_1, a64.ldr(1, 2))
    taken = bare.taken_to_el1(*program)
    assert (taken.esr, taken.elr & 0xFFF) == (0x9600_000F, 4 * 5)


def test_pan_is_set_on_exception_entry_unless_span() -> None:
    for span, expected in ((1, 0), (0, PAN_BIT)):
        bare = machine(S1_USER)
        bare.pe.write(SCTLR_RES1.replace(M=1, SPAN=span))
        trap = bare.trap(a64.svc(0), pstate=EL0T)
        assert trap.spsr & PAN_BIT == expected


def test_handler_that_pan_keeps_off_user_memory() -> None:
    bare = machine(S1_USER)
    bare.pe.write(SCTLR_RES1.replace(M=1, SPAN=0))
    handler = VECTORS + 0x800
    bare.code(a64.ldr(1, 2), at=handler + 0x400)
    bare.code(a64.hvc(9), at=handler + 0x200)
    bare.pe.write(VBAR_EL1(handler))
    assert bare.trap(a64.ldr(1, 2), a64.svc(0), pstate=EL0T).esr == 0x5A00_0009


def test_epan_keeps_el1_off_what_el0_may_execute() -> None:
    for epan, expected in ((0, DONE), (1, 0x5A00_0104)):
        bare = machine(S1_RW, EPAN=epan)
        esr = bare.trap(a64.ldr(1, 2), a64.hvc(7), pstate=EL1H | PAN_BIT).esr
        assert esr == expected, epan


def test_uao_gives_unprivileged_accesses_the_rights_of_el1() -> None:
    bare = machine(S1_RW)
    assert bare.taken_to_el1(a64.ldtr(1, 2)).esr == 0x9600_000F
    assert bare.trap(a64.ldtr(1, 2), a64.hvc(7), pstate=EL1H | UAO_BIT).esr == DONE


def test_guest_reads_pan(bare: Bare) -> None:
    bare = machine(S1_USER)
    bare.trap(a64.mrs(5, PAN), a64.hvc(0), pstate=EL1H | PAN_BIT)
    assert bare.x(5) == PAN_BIT


@pytest.mark.parametrize(("e0pd", "esr"), [(0, 0x5600_0003), (1, 0x9200_0004)])
def test_e0pd_closes_a_half_to_el0(e0pd: int, esr: int) -> None:
    bare = machine(S1_USER)
    upper = 0xFFFF_FF80_0000_0000
    bare.map_va(upper, DATA, S1_USER)
    bare.pe.write(TCR.replace(E0PD1=e0pd))
    bare.set_x(x2=upper)
    assert bare.taken_to_el1(a64.ldr(1, 2), a64.svc(3), pstate=EL0T).esr == esr
    assert bare.trap(a64.ldr(1, 2), a64.hvc(7)).esr == DONE, "EL1 keeps its access"


@pytest.mark.parametrize(
    ("operation", "pstate", "fails"),
    [
        (AT.S1E1RP, EL1H | PAN_BIT, 1),
        (AT.S1E1RP, EL1H, 0),
        (AT.S1E1R, EL1H | PAN_BIT, 0),
    ],
)
def test_address_translation_honours_pan_where_it_says_so(
    operation: AT, pstate: int, fails: int
) -> None:
    bare = machine(S1_USER)
    bare.trap(operation.word(2), a64.hvc(0), pstate=pstate)
    failed = bare.pe.read(PAR_EL1).F
    assert failed == fails


def test_span_is_res1_on_a_cpu_without_pan(bare: Bare) -> None:
    bare.pe.write(SCTLR_EL1(0))
    assert bare.trap(a64.svc(0), pstate=EL0T).spsr == EL1H
