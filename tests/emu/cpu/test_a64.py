"""The words that these tests are written with are the instructions they claim to be."""

from __future__ import annotations

import pytest

from emu.arch.a64.text import disassemble
from emu.arch.address import VA
from emu.arch.registers.exceptions import ESR_EL1, SP_EL0
from tests.emu.cpu import a64

pytest.importorskip("capstone")

EXPECTED = {
    a64.NOP: "nop",
    a64.ISB: "isb",
    a64.WFE: "wfe",
    a64.WFI: "wfi",
    a64.ERET: "eret",
    a64.UDF: "udf #0",
    a64.CLREX: "clrex",
    a64.movz(3, 0x1234, 16): "mov x3, #0x12340000",
    a64.movk(3, 0x1234, 48): "movk x3, #0x1234, lsl #48",
    a64.add(1, a64.SP, 16): "add x1, sp, #0x10",
    a64.subs(1, 2, 3): "subs x1, x2, #3",
    a64.b(-8): "b #0x3ff8",
    a64.cbnz(5, -4): "cbnz x5, #0x3ffc",
    a64.br(7): "br x7",
    a64.ldr(1, 2, 24): "ldr x1, [x2, #0x18]",
    a64.ldr(1, 2, 4, 4): "ldr w1, [x2, #4]",
    a64.ldr(1, 2, 6, 2): "ldrh w1, [x2, #6]",
    a64.ldr(1, 2, 7, 1): "ldrb w1, [x2, #7]",
    a64.ldrs(1, 2, 8, 4): "ldrsw x1, [x2, #8]",
    a64.ldrs(1, 2, 8, 2): "ldrsh x1, [x2, #8]",
    a64.ldrs(1, 2, 8, 1, wide=False): "ldrsb w1, [x2, #8]",
    a64.str_(1, 2, 24): "str x1, [x2, #0x18]",
    a64.str_(1, 2, 1, 1): "strb w1, [x2, #1]",
    a64.ldur(1, 2, -3): "ldur x1, [x2, #-3]",
    a64.stur(1, 2, -3, 4): "stur w1, [x2, #-3]",
    a64.ldr_post(1, 2, 8): "ldr x1, [x2], #8",
    a64.ldr_pre(1, 2, -8): "ldr x1, [x2, #-8]!",
    a64.str_post(1, 2, 8): "str x1, [x2], #8",
    a64.str_pre(1, 2, -8): "str x1, [x2, #-8]!",
    a64.ldtr(1, 2, 8): "ldtr x1, [x2, #8]",
    a64.sttr(1, 2, 1, 1): "sttrb w1, [x2, #1]",
    a64.ldr_register(1, 2, 3): "ldr x1, [x2, x3]",
    a64.ldr_register(1, 2, 3, scaled=True): "ldr x1, [x2, x3, lsl #3]",
    a64.ldr_literal(1, 16): "ldr x1, #0x4010",
    a64.ldp(1, 2, 3, -16): "ldp x1, x2, [x3, #-0x10]",
    a64.stp(1, 2, 3, 16): "stp x1, x2, [x3, #0x10]",
    a64.ldxr(1, 2): "ldxr x1, [x2]",
    a64.stxr(3, 1, 2): "stxr w3, x1, [x2]",
    a64.ldar(1, 2): "ldar x1, [x2]",
    a64.stlr(1, 2): "stlr x1, [x2]",
    a64.ldr_q(1, 2): "ldr q1, [x2]",
    a64.str_q(1, 2): "str q1, [x2]",
    a64.prfm(2): "prfm pldl1keep, [x2]",
    a64.fmov(1, 2): "fmov d1, x2",
    a64.svc(1): "svc #1",
    a64.hvc(2): "hvc #2",
    a64.smc(3): "smc #3",
    a64.brk(4): "brk #4",
    a64.mrs(1, ESR_EL1): "mrs x1, esr_el1",
    a64.msr(SP_EL0, 2): "msr sp_el0, x2",
}


@pytest.mark.parametrize(("word", "text"), EXPECTED.items(), ids=EXPECTED.values())
def test_word_disassembles_as_named(word: int, text: str) -> None:
    assert disassemble(word, VA(0x4000)) == text


def test_immediates_take_as_few_words_as_they_need() -> None:
    assert a64.load_immediate(1, 0x12) == (a64.movz(1, 0x12),)
    assert a64.load_immediate(1, 0xFFFF_0000_0000_0001) == (
        a64.movz(1, 1),
        a64.movk(1, 0xFFFF, 48),
    )
