"""Stage-1 faults, taken to EL1: vector, ESR_EL1, FAR_EL1, ELR_EL1, SPSR_EL1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.registers.exceptions import ELR_EL1, FAR_EL1, SP_EL0, SP_EL1, SPSR_EL1, VBAR_EL1
from emu.arch.registers.translation import SCTLR_EL1
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import (
    CODE,
    DATA,
    EL0T,
    EL1H,
    EL1T,
    S1_RW,
    S1_USER,
    TCR,
    VECTORS,
    Taken,
)

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

UPPER: Final = 0xFFFF_FF80_0020_0000
"""The lowest block of the half that TTBR1 translates, with T1SZ = 25."""

FROM: Final = {EL1T: (0x000, 0x25), EL1H: (0x200, 0x25), EL0T: (0x400, 0x24)}
"""PSTATE of the faulting instruction, to vector offset and exception class of a data abort."""


def on(bare: Bare, *words: int, **sctlr: int) -> None:
    """Write the program and turn stage 1 on."""
    bare.code(*words)
    bare.stage1_on(**sctlr)
    bare.start()


@pytest.mark.parametrize("pstate", FROM)
@pytest.mark.parametrize(("word", "wnr"), [(a64.ldr(1, 2), 0), (a64.str_(1, 2), 0x40)])
def test_translation_fault_is_taken_to_el1(bare: Bare, pstate: int, word: int, wnr: int) -> None:
    vector, ec = FROM[pstate]
    on(bare, a64.NOP, word)
    bare.s1.entry(DATA)
    bare.set_x(x2=DATA + 0x123)
    taken = bare.taken_to_el1(a64.NOP, word, pstate=pstate | 0xA000_0000)
    assert taken == Taken(
        vector, ec << 26 | 0x0200_0007 | wnr, DATA + 0x123, CODE + 4, pstate | 0xA000_0000
    )
    assert bare.pe.retired == 2


FAULTS: Final = {
    "translation level 1": (0x40_0000_0000 - 0x1000, None, None, 0x05),
    "translation level 2": (0xC000_0000, None, None, 0x06),
    "translation level 3": (DATA, 0, 3, 0x07),
    "reserved block at level 3": (DATA, DATA | S1_RW | 1, 3, 0x07),
    "access flag level 1": (0x40_0000_0000 - 0x1000, tables.VALID, 1, 0x09),
    "access flag level 2": (0xC000_0000, tables.VALID, 2, 0x0A),
    "access flag level 3": (DATA, DATA | 3, 3, 0x0B),
    "address size level 1": (0x40_0000_0000 - 0x1000, 1 << 40 | S1_RW | 1, 1, 0x01),
    "address size level 2": (0xC000_0000, 1 << 40 | S1_RW | 1, 2, 0x02),
    "address size level 3": (DATA, 1 << 40 | S1_RW | 3, 3, 0x03),
    "address size of a table": (0xC000_0000, 1 << 40 | 3, 1, 0x01),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_type_and_level(bare: Bare, case: str) -> None:
    va, descriptor, level, code = FAULTS[case]
    on(bare, a64.ldr(1, 2))
    if descriptor is not None and level is not None:
        bare.s1.write(va, descriptor, level)
    elif code == 0x06:
        bare.s1.entry(va, 2)
    bare.set_x(x2=va)
    taken = bare.taken_to_el1(a64.ldr(1, 2))
    assert (taken.esr, taken.far) == (0x9600_0000 | code, va)


PERMISSIONS: Final = {
    "EL1 writes read-only": (S1_RW | tables.S1_READ_ONLY, EL1H, a64.str_(1, 2), 0x9600_004F),
    "EL0 writes read-only": (S1_USER | tables.S1_READ_ONLY, EL0T, a64.str_(1, 2), 0x9200_004F),
    "EL0 reads what is EL1's": (S1_RW, EL0T, a64.ldr(1, 2), 0x9200_000F),
    "EL1 executes PXN": (S1_RW | tables.S1_PXN, EL1H, a64.br(2), 0x8600_000F),
    "EL1 executes what EL0 can write": (S1_USER, EL1H, a64.br(2), 0x8600_000F),
    "EL0 executes UXN": (S1_USER | tables.S1_UXN, EL0T, a64.br(2), 0x8200_000F),
}


@pytest.mark.parametrize("case", PERMISSIONS)
def test_permission_fault(bare: Bare, case: str) -> None:
    attributes, pstate, word, esr = PERMISSIONS[case]
    on(bare, word)
    bare.map_va(DATA, DATA, attributes)
    bare.set_x(x2=DATA)
    taken = bare.taken_to_el1(word, pstate=pstate)
    assert (taken.esr, taken.far) == (esr, DATA), "before stage 2, which maps nothing there"


def test_wxn_makes_writable_pages_execute_never(bare: Bare) -> None:
    on(bare, a64.br(2), WXN=1)
    bare.map_va(DATA, DATA, S1_RW)
    bare.set_x(x2=DATA)
    taken = bare.taken_to_el1(a64.br(2))
    assert (taken.esr, taken.far, taken.elr) == (0x8600_000F, DATA, DATA)


def test_fetch_fault_returns_to_its_target(bare: Bare) -> None:
    on(bare, a64.br(2))
    bare.s1.entry(DATA)
    bare.set_x(x2=DATA + 0x40)
    taken = bare.taken_to_el1(a64.br(2), pstate=EL0T)
    assert taken == Taken(0x400, 0x8200_0007, DATA + 0x40, DATA + 0x40, EL0T)


def test_upper_half_is_translated_by_ttbr1(bare: Bare) -> None:
    pa = bare.map_ipa(DATA)
    bare.memory.write_u64(pa, 0x77)
    on(bare, a64.ldr(1, 2), a64.hvc(0))
    bare.map_va(UPPER, DATA)
    bare.set_x(x2=UPPER)
    bare.trap(a64.ldr(1, 2), a64.hvc(0))
    assert bare.x(1) == 0x77


@pytest.mark.parametrize("va", [0x80_0000_0000, 0xFFFF_FF7F_FFFF_F000, 0x00FF_0000_0000_0000])
def test_address_outside_both_halves_faults_at_level_0(bare: Bare, va: int) -> None:
    on(bare, a64.ldr(1, 2))
    bare.set_x(x2=va)
    taken = bare.taken_to_el1(a64.ldr(1, 2))
    assert (taken.esr, taken.far) == (0x9600_0004, va)


def test_disabled_walk_of_the_upper_half_faults_at_level_0(bare: Bare) -> None:
    bare.map_ipa(DATA)
    on(bare, a64.ldr(1, 2))
    bare.map_va(UPPER, DATA)
    bare.pe.write(TCR.replace(EPD1=1))
    bare.set_x(x2=UPPER)
    taken = bare.taken_to_el1(a64.ldr(1, 2))
    assert (taken.esr, taken.far) == (0x9600_0004, UPPER)


def test_disabled_walk_of_the_lower_half_faults_at_level_0(bare: Bare) -> None:
    on(bare, a64.NOP)
    bare.map_va(UPPER, VECTORS, S1_RW | tables.S1_READ_ONLY)
    bare.pe.write(VBAR_EL1(UPPER))
    bare.pe.write(TCR.replace(EPD0=1))
    taken = bare.taken_to_el1(a64.NOP)
    assert (taken.esr, taken.far, taken.elr) == (0x8600_0004, CODE, CODE)


def test_tagged_address_is_translated_without_its_tag(bare: Bare) -> None:
    pa = bare.map_ipa(DATA)
    bare.memory.write_u64(pa, 0x1234)
    on(bare, a64.ldr(1, 2), a64.hvc(0))
    bare.pe.write(TCR.replace(TBI0=1))
    bare.map_va(DATA, DATA)
    bare.set_x(x2=0x5A << 56 | DATA)
    bare.trap(a64.ldr(1, 2), a64.hvc(0))
    assert bare.x(1) == 0x1234


def test_fault_of_a_tagged_address_keeps_the_tag_in_far(bare: Bare) -> None:
    on(bare, a64.ldr(1, 2))
    bare.pe.write(TCR.replace(TBI0=1))
    bare.s1.entry(DATA)
    bare.set_x(x2=0x5A << 56 | DATA + 8)
    taken = bare.taken_to_el1(a64.ldr(1, 2))
    assert (taken.esr, taken.far) == (0x9600_0007, 0x5A << 56 | DATA + 8)


def test_tag_without_tbi_faults_at_level_0(bare: Bare) -> None:
    on(bare, a64.ldr(1, 2))
    bare.map_va(DATA, DATA)
    bare.set_x(x2=0x5A << 56 | DATA)
    assert bare.taken_to_el1(a64.ldr(1, 2)).esr == 0x9600_0004


def test_hierarchical_bits_restrict_what_lies_below(bare: Bare) -> None:
    on(bare, a64.str_(1, 2))
    bare.map_ipa(DATA)
    table = 0x6000_0000
    bare.map_va(table, DATA, S1_RW)
    entry = bare.s1.entry(table, 2)
    bare.memory.write_u64(entry, bare.memory.read_u64(entry) | 2 << 61)
    bare.set_x(x2=table)
    assert bare.taken_to_el1(a64.str_(1, 2)).esr == 0x9600_004F


# The state of the handler


def test_handler_runs_at_el1h_with_exceptions_masked(bare: Bare) -> None:
    trap = bare.trap(a64.svc(0), pstate=0xF000_0000)
    assert trap.spsr == 0xF000_0000 | EL1H


def test_pan_is_not_set_on_a_cpu_without_it(bare: Bare) -> None:
    bare.pe.write(SCTLR_EL1(0))
    assert bare.trap(a64.svc(0), pstate=EL0T).spsr == EL1H


def test_stack_pointers_are_banked_by_exception_level(bare: Bare) -> None:
    bare.pe.write(SP_EL0(0x1110))
    bare.pe.write(SP_EL1(0x2220))
    handler = VECTORS + 0x800
    bare.pe.write(VBAR_EL1(handler))
    bare.code(
        a64.add(6, a64.SP, 0),
        a64.add(a64.SP, a64.SP, 0x10),
        a64.mrs(7, SP_EL0),
        a64.ERET,
        at=handler + 0x400,
    )
    bare.trap(
        a64.add(5, a64.SP, 0),
        a64.add(a64.SP, a64.SP, 0x100),
        a64.svc(0),
        a64.add(8, a64.SP, 0),
        a64.ldr(1, a64.XZR),
        pstate=EL0T,
    )
    assert [bare.x(n) for n in (5, 6, 7, 8)] == [0x1110, 0x2220, 0x1210, 0x1210]
    assert (bare.pe.read(SP_EL0), bare.pe.read(SP_EL1)) == (0x1210, 0x2230)


def test_el1t_uses_the_stack_pointer_of_el0(bare: Bare) -> None:
    bare.pe.write(SP_EL0(0x1110))
    bare.pe.write(SP_EL1(0x2220))
    bare.trap(a64.add(5, a64.SP, 0), a64.add(a64.SP, 5, 0x10), a64.hvc(0), pstate=EL1T)
    assert bare.x(5) == 0x1110
    assert (bare.pe.read(SP_EL0), bare.pe.read(SP_EL1)) == (0x1120, 0x2220)
    bare.pe.write(SP_EL0(0x5550))
    bare.pe.write(SP_EL1(0x6660))
    bare.trap(a64.add(5, a64.SP, 0), a64.hvc(0), pstate=EL1H)
    assert bare.x(5) == 0x6660


def test_eret_returns_to_el0(bare: Bare) -> None:
    words = (a64.msr(ELR_EL1, 2), a64.msr(SPSR_EL1, 3), a64.ERET)
    after = bare.code(*words)
    bare.code(a64.svc(5), at=after)
    bare.set_x(x2=after, x3=EL0T | 0x9000_0000)
    taken = bare.taken_to_el1(*words, a64.svc(5))
    assert taken == Taken(0x400, 0x5600_0005, 0, after + 4, EL0T | 0x9000_0000)


@pytest.mark.parametrize("pstate", [EL1T, EL1H])
def test_eret_returns_to_el1(bare: Bare, pstate: int) -> None:
    bare.pe.write(SP_EL0(0x1000))
    bare.pe.write(SP_EL1(0x2000))
    handler = VECTORS + 0x800
    bare.pe.write(VBAR_EL1(handler))
    for group in (0x000, 0x200):
        bare.code(a64.ERET, at=handler + group)
    trap = bare.trap(a64.svc(0), a64.add(5, a64.SP, 0), a64.hvc(0), pstate=pstate | 0x8000_0000)
    assert trap.spsr == pstate | 0x8000_0000
    assert bare.x(5) == (0x1000 if pstate == EL1T else 0x2000)


def test_nested_fault_in_the_handler_uses_the_current_el_vector(bare: Bare) -> None:
    bare.pe.write(FAR_EL1(0x99))
    handler = VECTORS + 0x800
    bare.pe.write(VBAR_EL1(handler))
    bare.code(a64.svc(1), at=handler + 0x400)
    bare.code(a64.hvc(7), at=handler + 0x200)
    trap = bare.trap(a64.svc(0), pstate=EL0T)
    assert trap.esr == 0x5A00_0007
    assert bare.pe.read(SPSR_EL1) == EL1H
    assert bare.pe.read(ELR_EL1) == handler + 0x404
    assert bare.pe.read(FAR_EL1) == 0x99, "an SVC leaves FAR_EL1"
