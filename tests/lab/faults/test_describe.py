"""The page on fault models says what the declarations say, and how faults end."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu.arch.address import PA
from emu.memory import FailedRange
from lab.faults.clear import clear_faults
from lab.faults.describe import describe
from lab.faults.models import fault_models
from lab.faults.models.external import FailedMemory
from lab.faults.models.instructions import InstructionSet
from lab.faults.models.interrupts import InterruptLost
from lab.faults.models.maintenance import MaintenanceDrop
from lab.faults.models.software import StepLate, StepSkip
from lab.faults.models.tlb import TlbStale
from lab.faults.target import Target
from tests.hyp.irq_box import NOP, IrqBox
from tests.lab.faults.models.address import CODE
from tests.lab.faults.models.box import Box

PAGE = Path(__file__).parents[3] / "docs" / "fault-models.md"
SECTIONS = {
    section.partition("\n")[0]: section
    for section in PAGE.read_text(encoding="utf-8").split("\n### ")[1:]
}
TABLE = PAGE.read_text(encoding="utf-8").partition("\n### ")[0]
MODELS = fault_models()


def test_page_has_a_section_for_each_model_and_no_other() -> None:
    assert set(SECTIONS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_section_is_what_the_declaration_says_with_an_example(name: str) -> None:
    assert describe(MODELS[name]) in SECTIONS[name], "copy what lab.faults.describe returns"
    assert f'inject("{name}"' in SECTIONS[name]
    assert f"`{name}`" in TABLE


def test_all_faults_that_are_held_can_be_ended_at_once() -> None:
    box = Box(NOP, NOP)
    box.run(1)
    for fault in (
        FailedMemory(space="ipa", address=CODE + 0x800),
        InstructionSet(word=0, lasts="line"),
        InstructionSet(word=0),
        MaintenanceDrop(operation="IC"),
        TlbStale(address=CODE),
        StepSkip(step="install"),
        StepLate(step="make-pte"),
    ):
        box.inject(fault)
    clear_faults(box.vm)
    pe = box.pe
    assert not (box.machine.memory.failed)
    assert not (pe.disturbances)
    assert not (pe.mmu.tlb.survivors)
    assert not (pe.icache.copies)
    assert not (pe.icache.wrong)
    assert not (pe.icache.once)
    assert not (pe.icache.is_cache)
    assert not (box.vm.steps.deviations)
    assert not (box.vm.steps.late)
    box.run(1)
    assert int(box.vcpu.pc) == CODE + 8


def test_lost_interrupts_end_too() -> None:
    box = IrqBox((NOP,))
    InterruptLost(intid=40).inject(Target(box.vm, box.vcpus[0]))
    clear_faults(box.vm)
    assert not box.gic.distributor.losing


def test_failed_bytes_are_repaired_one_range_at_a_time() -> None:
    memory = Box(NOP).machine.memory
    ranges = [
        FailedRange(PA(memory.base + 8 * i), 8, ecc=True, on_walks=True, on_accesses=True)
        for i in range(2)
    ]
    for failed in ranges:
        memory.fail(failed)
    memory.repair(ranges[0])
    assert memory.fetch_u64(memory.base) == 0
    assert memory.fetch_u64(PA(memory.base + 8)) is None
