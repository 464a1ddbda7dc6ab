from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.timing import QUICK, Scale, best_of, median_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(("kept", "expected"), [(best_of, [1.0, 4.0]), (median_of, [2.0, 5.0])])
def test_sides_take_turns_and_each_keeps_one_time(
    kept: Callable[..., list[float]], expected: list[float]
) -> None:
    turns: list[str] = []
    times = {"a": iter([3.0, 1.0, 2.0]), "b": iter([5.0, 6.0, 4.0])}

    def side(name: str) -> Callable[[], float]:
        def run() -> float:
            turns.append(name)
            return next(times[name])

        return run

    assert kept(3, side("a"), side("b")) == expected
    assert turns == ["a", "b"] * 3


@pytest.mark.parametrize(("size", "expected"), [(8000, 1000), (3, 1)])
def test_sizes_shrink_but_never_to_nothing(size: int, expected: int) -> None:
    assert Scale(1, 8).of(size) == expected


def test_quick_does_less_work() -> None:
    assert QUICK.of(8000) < 8000
