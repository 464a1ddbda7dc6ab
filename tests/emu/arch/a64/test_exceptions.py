from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.exceptions import ExceptionInstruction, exception_generation, wait
from emu.arch.esr.iss import TrappedWait


@pytest.mark.parametrize(
    ("word", "name", "imm16"),
    [
        (0x0000_1234, "UDF", 0x1234),
        (0xD400_0001, "SVC", 0),
        (0xD41F_FFE1, "SVC", 0xFFFF),
        (0xD400_0022, "HVC", 1),
        (0xD400_0003, "SMC", 0),
        (0xD421_0000, "BRK", 0x800),
        (0xD45E_0000, "HLT", 0xF000),
        (0xD4A0_0001, "DCPS1", 0),
        (0xD4A0_0043, "DCPS3", 2),
        (0xD69F_03E0, "ERET", 0),
        (0xD69F_0BFF, "ERETAA", 0),
        (0xD69F_0FFF, "ERETAB", 0),
        (0xD6BF_03E0, "DRPS", 0),
    ],
)
def test_exception_instruction(word: int, name: str, imm16: int) -> None:
    assert exception_generation(word) == (ExceptionInstruction[name], imm16)


@pytest.mark.parametrize(
    "word",
    [
        0x0001_0000,  # unallocated
        0xD400_0000,  # SVC without LL
        0xD400_0005,  # op2 = 1
        0xD420_0001,  # BRK with LL
        0xD65F_03C0,  # ret
        0xD503_207F,  # wfi
    ],
)
def test_other_word_generates_no_exception(word: int) -> None:
    assert exception_generation(word) is None


@pytest.mark.parametrize(
    ("word", "kind", "rt"),
    [
        (0xD503_207F, TrappedWait.WFI, 31),
        (0xD503_205F, TrappedWait.WFE, 31),
        (0xD503_1023, TrappedWait.WFIT, 3),
        (0xD503_101E, TrappedWait.WFET, 30),
    ],
)
def test_wait(word: int, kind: TrappedWait, rt: int) -> None:
    assert wait(word) == (kind, rt)


@pytest.mark.parametrize("word", [0xD503_201F, 0xD503_203F, 0xD503_209F, 0xD503_1040])
def test_other_hint_is_no_wait(word: int) -> None:
    assert wait(word) is None


@given(st.integers(0, 2**32 - 1))
def test_no_word_is_both(word: int) -> None:
    assert exception_generation(word) is None or wait(word) is None
