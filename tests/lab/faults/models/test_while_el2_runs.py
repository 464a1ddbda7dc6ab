"""Faults that are injected while EL2 handles an abort, which the engine waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.registers.exceptions import ESR_EL1
from hyp.events import KvmGuestFault
from lab.faults.fault import Status
from lab.faults.models.external import FailedMemory
from lab.faults.models.instructions import InstructionSet, InstructionSkip
from lab.faults.models.memory import MemorySet
from lab.faults.models.registers import RegisterSet
from lab.faults.models.system_registers import SystemRegisterSet
from lab.faults.models.tlb import TlbDrop
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA, VECTORS
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

if TYPE_CHECKING:
    from hyp.events import Event
    from lab.faults.fault import Fault

PROGRAM = (NOP, a64.ldr(7, 1), a64.add(9, 8, 0), a64.add(9, 9, 1), *SYSTEM_OFF)


def faulted(fault: Fault) -> Box:
    """Return a VM that has run its program; the fault came with the abort of its load."""
    box = Box(*PROGRAM, x8=0x100)
    box.put64(DATA, 11)
    box.run(1)
    pending = [fault]

    def on_event(event: Event) -> None:
        if isinstance(event, KvmGuestFault) and pending:
            assert box.pe.execution.running
            assert box.inject(pending.pop()).status is Status.INJECTED

    box.vm.events.subscribe(on_event)
    box.run()
    assert not pending
    return box


@pytest.mark.parametrize(
    ("fault", "x9"),
    [
        (RegisterSet(register="x8", value=5), 6),
        (RegisterSet(register="pc", value=CODE + 12), 0x9001),
        (InstructionSkip(), 0x101),
        (InstructionSet(address=CODE + 8, word=a64.movz(9, 7)), 8),
        (InstructionSet(address=CODE + 8, word=a64.movz(9, 7), lasts="line"), 8),
        (MemorySet(space="va", address=CODE + 8, size=4, value=a64.movz(9, 7)), 8),
        (TlbDrop(address=CODE), 0x101),
    ],
)
def test_guest_goes_on_with_what_was_changed(fault: Fault, x9: int) -> None:
    assert faulted(fault).x(9) == x9


def test_wrong_vectors_count_at_once() -> None:
    assert faulted(SystemRegisterSet(register="VBAR_EL1", value=VECTORS + 0x800)).x(9) == 0x101


@pytest.mark.parametrize("address", [DATA, CODE + 8])
def test_memory_that_fails_is_met_by_the_next_access(address: int) -> None:
    box = faulted(FailedMemory(space="va", address=address, size=4, on="accesses"))
    assert box.vcpu.read(ESR_EL1).ISS & 0x3F == FaultStatusCode.EXTERNAL
    assert box.x(9) == 0x9000
