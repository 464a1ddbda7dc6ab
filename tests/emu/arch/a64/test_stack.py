"""Which instructions may misalign SP."""

from __future__ import annotations

import pytest

from emu.arch.a64.predecode import scan
from emu.arch.a64.stack import may_misalign

SP_STAYS_ALIGNED = {
    "add sp, sp, #16": 0x9100_43FF,
    "sub sp, sp, #0x1, lsl #12": 0xD140_07FF,
    "add x0, sp, #8": 0x9100_23E0,
    "adds xzr, x1, #8": 0xB100_203F,
    "tst x0, #1": 0xF240_001F,
    "movz xzr, #1": 0xD280_003F,
    "stp x29, x30, [sp, #-16]!": 0xA9BF_7BFD,
    "ldp x29, x30, [sp], #0x20": 0xA8C2_7BFD,
    "stp w1, w2, [sp, #8]": 0x2901_0BE1,
    "stp q0, q1, [sp, #-32]!": 0xADBF_07E0,
    "str x0, [sp, #-16]!": 0xF81F_0FE0,
    "str x0, [sp, #8]": 0xF900_07E0,
    "str x0, [x1, #8]!": 0xF800_8C20,
    "stgp x0, x1, [sp, #16]!": 0x6980_87E0,
    "ld1 {v0.16b}, [sp]": 0x4C40_73E0,
    "ld1 {v0.16b}, [x1], #16": 0x4CDF_7020,
    "ldraa x0, [sp, #8]": 0xF820_17E0,
    "ldadd x1, x3, [sp]": 0xF821_03E3,
}
SP_MAY_NOT = {
    "mov sp, x0": 0x9100_001F,
    "mov wsp, w0": 0x1100_001F,
    "add sp, sp, #8": 0x9100_23FF,
    "sub sp, x29, #16": 0xD100_43BF,
    "and sp, x1, #-16": 0x927C_EC3F,
    "orr sp, x1, #1": 0xB240_003F,
    "eor wsp, w1, #1": 0x5200_003F,
    "stp x29, x30, [sp, #-8]!": 0xA9BF_FBFD,
    "stp w1, w2, [sp], #8": 0x2881_0BE1,
    "ldpsw x1, x2, [sp], #8": 0x68C1_0BE1,
    "stp d0, d1, [sp, #8]!": 0x6D80_87E0,
    "str x0, [sp, #-8]!": 0xF81F_8FE0,
    "ldrb w0, [sp], #1": 0x3840_17E0,
    "str q0, [sp], #8": 0x3C80_87E0,
    "ld1 {v0.8b}, [sp], #8": 0x0CDF_73E0,
    "st1 {v0.b}[0], [sp], x1": 0x0D81_03E0,
    "ldraa x0, [sp, #8]!": 0xF820_1FE0,
}


@pytest.mark.parametrize("word", SP_STAYS_ALIGNED.values(), ids=SP_STAYS_ALIGNED)
def test_aligned_stack_pointer_stays_aligned(word: int) -> None:
    assert not may_misalign(word)


@pytest.mark.parametrize("word", SP_MAY_NOT.values(), ids=SP_MAY_NOT)
def test_stack_pointer_may_be_misaligned(word: int) -> None:
    assert may_misalign(word)


def test_all_of_them_are_found_in_a_page_and_nothing_else() -> None:
    aligned, misaligned = list(SP_STAYS_ALIGNED.values()), list(SP_MAY_NOT.values())
    words = [word for pair in zip(misaligned, aligned, strict=False) for word in pair]
    code = b"".join(word.to_bytes(4, "little") for word in words)
    found = scan(code, lambda _word: False).stack
    assert found == tuple((8 * i, word) for i, word in enumerate(misaligned))


def test_words_across_two_instructions_are_none() -> None:
    mov = SP_MAY_NOT["mov sp, x0"].to_bytes(4, "little")
    assert not scan(b"\0\0" + mov + b"\0\0", lambda _word: False).stack
