"""What debug registers keep of what is written."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.debug.registers import MDSCR_WRITABLE, OSLSR_RESET, is_implemented, shown, stored
from emu.arch.fields import SystemRegister
from emu.arch.registers import BY_NAME
from emu.arch.registers.debug import (
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGCLAIMCLR_EL1,
    DBGCLAIMSET_EL1,
    DBGDTR_EL0,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDCCINT_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.exceptions import ESR_EL1
from emu.arch.registers.identification import ID_AA64DFR0_EL1

ONES: Final = (1 << 64) - 1


class Held(dict[type[SystemRegister], int]):
    """A file of registers."""

    def write(self, register: type[SystemRegister], value: int) -> None:
        changed, new = stored(register, value, self.held)
        self[changed] = new

    def held(self, register: type[SystemRegister]) -> int:
        return self.get(register, 0)


@pytest.mark.parametrize(
    ("register", "kept"),
    [
        (DBGBVR_EL1[0], ONES),
        (DBGBCR_EL1[5], 0x00FF_E1E7),
        (DBGWVR_EL1[3], ONES & ~3),
        (DBGWCR_EL1[15], 0x1F1F_FFFF),
        (MDCCINT_EL1, 0x6000_0000),
        (OSDLR_EL1, 1),
        (DBGDTR_EL0, 0),
    ],
)
def test_bits_that_a_register_keeps(register: type[SystemRegister], kept: int) -> None:
    assert stored(register, ONES, lambda _: 0) == (register, kept)


def test_os_lock_is_set_at_reset_and_follows_oslar() -> None:
    held = Held({OSLSR_EL1: int(OSLSR_RESET)})
    assert held[OSLSR_EL1] == 0b1010
    held.write(OSLAR_EL1, 0xFFFE)
    assert held[OSLSR_EL1] == 0b1000
    held.write(OSLAR_EL1, 1)
    assert held[OSLSR_EL1] == 0b1010


def test_mdscr_has_more_writable_bits_while_the_os_lock_is_set() -> None:
    held = Held({OSLSR_EL1: 0b1000})
    held.write(MDSCR_EL1, ONES)
    assert held[MDSCR_EL1] == MDSCR_WRITABLE == 0xB001
    held.write(OSLAR_EL1, 1)
    held.write(MDSCR_EL1, ONES)
    assert held[MDSCR_EL1] == 0x6CE0_F041
    held.write(OSLAR_EL1, 0)
    held.write(MDSCR_EL1, 0)
    assert held[MDSCR_EL1] == 0x6CE0_F041 & ~0xB001


def test_claim_tags_are_set_and_cleared() -> None:
    held = Held()
    held.write(DBGCLAIMSET_EL1, 0x10F)
    held.write(DBGCLAIMCLR_EL1, 0x3)
    assert shown(DBGCLAIMCLR_EL1, held.held) == 0x0C
    assert shown(DBGCLAIMSET_EL1, held.held) == 0xFF


def test_id_register_numbers_breakpoints_and_watchpoints() -> None:
    dfr0 = ID_AA64DFR0_EL1.build(BRPs=5, WRPs=3)
    implemented = {name for name, register in BY_NAME.items() if is_implemented(register, dfr0)}
    assert {"DBGBVR5_EL1", "DBGBCR5_EL1", "DBGWVR3_EL1", "DBGWCR3_EL1"} <= implemented
    assert not {"DBGBVR6_EL1", "DBGBCR6_EL1", "DBGWVR4_EL1", "DBGWCR4_EL1"} & implemented
    assert {"MDSCR_EL1", "OSLAR_EL1", "MDCCSR_EL0"} <= implemented
    assert not is_implemented(ESR_EL1, dfr0)
