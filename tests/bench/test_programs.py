from __future__ import annotations

import pytest

from bench import programs
from emu.arch.a64.text import disassemble
from emu.arch.address import VA


@pytest.mark.parametrize("program", programs.ALL)
def test_the_text_of_each_word_is_its_disassembly(program: programs.Program) -> None:
    pytest.importorskip("capstone")
    for index, (word, text) in enumerate(program.lines):
        assert disassemble(word, VA(4 * index)) == text


def test_the_vectors_hold_eret_but_for_that_of_interrupts() -> None:
    pytest.importorskip("capstone")
    assert disassemble(programs.ERET, VA(0)) == "eret"
    table = programs.vectors()
    handler = programs.INTERRUPT_HANDLER.words
    assert len(table) == 0x800
    assert table[0x280:].startswith(handler)
    others = table[:0x280] + table[0x280 + len(handler) :]
    assert others == programs.ERET.to_bytes(4, "little") * (len(others) // 4)


def test_all_lists_every_program() -> None:
    declared = [value for value in vars(programs).values() if isinstance(value, programs.Program)]
    assert set(declared) == set(programs.ALL)


def test_an_instruction_is_found_by_its_text() -> None:
    assert programs.HYPERCALL.offset_of("hvc #0") == 8


def test_a_constant_is_loaded_in_four_moves() -> None:
    pytest.importorskip("capstone")
    code = programs.load_constant(3, 0x1111_2222_3333_4444)
    words = [int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4)]
    assert [disassemble(word, VA(0)) for word in words] == [
        "mov x3, #0x4444",
        "movk x3, #0x3333, lsl #16",
        "movk x3, #0x2222, lsl #32",
        "movk x3, #0x1111, lsl #48",
    ]


def test_a_branch_goes_as_far_as_it_says() -> None:
    pytest.importorskip("capstone")
    assert disassemble(int.from_bytes(programs.branch(0x20), "little"), VA(0x100)) == "b #0x120"
