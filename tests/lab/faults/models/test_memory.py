"""Faults in memory and in descriptors."""

from __future__ import annotations

from typing import Any

import pytest

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.registers.exceptions import ESR_EL1, FAR_EL1
from hyp.exits import InternalError, Intr, SystemEvent
from lab.errors import UserError
from lab.faults.models.descriptors import DescriptorFlip, DescriptorSet, DescriptorStuck
from lab.faults.models.memory import MemoryFlip, MemorySet, MemoryStuck
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA, RAM, TABLES
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box


def touched(*program: int, **options: Any) -> Box:  # noqa: ANN401  # of Box
    """Return a VM that has stored 0x55 to its data and goes on behind that."""
    box = Box(a64.movz(2, 0x55), a64.str_(2, 1), *program, **options)
    assert isinstance(box.run(2), Intr)
    return box


@pytest.mark.parametrize("space", ["pa", "ipa", "va"])
def test_bit_of_a_byte_flips_and_is_what_a_load_finds(space: str) -> None:
    box = touched(a64.ldr(7, 1), *SYSTEM_OFF, stage1=True)
    pa = box.pa(DATA)
    address = int(pa) if space == "pa" else int(DATA)
    assert box.changes(MemoryFlip(space=space, address=address, bit=1)) == {
        f"PA {pa:#x}": (0x55, 0x57)
    }
    assert isinstance(box.run(), SystemEvent)
    assert box.x(7) == 0x57


def test_word_is_set() -> None:
    box = touched()
    pa = box.pa(DATA)
    fault = MemorySet(space="ipa", address=DATA + 4, size=4, value=0x1234_5678)
    assert box.changes(fault) == {f"PA {pa:#x}": (0x55, 0x1234_5678_0000_0055)}


def test_stuck_bit_wins_over_every_store() -> None:
    box = touched(a64.movz(2, 0xFF), a64.str_(2, 1), a64.ldr(7, 1), *SYSTEM_OFF)
    injection = box.inject(MemoryStuck(space="va", address=DATA, bit=3, stuck_at=0))
    assert injection.hold is not None
    for _ in range(3):
        injection.hold()
        box.run(1)
    assert box.x(7) == 0xF7


def test_memory_of_a_slot_that_the_guest_has_not_touched_is_found() -> None:
    box = touched(a64.ldr(7, 1, 0x2000), *SYSTEM_OFF)
    box.put64(DATA + 0x2000, 0x100)
    assert box.vm.pgt.get_leaf(IPA(DATA + 0x2000)).pte == 0
    for fault in (
        MemoryFlip(space="ipa", address=DATA + 0x2000, bit=0),
        MemoryFlip(space="va", address=DATA + 0x2001, bit=1),
    ):
        assert len(box.changes(fault)) == 1
    box.run()
    assert box.x(7) == 0x301


def test_memory_that_nobody_has_is_no_place_for_a_fault() -> None:
    box = touched(stage1=True)
    flip = MemoryFlip(space="ipa", address=DATA + 0x3000, bit=0)
    assert box.refusal(flip) == "no page is behind IPA 0x40103000 yet"
    assert box.refusal(MemoryFlip(space="va", address=0x1000, bit=0)) == "VA 0x1000 is not mapped"
    assert box.refusal(MemoryFlip(space="pa", address=0x1000, bit=0)) == (
        "there is no memory at PA 0x1000"
    )
    outside = MemoryFlip(space="ipa", address=0x1000, bit=0)
    assert box.refusal(outside) == "no page is behind IPA 0x1000 yet"


def test_flipped_bit_of_code_that_ran_is_what_is_fetched_next() -> None:
    box = Box(a64.movz(3, 1), a64.b(-4))
    box.run(4)
    changed = box.changes(MemoryFlip(space="va", address=CODE, bit=6, size=4))  # imm16[1]
    assert list(changed) == [f"PA {box.pa(CODE):#x}"]
    box.run(2)
    assert box.x(3) == 3


def test_flipped_bit_of_code_can_make_a_system_instruction_which_is_heard_of() -> None:
    tlbi_vmalle1 = 0xD508_871F
    box = Box(tlbi_vmalle1 ^ 1 << 24, NOP, a64.b(-8))  # STUR-like word: never reached at first
    box.vcpu.write_x(0, 0)
    box.inject(MemoryFlip(space="ipa", address=CODE + 3, bit=0))
    box.run(1)
    assert box.pe.maintenance["VMALLE1"] == 2  # EL2 has executed the other


# Descriptors


def test_field_of_a_stage_2_leaf_flips_and_counts_once_it_is_walked_again() -> None:
    box = touched(a64.str_(2, 1, 8), a64.ldr(7, 1), *SYSTEM_OFF)
    fault = DescriptorFlip(stage=2, address=DATA, field="S2AP", bit=1)
    (change,) = box.changes(fault).values()
    assert change[0] ^ change[1] == 1 << 7
    faults = sum(box.vm.stats.aborts.values())
    box.run(1)  # by the TLB
    assert sum(box.vm.stats.aborts.values()) == faults


def test_wrong_output_of_stage_2_leads_to_other_memory() -> None:
    box = Box(a64.ldr(7, 1), a64.ldr(4, 1, 0x1000), 0xD508_871F, a64.ldr(5, 1), *SYSTEM_OFF)
    box.put64(DATA, 11)
    box.put64(DATA + 0x1000, 22)
    box.run(2)
    wrong = box.pa(DATA + 0x1000) >> 12
    found = box.inject(DescriptorSet(stage=2, address=DATA, field="OA", value=wrong))
    assert found.detail.startswith("OA of stage 2 level 3 descriptor of IPA 0x40100000 at PA 0x8")
    box.pe.mmu.tlb.stage2_entries(box.pe.mmu.regime.vmid).clear()  # as TLBI IPAS2E1 would
    box.run()
    assert (box.x(7), box.x(4), box.x(5)) == (11, 22, 22)


def test_descriptor_above_the_leaf_is_found_by_its_level() -> None:
    box = touched(a64.ldr(7, 1, 0x1000), *SYSTEM_OFF)
    for level in (1, 2, 3):
        (name,) = box.changes(DescriptorFlip(stage=2, address=DATA, level=level, bit=58))
        pa = int(name.removeprefix("PA "), 16)
        shift = 12 + 9 * (3 - level)
        assert pa >> 3 & 511 == DATA >> shift & 511
    assert "no NLTA" in box.refusal(DescriptorFlip(stage=2, address=DATA, field="NLTA", bit=0))
    table = DescriptorFlip(stage=2, address=DATA, level=2, field="S2AP", bit=0)
    assert "is a table, which has no S2AP" in box.refusal(table)


def test_stage_1_leaf_that_becomes_invalid_faults_at_the_next_walk() -> None:
    box = touched(a64.ldr(7, 1, 0x1000), stage1=True)
    address = DATA + 0x1000
    fault = DescriptorSet(stage=1, address=address, field="VALID", value=0)
    (change,) = box.changes(fault).items()
    assert change[0] == f"PA {box.pa(TABLES + 0x2000) + (address - RAM >> 9):#x}"
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS & 0x3F == FaultStatusCode.TRANSLATION_L3
    assert int(box.vcpu.read(FAR_EL1)) == address


def test_stage_1_table_and_block_are_told_apart() -> None:
    box = touched(stage1=True)
    block = DescriptorFlip(stage=1, address=TABLES, field="AF", bit=0)
    assert "stage 1 level 2 descriptor of VA 0x40200000" in box.inject(block).detail
    assert "meets no descriptor of level 3" in box.refusal(
        DescriptorFlip(stage=1, address=TABLES, level=3, bit=0)
    )
    table = DescriptorFlip(stage=1, address=DATA, level=2, field="APTable", bit=1)
    assert len(box.changes(table)) == 1


def test_without_stage_1_there_are_no_descriptors_of_it() -> None:
    assert touched().refusal(DescriptorFlip(stage=1, address=DATA, bit=0)) == (
        "the walk of stage 1 for VA 0x40100000 meets no descriptor"
    )


def test_descriptor_in_memory_that_stage_2_does_not_map_yet_is_no_place() -> None:
    box = Box(NOP, stage1=True)
    assert "is not in memory" in box.inject(DescriptorFlip(stage=1, address=DATA, bit=0)).detail


def test_stuck_bit_of_a_descriptor_has_the_guest_fault_for_ever() -> None:
    box = touched(a64.ldr(7, 1, 0x1000), *SYSTEM_OFF)
    fault = DescriptorStuck(stage=2, address=DATA + 0x1000, field="VALID", bit=0, stuck_at=0)
    injection = box.inject(fault)
    assert injection.hold is not None
    injection.hold()
    exit_ = box.run(1)
    assert isinstance(exit_, Intr | InternalError)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: MemoryFlip(space="hva", address=0, bit=0),
            (
                "MemoryFlip: space is one of pa, ipa, va, not 'hva' "
                "(the kind of address: physical, guest physical, or virtual)"
            ),
        ),
        (
            lambda: MemoryFlip(space="pa", address=0, bit=8),
            "MemoryFlip: bit is 0 to 7 (memory of size 1 has 8 bits, and width is 1), not 8",
        ),
        (
            lambda: MemorySet(space="pa", address=6, size=4, value=0),
            "MemorySet: address is a multiple of the size, 4, not 6",
        ),
        (
            lambda: MemorySet(space="pa", address=8, size=1, value=256),
            "MemorySet: value is 0 to 0xff (memory of size 1 has 8 bits), not 0x100",
        ),
        (
            lambda: DescriptorFlip(stage=2, address=0, field="S2PA", bit=0),
            "DescriptorFlip: field is a field of a descriptor of stage 2 (S2AP?), not 'S2PA'",
        ),
        (
            lambda: DescriptorFlip(stage=1, address=0, field="AP", bit=2),
            "DescriptorFlip: bit is 0 to 1 (AP has 2 bits, and width is 1), not 2",
        ),
        (
            lambda: DescriptorSet(stage=3, address=0, value=2),
            "DescriptorSet: stage is one of 1, 2, not 3 (1 or 2)",
        ),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(make: Any, text: str) -> None:  # noqa: ANN401
    with pytest.raises(UserError) as refused:
        make()
    assert str(refused.value) == text
