"""Words found by masks, compared with looking at each of them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.search import searcher

MASKS = ((0xFFC0_0000, 0xD500_0000), (0x3F20_0C00, 0x3800_0800), (0x3F80_001F, 0x1100_001F))
MATCHING = (0xD503_201F, 0xF840_0820, 0x9100_03FF)
ALMOST = (0xD543_201F, 0xF840_0420, 0x9100_03FE, 0)
"""One bit is wrong in each."""

words = st.lists(st.sampled_from(MATCHING + ALMOST) | st.integers(0, (1 << 32) - 1))


@given(words)
def test_every_match_is_found_and_nothing_else(code: list[int]) -> None:
    found = searcher(MASKS)(struct.pack(f"<{len(code)}I", *code))
    assert found == [
        (4 * index, word)
        for index, word in enumerate(code)
        if any(word & mask == value for mask, value in MASKS)
    ]


def test_bytes_that_match_different_masks_are_no_match() -> None:
    assert searcher(MASKS)(struct.pack("<2I", 0x3840_001F, 0x1100_0800)) == []


@pytest.mark.parametrize("number", range(17))
def test_there_can_be_any_number_of_masks(number: int) -> None:
    masks = [(0xFF, value) for value in range(17)]
    assert searcher(masks)(struct.pack("<2I", 0xFF, 0x1200 + number)) == [(4, 0x1200 + number)]
