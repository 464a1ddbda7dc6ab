"""Memory types and shareability of both stages together (Arm ARM D8.6), by hand."""

from __future__ import annotations

from typing import Final

import pytest

from emu.mmu.attributes import (
    combined_attribute,
    combined_is_device,
    combined_shareability,
    is_device_attribute,
)

NGNRNE, NGNRE, NGRE, GRE = 0x00, 0x04, 0x08, 0x0C
NC, WT, WB = 0x44, 0xBB, 0xFF
WB_NO_ALLOCATE, WT_NO_ALLOCATE = 0xCC, 0x88
TAGGED: Final = 0xF0

# Outer in the high nibble, inner in the low one; stage 2: MemAttr[3:2] outer, [1:0] inner.
S2_NGNRNE, S2_NGNRE, S2_NGRE, S2_GRE = 0b0000, 0b0001, 0b0010, 0b0011
S2_NC, S2_WT, S2_WB = 0b0101, 0b1010, 0b1111

COMBINATIONS: Final = [
    # stage 1, stage 2, result
    (WB, S2_WB, WB),
    (WB, S2_WT, WT),
    (WB, S2_NC, NC),
    (WB, S2_NGNRE, NGNRE),
    (WB, S2_NGNRNE, NGNRNE),
    (WB, S2_GRE, GRE),
    (WT, S2_WB, WT),
    (WT, S2_WT, WT),
    (WT, S2_NC, NC),
    (NC, S2_WB, NC),
    (NC, S2_WT, NC),
    (NC, S2_NC, NC),
    (NC, S2_NGRE, NGRE),
    (NGNRNE, S2_WB, NGNRNE),
    (NGNRE, S2_WB, NGNRE),
    (GRE, S2_NC, GRE),
    (NGNRE, S2_NGNRNE, NGNRNE),
    (NGNRNE, S2_GRE, NGNRNE),
    (GRE, S2_NGRE, NGRE),
    (NGRE, S2_NGNRE, NGNRE),
    (WB_NO_ALLOCATE, S2_WB, WB_NO_ALLOCATE),
    (WB_NO_ALLOCATE, S2_WT, WT_NO_ALLOCATE),
    (0x4F, S2_WB, 0x4F),
    (0xF4, S2_WB, 0xF4),
    (WB, 0b0111, 0x4F),
    (WB, 0b1101, 0xF4),
    (TAGGED, S2_WB, TAGGED),
    (TAGGED, S2_WT, WT),
]


@pytest.mark.parametrize(("first", "second", "result"), COMBINATIONS)
def test_the_stricter_of_both_stages_wins(first: int, second: int, result: int) -> None:
    assert combined_attribute(first, second, fwb=False) == result


WITH_FWB: Final = [
    (WB, 0b0111, WB),
    (NGNRE, 0b0111, NGNRE),
    (NC, 0b0111, NC),
    (NGNRE, 0b0110, WB),
    (NC, 0b0110, WB),
    (WT_NO_ALLOCATE, 0b0110, WB_NO_ALLOCATE),
    (WB_NO_ALLOCATE, 0b0110, WB_NO_ALLOCATE),
    (TAGGED, 0b0110, TAGGED),
    (WB, 0b0101, NC),
    (NGNRE, 0b0101, NGNRE),
    (WB, 0b0000, NGNRNE),
    (WB, 0b0001, NGNRE),
    (NGNRNE, 0b0011, GRE),
]


@pytest.mark.parametrize(("first", "second", "result"), WITH_FWB)
def test_with_fwb_stage_2_decides(first: int, second: int, result: int) -> None:
    assert combined_attribute(first, second, fwb=True) == result


@pytest.mark.parametrize(("first", "second", "result"), COMBINATIONS)
def test_device_is_told_alike_without_fwb(first: int, second: int, result: int) -> None:
    assert combined_is_device(first, second, fwb=False) is is_device_attribute(result)


@pytest.mark.parametrize(
    ("first", "second", "result"), [row for row in WITH_FWB if row[1] != 0b0011]
)
def test_device_is_told_alike_with_fwb(first: int, second: int, result: int) -> None:
    assert combined_is_device(first, second, fwb=True) is is_device_attribute(result)


@pytest.mark.parametrize(
    ("attribute", "device"),
    [(0x00, True), (0x04, True), (0x0C, True), (0x44, False), (0xFF, False), (0xF0, False)],
)
def test_device_attributes(attribute: int, *, device: bool) -> None:
    assert is_device_attribute(attribute) is device


NON, OUTER, INNER = 0, 2, 3


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (NON, NON, NON),
        (NON, INNER, INNER),
        (INNER, NON, INNER),
        (INNER, INNER, INNER),
        (OUTER, INNER, OUTER),
        (INNER, OUTER, OUTER),
        (NON, OUTER, OUTER),
    ],
)
def test_the_wider_shareability_wins(first: int, second: int, result: int) -> None:
    assert combined_shareability(WB, first, second) == result


@pytest.mark.parametrize("attribute", [NGNRNE, GRE, NC])
@pytest.mark.parametrize("share", [NON, INNER, OUTER])
def test_device_and_non_cacheable_memory_is_outer_shareable(attribute: int, share: int) -> None:
    assert combined_shareability(attribute, share, share) == OUTER
