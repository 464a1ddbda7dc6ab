"""Registers read at their places in the engine are what its own functions say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from unicorn import arm64_const as reg

from emu.cpu.internals import EngineError, only
from emu.cpu.places import PLAIN
from emu.machine import Machine

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from emu.cpu.engine import Engine

EL1H = 0x5
EL0T = 0x0


@pytest.fixture
def engine() -> Engine:
    return Machine(1 << 20).pes[0].engine


@pytest.mark.parametrize("mode", [EL0T, EL1H])
@pytest.mark.parametrize("nzcv", range(16))
@pytest.mark.parametrize("daif", [0, 0x80, 0x3C0])
def test_pstate_is_put_together_from_its_parts(
    engine: Engine, nzcv: int, daif: int, mode: int
) -> None:
    engine.write(reg.UC_ARM64_REG_PSTATE, nzcv << 28 | daif | mode)
    assert engine.state()[1] == engine.read(reg.UC_ARM64_REG_PSTATE) == nzcv << 28 | daif | mode


def test_btype_is_part_of_pstate_where_the_cpu_has_it(engine: Engine) -> None:
    engine.write(reg.UC_ARM64_REG_PSTATE, 2 << 10 | EL1H)
    assert engine.read(reg.UC_ARM64_REG_PSTATE) == 2 << 10 | EL1H
    assert engine.state()[1] == EL1H, "the machine's default CPU is one without BTI"


@pytest.mark.parametrize("register", PLAIN, ids=lambda register: register.__name__)
def test_system_register_is_read_where_the_engine_keeps_it(
    engine: Engine, register: type[SystemRegister]
) -> None:
    engine.write_system(register.encoding, 0x1234_5600)
    place = engine.places[register.encoding]
    assert engine.words[place] == 0x1234_5600
    engine.words[place] = 0x6543_2100
    batch = engine.batch(encodings=(register.encoding,))
    assert batch.read() == [0x6543_2100] == [engine.read_system(register.encoding)]


@pytest.mark.parametrize("found", [set(), {8, 16}])
def test_what_is_not_in_one_place_is_refused(found: set[int]) -> None:
    with pytest.raises(EngineError, match=f"found in {len(found)} places, not in one"):
        only("the register", found)
