"""Faults of instructions."""

from __future__ import annotations

import pytest

from emu.arch.a64.maintenance import IC
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1
from hyp.exits import Intr, SystemEvent
from lab.errors import UserError
from lab.faults.models.instructions import InstructionFlip, InstructionSet, InstructionSkip
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

IC_IVAU_X5 = 0xD50B_7525
LOOP = (a64.add(7, 7, 1), a64.ldr(6, 4), a64.subs(9, 9, 1), a64.cbnz(9, -12), *SYSTEM_OFF)
"""Reads its own first instruction as data, X9 times."""


def looping(times: int, *, stage1: bool = False) -> Box:
    """Return a VM that has gone through its loop once."""
    box = Box(*LOOP, x7=0, x4=CODE, x9=times, stage1=stage1)
    assert isinstance(box.run(4), Intr)
    return box


@pytest.mark.parametrize("stage1", [False, True])
def test_corruption_for_one_execution_is_over_after_it(stage1: bool) -> None:
    box = looping(4, stage1=stage1)
    assert box.changes(InstructionFlip(bit=11)) == {}  # ADD X7, X7, #3
    box.run()
    assert box.x(7) == 1 + 3 + 1 + 1
    assert box.x(6) == int.from_bytes(b"".join(w.to_bytes(4, "little") for w in LOOP[:2]), "little")
    assert not box.pe.icache.copies
    assert not box.pe.debug.single


def test_corruption_of_a_later_instruction_waits_for_its_execution() -> None:
    box = looping(3)
    box.inject(InstructionSet(address=CODE + 8, word=NOP))
    box.run(4)
    assert box.x(9) == 2
    box.run(4)
    assert box.x(9) == 1


def test_corrupted_line_stays_until_it_is_invalidated_and_data_is_right_meanwhile() -> None:
    box = looping(9)
    assert box.changes(InstructionFlip(bit=11, lasts="line")) == {}
    box.run(8)
    assert box.x(7) == 1 + 3 + 3
    assert box.x(6) & 0xFFFF_FFFF == LOOP[0]
    box.pe.ic(IC.IVAU, box.pa(CODE + 64), 64)  # another line
    box.run(4)
    assert box.x(7) == 1 + 3 * 3
    box.pe.ic(IC.IVAU, box.pa(CODE), 4)
    box.run(4)
    assert box.x(7) == 1 + 3 * 3 + 1
    assert not box.pe.icache.copies


def test_guests_own_maintenance_ends_it_at_once() -> None:
    box = Box(NOP, a64.movz(7, 1), IC_IVAU_X5, a64.movz(7, 2), *SYSTEM_OFF, x5=CODE)
    box.run(1)
    box.inject(InstructionSet(address=CODE + 12, word=NOP, lasts="line"))
    box.run()
    assert box.x(7) == 2


def test_one_pe_has_it_and_the_others_do_not() -> None:
    box = Box(NOP, pes=2)
    box.run(1)
    box.inject(InstructionSet(address=CODE, word=a64.movz(7, 9), lasts="line"))
    assert box.machine.pes[0].icache.copies
    assert not box.machine.pes[1].icache.copies


def test_maintenance_of_everything_ends_it() -> None:
    box = looping(9)
    box.inject(InstructionFlip(bit=11, lasts="line"))
    box.pe.ic(IC.IALLU)
    assert not box.pe.icache.wrong
    box.run(4)
    assert box.x(7) == 2


def test_end_of_its_life_is_the_end_of_a_corrupted_line() -> None:
    box = looping(9)
    for lasts in ("line", "once"):
        injection = box.inject(InstructionFlip(bit=11, lasts=lasts))
        assert injection.end is not None
        injection.end()
        injection.end()
        assert not box.pe.icache.copies
    box.run(4)
    assert box.x(7) == 2


def test_two_wrong_lines_of_a_page_go_one_by_one() -> None:
    box = looping(9)
    box.put(CODE + 0x100, NOP)
    box.inject(InstructionSet(address=CODE, word=NOP, lasts="line"))
    box.inject(InstructionSet(address=CODE + 4, word=NOP, lasts="line"))
    box.inject(InstructionSet(address=CODE + 0x100, word=a64.svc(1), lasts="line"))
    assert len(box.pe.icache.wrong) == 2
    box.pe.ic(IC.IVAU, box.pa(CODE), 4)
    assert len(box.pe.icache.wrong) == 1
    box.run(4)
    assert box.x(7) == 2


def test_instruction_that_becomes_undefined_is_taken_by_the_guest() -> None:
    box = looping(9)
    box.inject(InstructionSet(word=0))
    assert isinstance(box.run(), SystemEvent)
    assert box.vcpu.read(ESR_EL1).EC == 0
    assert int(box.vcpu.read(ELR_EL1)) == CODE
    assert not box.pe.icache.copies


def test_instruction_that_becomes_a_system_instruction_is_executed_by_the_machine() -> None:
    box = looping(9)
    count = box.pe.maintenance["VMALLE1"]
    box.inject(InstructionSet(word=0xD508_871F))
    box.run(4)
    assert box.pe.maintenance["VMALLE1"] == count + 1
    assert box.x(7) == 1


def test_access_that_it_became_is_resolved_and_made_once() -> None:
    box = looping(9)
    box.put64(DATA + 0x3000, 77)
    box.inject(InstructionSet(word=a64.ldr(8, 1, 0x3000)))
    box.run(4)
    assert box.x(8) == 77
    assert box.x(7) == 1
    box.run(4)
    assert box.x(7) == 2


def test_trapped_instruction_that_it_became_is_over_once_el2_has_stepped_over_it() -> None:
    box = looping(9)
    box.inject(InstructionSet(word=a64.smc(1)))
    box.run(7)  # a trapped instruction does not retire
    assert box.x(7) == 2
    assert not box.pe.icache.copies


def test_first_execution_of_a_page_can_be_wrong_though_el2_invalidates_it_on_the_way() -> None:
    box = Box(a64.br(1))
    box.put(DATA, a64.movz(7, 1), a64.movz(8, 2), *SYSTEM_OFF)
    box.run(1)
    box.inject(InstructionSet(word=NOP))
    box.run()
    assert (box.x(7), box.x(8)) == (0x7000, 2)


def test_skipped_instruction_leaves_no_trace() -> None:
    box = looping(2)
    assert box.changes(InstructionSkip()) == {"ELR_EL2": (CODE, CODE + 4)}
    box.run()
    assert box.x(7) == 1


def test_places_without_an_instruction() -> None:
    box = Box(NOP, stage1=True)
    assert "no PE has vCPU 0 loaded" in box.inject(InstructionFlip(bit=0)).detail
    box.run(1)
    assert box.refusal(InstructionFlip(address=0x1000, bit=0)) == "VA 0x1000 is not mapped"
    same = InstructionSet(address=CODE, word=NOP)
    assert box.refusal(same) == f"the instruction at {CODE:#x} is 0xd503201f already"
    with pytest.raises(UserError, match="InstructionFlip: address is a multiple of 4, not 0x1002"):
        InstructionFlip(address=0x1002, bit=0)
    with pytest.raises(UserError, match="lasts is one of once, line, not 'ever'"):
        InstructionFlip(bit=0, lasts="ever")
    with pytest.raises(UserError, match="bit is 0 to 31, not 0x20"):
        InstructionFlip(bit=32)
