"""Exceptions that instructions raise by themselves: calls, breakpoints, undefined words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.registers.exceptions import ELR_EL1, ELR_EL2, ESR_EL1, VBAR_EL1
from emu.arch.registers.translation import TCR_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTTBR_EL2
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, VECTORS, Taken, Trap

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

VECTOR: Final = {EL1H: 0x200, EL0T: 0x400}
PSTATES: Final = [EL1H, EL0T]
HLT: Final = 0xD440_0000
DCPS1: Final = 0xD4A0_0001
LDADD: Final = 0xF821_0043
"""LDADD X1, X3, [X2]: an instruction that the CPU lacks."""
HALF_ADD: Final = 0x1EE2_2820
"""FADD H0, H1, H2: likewise."""


@pytest.mark.parametrize("pstate", PSTATES)
@pytest.mark.parametrize("immediate", [0, 1, 0xFFFF])
def test_svc_is_taken_to_el1_and_returns_behind_it(bare: Bare, pstate: int, immediate: int) -> None:
    taken = bare.taken_to_el1(a64.NOP, a64.svc(immediate), pstate=pstate)
    assert taken == Taken(VECTOR[pstate], 0x5600_0000 | immediate, 0, CODE + 8, pstate)
    assert bare.pe.retired == 3, "NOP, SVC and the vector's HVC"


@pytest.mark.parametrize("immediate", [0, 0x4B56, 0xFFFF])
def test_hvc_is_taken_to_el2_and_returns_behind_it(bare: Bare, immediate: int) -> None:
    trap = bare.trap(a64.NOP, a64.hvc(immediate), pstate=EL1H | 0x4000_0000)
    assert trap == Trap(0x5A00_0000 | immediate, 0, 0, CODE + 8, EL1H | 0x4000_0000)
    assert bare.pe.retired == 2


def test_hvc_from_el0_is_undefined(bare: Bare) -> None:
    taken = bare.taken_to_el1(a64.hvc(1), pstate=EL0T)
    assert taken == Taken(0x400, 0x0200_0000, 0, CODE, EL0T)


def test_hvc_that_hcr_disables_is_undefined(bare: Bare) -> None:
    bare.change_hcr(HCD=1)
    bare.pe.write(VBAR_EL1(VECTORS + 0x800))
    bare.code(a64.b(0), at=VECTORS + 0x800 + 0x200)
    assert bare.run(a64.NOP, a64.hvc(1), budget=10) is EL2Entry.IRQ
    assert bare.pe.read(ESR_EL1) == 0x0200_0000
    assert bare.pe.read(ELR_EL1) == CODE + 4


@pytest.mark.parametrize("immediate", [0, 0x1234])
def test_smc_traps_with_tsc_and_returns_to_itself(bare: Bare, immediate: int) -> None:
    bare.change_hcr(TSC=1)
    trap = bare.trap(a64.NOP, a64.smc(immediate))
    assert trap == Trap(0x5E00_0000 | immediate, 0, 0, CODE + 4, EL1H)
    assert bare.pe.retired == 1


def test_trapped_smc_can_be_skipped(bare: Bare) -> None:
    bare.change_hcr(TSC=1)
    bare.trap(a64.smc(0), a64.hvc(5))
    bare.pe.write(ELR_EL2(CODE + 4))
    assert bare.trap().esr == 0x5A00_0005


def test_smc_without_tsc_is_undefined(bare: Bare) -> None:
    taken = bare.taken_to_el1(a64.NOP, a64.smc(9))
    assert taken == Taken(0x200, 0x0200_0000, 0, CODE + 4, EL1H)


def test_smc_from_el0_is_undefined_even_with_tsc(bare: Bare) -> None:
    bare.change_hcr(TSC=1)
    taken = bare.taken_to_el1(a64.smc(0), pstate=EL0T)
    assert taken == Taken(0x400, 0x0200_0000, 0, CODE, EL0T)


@pytest.mark.parametrize("pstate", PSTATES)
def test_brk_is_taken_to_el1_and_returns_to_itself(bare: Bare, pstate: int) -> None:
    taken = bare.taken_to_el1(a64.NOP, a64.brk(0x3E8), pstate=pstate)
    assert taken == Taken(VECTOR[pstate], 0xF200_03E8, 0, CODE + 4, pstate)
    assert bare.pe.retired == 2, "NOP and the vector's HVC"


UNDEFINED: Final = {
    "udf": a64.UDF,
    "udf #1": 1,
    "unallocated": 0xFFFF_FFFF,
    "hlt": HLT,
    "dcps1": DCPS1,
    "ldadd without lse": LDADD,
    "half-precision without fp16": HALF_ADD,
    "mrs of an el2 register": a64.mrs(1, HCR_EL2),
    "msr of an el2 register": a64.msr(VTTBR_EL2, 1),
    "mrs of the interrupt controller": 0xD538_CC00,
}


@pytest.mark.parametrize("pstate", PSTATES)
@pytest.mark.parametrize("case", UNDEFINED)
def test_undefined_instruction(bare: Bare, case: str, pstate: int) -> None:
    bare.set_x(x2=DATA)
    taken = bare.taken_to_el1(a64.NOP, UNDEFINED[case], pstate=pstate)
    assert taken == Taken(VECTOR[pstate], 0x0200_0000, 0, CODE + 4, pstate)


def test_misaligned_exclusive_is_an_alignment_fault(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA + 4)
    taken = bare.taken_to_el1(a64.ldxr(1, 2))
    assert taken == Taken(0x200, 0x9600_0021, DATA + 4, CODE, EL1H)


@pytest.mark.parametrize(
    ("word", "esr", "retired"),
    [
        (a64.svc(0), 0x5A00_0104, 1025),
        (a64.hvc(1), 0x5A00_0001, 1024),
        (a64.smc(2), 0x5E00_0002, 1023),
        (a64.mrs(1, TCR_EL1), 0x6234_0821, 1023),
        (a64.msr(TCR_EL1, 1), 0x6234_0820, 1023),
        (a64.WFI, 0x07E0_0000, 1023),
    ],
)
def test_last_instruction_of_a_page_comes_before_the_fetch_of_the_next(
    bare: Bare, word: int, esr: int, retired: int
) -> None:
    bare.change_hcr(TVM=1, TRVM=1, TSC=1, TWI=1)
    trap = bare.trap(*[a64.NOP] * 1023, word)
    assert trap.esr == esr
    assert bare.pe.retired == retired
