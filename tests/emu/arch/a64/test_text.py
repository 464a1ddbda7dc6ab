from __future__ import annotations

import sys

import pytest

from emu.arch.a64 import text
from emu.arch.address import VA


@pytest.fixture
def _fresh_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_disassembler", text._disassembler.__wrapped__)


def test_instruction_is_disassembled_at_its_address() -> None:
    pytest.importorskip("capstone")
    assert text.disassemble(0xF940_0020, VA(0)) == "ldr x0, [x1]"
    assert text.disassemble(0x1400_0001, VA(0x1000)) == "b #0x1004"
    assert text.disassemble(0xD503_201F, VA(0)) == "nop"


def test_no_instruction_is_shown_as_a_word() -> None:
    assert text.disassemble(0xFFFF_FFFF, VA(0)) == ".word 0xffffffff"


@pytest.mark.usefixtures("_fresh_engine")
def test_every_instruction_is_shown_as_a_word_without_capstone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert text.disassemble(0x0940_0020, VA(0)) == ".word 0x09400020"
