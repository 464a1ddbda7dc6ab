"""Guests of the shipped experiments: what they do when nothing goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

UNTOUCHED, SIZE = 0x4100_0000, 0x0100_0000
BLOCKS, BLOCK = 0x5000_0000, 0x20_0000
PAGE = 0x1000
SUM = "0x4aea9163b6dc6370"


def test_isolation_maps_pages_and_blocks_in_its_first_pass(boot: Callable[..., Run]) -> None:
    run = boot("isolation")
    assert run.aborts(BLOCKS, 2 * BLOCK) == [
        f"write translation L2 {BLOCKS + 0x15_5000:#x}",
        f"write translation L2 {BLOCKS + BLOCK:#x}",
        f"fetch permission L2 {BLOCKS + BLOCK:#x}",
    ]
    assert run.aborts(UNTOUCHED, SIZE) == [
        f"write translation L2 {UNTOUCHED + 3 * PAGE:#x}",
        f"read translation L3 {UNTOUCHED:#x}",
        f"read translation L3 {UNTOUCHED + PAGE:#x}",
        f"write translation L3 {UNTOUCHED + 2 * PAGE:#x}",
        f"fetch permission L3 {UNTOUCHED + 3 * PAGE:#x}",
    ]
    assert run.outcome["pages_mapped"] == {"4K": 9, "2M": 2}


@pytest.mark.parametrize("name", ["checksum", "checksum_twice"])
def test_checksum_is_what_its_source_says(boot: Callable[..., Run], name: str) -> None:
    words, state = [], 0x9E37_79B9_7F4A_7C15
    mask = (1 << 64) - 1
    for _ in range(64):
        state ^= state << 13 & mask
        state ^= state >> 7
        state ^= state << 17 & mask
        words.append(state)
    low, high = 1, 0
    for word in words:
        low = low + word & mask
        high = high + low & mask
    assert f"{(high << 32 & mask) ^ high >> 32 ^ low:#x}" == SUM
    assert boot(name).console == f"{SUM}\nPASS\n"


def test_rewrite_calls_code_in_a_page_of_data(boot: Callable[..., Run]) -> None:
    run = boot("rewrite")
    assert run.console == "3 rounds\nPASS\n"
    assert run.aborts(UNTOUCHED + BLOCK, BLOCK) == [
        f"write translation L2 {UNTOUCHED + BLOCK:#x}",
        f"fetch permission L3 {UNTOUCHED + BLOCK:#x}",
    ]
