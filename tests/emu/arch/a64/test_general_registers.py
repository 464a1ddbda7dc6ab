from __future__ import annotations

import pytest

from emu.arch.a64.general_registers import ALL, EVERYTHING, RegisterUse, register_use

ADD_X0_X1_X2 = 0x8B02_0020
KNOWN = [
    ("add x0, x1, x2", ADD_X0_X1_X2, {1, 2}, {0}),
    ("cmp x1, x2", 0xEB02_003F, {1, 2}, set()),
    ("add w3, w3, #1", 0x1100_0463, {3}, {3}),
    ("adr x4, #0", 0x1000_0004, set(), {4}),
    ("mov x5, #1", 0xD280_0025, set(), {5}),
    ("movk x5, #1, lsl #16", 0xF2A0_0025, {5}, set()),
    ("bfi x1, x2, #4, #4", 0xB37C_0C41, {1, 2}, set()),
    ("ubfx x1, x2, #4, #4", 0xD344_1C41, {2}, {1}),
    ("madd x0, x1, x2, x3", 0x9B02_0C20, {1, 2, 3}, {0}),
    ("csel x0, x1, x2, ne", 0x9A82_1020, {1, 2}, {0}),
    ("ccmp x1, x2, #4, ne", 0xFA42_1024, {1, 2}, set()),
    ("rbit x1, x2", 0xDAC0_0041, {2}, {1}),
    ("b.eq #0", 0x5400_0000, set(), set()),
    ("bl #4", 0x9400_0001, set(), {30}),
    ("blr x3", 0xD63F_0060, {3}, {30}),
    ("ret", 0xD65F_03C0, {30}, set()),
    ("eret", 0xD69F_03E0, set(), set()),
    ("cbz x7, #0", 0xB400_0007, {7}, set()),
    ("tbnz w7, #3, #0", 0x3718_0007, {7}, set()),
    ("ldr x0, [x1, x2]", 0xF862_6820, {1, 2}, {0}),
    ("ldr x0, [x1], #8", 0xF840_8420, {1}, {0}),
    ("str x0, [x1], #8", 0xF800_8420, {0, 1}, set()),
    ("ldp x29, x30, [sp], #0x10", 0xA8C1_7BFD, set(), {29, 30}),
    ("stp x29, x30, [sp, #-0x10]!", 0xA9BF_7BFD, {29, 30}, set()),
    ("ldaxr w0, [x1]", 0x885F_FC20, None, {0}),
    ("stxr w2, w0, [x1]", 0x8802_7C20, None, set()),
    ("str q0, [x1]", 0x3D80_0020, None, set()),
    ("mrs x0, sp_el0", 0xD538_4100, set(), {0}),
    ("msr sp_el0, x0", 0xD518_4100, {0}, set()),
    ("dc zva, x0", 0xD50B_7420, {0}, set()),
    ("nop", 0xD503_201F, set(), set()),
    ("wfi", 0xD503_207F, set(), set()),
    ("fmov x0, d1", 0x9E66_0020, None, set()),
]


@pytest.mark.parametrize(("word", "reads", "writes"), [k[1:] for k in KNOWN], ids=lambda _: "")
def test_registers_that_are_read_and_overwritten(
    word: int, reads: set[int] | None, writes: set[int]
) -> None:
    use = register_use(word)
    assert use.overwrites == writes
    assert reads is None or use.reads == reads


def test_the_status_of_an_exclusive_store_and_its_operands_may_be_read() -> None:
    assert {0, 1, 2} <= register_use(0x8802_7C20).reads


def test_a_pair_that_is_compared_and_swapped_is_read_whole() -> None:
    assert {2, 3, 4, 5, 6} <= register_use(0x4862_7CC4).reads  # casp x2, x4, [x6]


@pytest.mark.parametrize("word", [0xD400_0002, 0xD400_0003, 0, 0x0400_0000])
def test_hypercalls_and_unknown_words_may_read_everything(word: int) -> None:
    assert register_use(word) == EVERYTHING == RegisterUse(ALL, frozenset())


def test_every_general_register_that_a_disassembler_shows_is_accounted_for() -> None:
    capstone = pytest.importorskip("capstone")
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    engine.detail = True
    numbers = {f"{kind}{n}": n for kind in "xw" for n in range(31)} | {"fp": 29, "lr": 30}
    seen = 0
    state = 12345
    for _ in range(60_000):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        word = state >> 32
        for instruction in engine.disasm(word.to_bytes(4, "little"), 0):
            shown = set()
            for operand in instruction.operands:
                if operand.type == capstone.arm64.ARM64_OP_REG:
                    shown.add(engine.reg_name(operand.reg))
                elif operand.type == capstone.arm64.ARM64_OP_MEM:
                    shown |= {
                        engine.reg_name(r) for r in (operand.mem.base, operand.mem.index) if r
                    }
            use = register_use(word)
            wanted = {numbers[name] for name in shown if name in numbers}
            assert wanted <= use.reads | use.overwrites, (
                f"{word:#010x} {instruction.mnemonic} {instruction.op_str}"
            )
            seen += 1
    assert seen > 10_000
