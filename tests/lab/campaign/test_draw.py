from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.campaign.draw import Generator, draw


def test_the_generator_is_the_documented_one() -> None:
    generator = Generator(7)
    got = [generator.below(1 << 64) for _ in range(6)]
    blocks = b"".join(hashlib.sha256(f"stage2 draw 7 {n}".encode()).digest() for n in range(2))
    assert got == [int.from_bytes(blocks[8 * i : 8 * i + 8], "little") for i in range(6)]


def test_draws_are_the_same_for_ever() -> None:
    assert list(draw(10, 10, 1)) == [1, 3, 8, 0, 2, 4, 7, 6, 9, 5]
    assert next(draw(10**30, 1, 1)) == 343165633330687429555785881709


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2**64))
def test_no_number_is_drawn_twice(size: int, n: int, seed: int) -> None:
    drawn = list(draw(size, n, seed))
    assert len(set(drawn)) == len(drawn) == min(size, n)
    assert all(0 <= number < size for number in drawn)


@given(st.integers(1, 10**40), st.integers(0, 40))
def test_a_larger_sample_continues_a_smaller_one(size: int, n: int) -> None:
    assert list(draw(size, n + 5, 3))[:n] == list(draw(size, n, 3))[:n]


def test_every_number_is_as_likely_as_the_others_at_every_place() -> None:
    first, last = Counter[int](), Counter[int]()
    for seed in range(6000):
        drawn = list(draw(6, 6, seed))
        first[drawn[0]] += 1
        last[drawn[-1]] += 1
    assert all(850 < count < 1150 for c in (first, last) for count in c.values())


def test_there_is_no_number_below_zero() -> None:
    with pytest.raises(ValueError, match="no number below 0"):
        Generator(0).below(0)
