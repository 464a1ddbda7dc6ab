from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.campaign.place import Bytes, Nowhere, Place, Register, bit_of, name_of, place_of
from lab.campaign.trace import Trace
from lab.faults.models.descriptors import DescriptorFlip, DescriptorSet
from lab.faults.models.instructions import InstructionFlip
from lab.faults.models.memory import MemoryFlip, MemorySet
from lab.faults.models.registers import RegisterFlip, RegisterSet, RegisterStuck

if TYPE_CHECKING:
    from lab.faults.fault import Fault

IPA, MOVED, PA, TABLE, TOP = 0x4000_1000, 0x4000_2000, 0x8_0000_5000, 0x8_0000_9000, 0x8_0001_0000


def trace() -> Trace:
    made = Trace()
    made.pages = {IPA >> 12: PA, MOVED >> 12: PA + 0x1000}
    made.moved = {MOVED >> 12}
    made.table_shifts = (39, 30, 21, 12)
    made.tables = {(1, 0): range(TOP, TOP + 0x2000), (3, 0x4000_0000): range(TABLE, TABLE + 0x1000)}
    return made


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (RegisterFlip(register="x3", bit=1), Register("x3")),
        (RegisterSet(register="x30", value=1), Register("x30")),
        (RegisterFlip(register="sp", bit=1), None),
        (RegisterFlip(register="pstate.Z", bit=0), None),
        (RegisterStuck(register="x3", bit=1, stuck_at=0), None),
        (InstructionFlip(address=0x1000, bit=1), None),
        (MemoryFlip(space="pa", address=PA, bit=1), Bytes(PA, 1, appears=False)),
        (MemoryFlip(space="ipa", address=IPA + 8, size=8, bit=17), Bytes(PA + 10, 1)),
        (MemoryFlip(space="ipa", address=IPA, size=4, bit=7, width=2), Bytes(PA, 2)),
        (MemorySet(space="ipa", address=IPA, size=4, value=2), Bytes(PA, 4)),
        (MemoryFlip(space="ipa", address=MOVED, bit=1), None),
        (MemoryFlip(space="ipa", address=0x5000_0000, bit=1), Nowhere()),
        (MemoryFlip(space="va", address=IPA, bit=1), None),
        (DescriptorFlip(stage=2, address=IPA, level=3, bit=5), Bytes(TABLE + 8, 8)),
        (DescriptorSet(stage=2, address=IPA, level=1, value=0), Bytes(TOP + 8, 8)),
        (DescriptorFlip(stage=2, address=IPA, level=2, bit=5), Nowhere()),
        (DescriptorFlip(stage=2, address=IPA, bit=5), None),
        (DescriptorFlip(stage=1, address=IPA, level=3, bit=5), None),
    ],
)
def test_only_a_place_that_stays_where_it_is_has_classes(fault: Fault, place: Place | None) -> None:
    assert place_of(fault, trace()) == place


def test_descriptors_have_none_once_a_table_has_gone_away() -> None:
    made = trace()
    made.tables_moved = True
    assert place_of(DescriptorFlip(stage=2, address=IPA, level=3, bit=5), made) is None


@pytest.mark.parametrize(
    ("fault", "name", "bit"),
    [
        (RegisterFlip(register="x3", bit=1), "x3", 1),
        (RegisterSet(register="sp", value=16), "sp", None),
        (MemoryFlip(space="ipa", address=IPA, bit=6), "memory ipa=0x40001000", 6),
        (
            DescriptorFlip(stage=2, address=IPA, level=3, bit=7),
            "stage2 ipa=0x40001000 level=3 S2AP",
            7,
        ),
        (DescriptorFlip(stage=2, address=IPA, level=2, bit=7), "stage2 ipa=0x40001000 level=2", 7),
        (
            DescriptorFlip(stage=1, address=IPA, field="AP", bit=1),
            "stage1 va=0x40001000 last level AP",
            1,
        ),
        (
            InstructionFlip(address=0x1000, bit=4, lasts="line"),
            "instruction address=0x1000 lasts=line",
            4,
        ),
    ],
)
def test_places_have_names(fault: Fault, name: str, bit: int | None) -> None:
    assert (name_of(fault), bit_of(fault)) == (name, bit)
