"""Registers: those that do not exist are refused; those kept by the engine are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from unicorn import arm64_const as uc_reg

from tests.emu.cpu.bare import EL0T, EL1H, EL1T

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from tests.emu.cpu.bare import Bare


@pytest.mark.parametrize("number", [-1, 32])
@pytest.mark.parametrize("kind", ["x", "q"])
def test_a_number_that_no_register_has_is_refused(bare: Bare, kind: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"there is no register {number}; use 0 to 31"):
        getattr(bare.pe, f"read_{kind}")(number)
    with pytest.raises(ValueError, match=f"there is no register {number}; use 0 to 31"):
        getattr(bare.pe, f"write_{kind}")(number, 0)


def test_a_bare_number_is_no_system_register(bare: Bare) -> None:
    value: SystemRegister = 5  # type: ignore[assignment]  # what a user may try
    with pytest.raises(TypeError, match="5 does not say which register it is for"):
        bare.pe.write(value)


def test_what_is_read_without_a_call_is_what_the_engine_answers(bare: Bare) -> None:
    engine = bare.pe.engine
    ids = [*range(uc_reg.UC_ARM64_REG_X0, uc_reg.UC_ARM64_REG_X28 + 1)]
    ids += [uc_reg.UC_ARM64_REG_X29, uc_reg.UC_ARM64_REG_X30]
    for number, register in enumerate(ids):
        engine.write(register, 0x0123_4567_89AB_0000 + number)
        assert engine.read_x(number) == 0x0123_4567_89AB_0000 + number
        engine.write_x(number, (1 << 64) - 1 - number)
        assert engine.read(register) == (1 << 64) - 1 - number
    engine.write(uc_reg.UC_ARM64_REG_PC, 0x4000_1234)
    assert engine.pc == engine.state()[0] == 0x4000_1234


@pytest.mark.parametrize("mode", [EL0T, EL1T, EL1H])
def test_the_mode_is_pstate_without_flags_masks_and_branch_type(bare: Bare, mode: int) -> None:
    engine = bare.pe.engine
    flags, masks, branch_type = 0xF000_0000, 0x3C0, 0xC00
    engine.write(uc_reg.UC_ARM64_REG_PSTATE, mode | flags)
    assert engine.state()[1] == mode | flags
    assert engine.mode == mode & ~(flags | masks | branch_type)
