"""All registers of an engine at once: none is forgotten."""

from __future__ import annotations

import pytest

from emu.arch.registers.exceptions import SP_EL0, SP_EL1
from emu.cpu.internals import EngineError
from emu.machine import Machine
from emu.units.timer import GenericTimer
from hyp.context import GUEST_REGISTERS

ONES = (1 << 64) - 1


def values(machine: Machine) -> list[int]:
    pe = machine.pes[0]
    system = [int(pe.read(register)) for register in (SP_EL0, SP_EL1, *NATIVE)]
    return [*pe.read_all_x(), *pe.read_all_q(), *pe.engine.state(), pe.engine.exclusive, *system]


_TIMER = GenericTimer(lambda: 0)
NATIVE = [
    register
    for register in GUEST_REGISTERS
    if register.encoding.op0 == 3 and register.encoding.op1 != 4 and not _TIMER.handles(register)
]


def test_every_register_comes_back() -> None:
    machine = Machine(1 << 20)
    pe = machine.pes[0]
    for number in range(31):
        pe.write_x(number, number << 40 | 5)
        pe.write_q(number, number << 100 | 7)
    pe.write(SP_EL0(0x1230))
    pe.write(SP_EL1(0x4560))
    for register in NATIVE:
        pe.write(register(int(pe.read(register)) ^ 0x10))
    saved, before = pe.engine.save_state(), values(machine)
    for number in range(31):
        pe.write_x(number, ONES)
        pe.write_q(number, ONES)
    pe.write(SP_EL0(0))
    pe.write(SP_EL1(0))
    for register in NATIVE:
        pe.write(register(int(pe.read(register)) ^ 0x30))
    assert values(machine) != before
    pe.engine.load_state(saved)
    assert values(machine) == before
    assert pe.engine.save_state() == saved
    other = Machine(1 << 20)
    other.pes[0].engine.load_state(saved)
    assert values(other) == before


def test_the_exclusive_monitor_comes_back() -> None:
    pe = Machine(1 << 20).pes[0]
    cleared = pe.engine.save_state()
    pe.engine._exclusive.value = 0x1230
    saved = pe.engine.save_state()
    assert saved != cleared
    pe.engine.clear_exclusive()
    assert pe.engine.save_state() == cleared
    pe.engine.load_state(saved)
    assert pe.engine.exclusive


def test_registers_of_something_else_are_refused() -> None:
    engine = Machine(1 << 20).pes[0].engine
    with pytest.raises(ValueError, match="5 bytes are not the"):
        engine.load_state(bytes(5))


def test_machines_that_are_equal_have_equal_registers() -> None:
    one, other = (Machine(1 << 20).pes[0].engine.save_state() for _ in range(2))
    assert one == other, "no address of the process, and no time of the host"


def test_an_engine_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.cpu.enginestate._HEADER", 48)
    with pytest.raises(EngineError, match="bytes of registers, not"):
        Machine(1 << 20)
