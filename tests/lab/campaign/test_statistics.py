from __future__ import annotations

import pytest

from lab.campaign.draw import Generator, draw
from lab.campaign.statistics import Interval, planned_size, quantile, weighted, wilson
from lab.errors import UserError


@pytest.mark.parametrize(
    ("margin", "confidence", "space", "n"),
    [
        (0.05, 0.95, 10**9, 385),
        (0.05, 0.95, 1000, 278),
        (0.03, 0.95, 10**9, 1068),
        (0.01, 0.99, 10**12, 16588),
        (0.05, 0.95, 10, 10),
        (0.05, 0.95, 1, 1),
        (0.05, 0.95, 0, 0),
    ],
)
def test_the_size_of_a_sample(margin: float, confidence: float, space: int, n: int) -> None:
    assert planned_size(margin, confidence, space) == n


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_the_interval_of_a_proportion(hits: int, n: int, low: float, high: float) -> None:
    # The first four are Newcombe's examples (Statistics in Medicine 17, 1998, table I).
    found = wilson(hits, n, 0.95)
    assert found.estimate == hits / n
    assert found.low == pytest.approx(low, abs=5.1e-5)
    assert found.high == pytest.approx(high, abs=5.1e-5)


def test_nothing_drawn_says_nothing() -> None:
    assert wilson(0, 0, 0.95) == weighted([], [], 0.95) == Interval(0.0, 0.0, 1.0)


def test_a_sample_of_everything_is_certain() -> None:
    assert wilson(3, 12, 0.95, 12) == Interval(0.25, 0.25, 0.25)
    assert weighted([3, 1], [3, 1, 4], 0.95, 3) == Interval(0.5, 0.5, 0.5)


def test_a_large_part_of_a_space_says_more_than_a_small_one() -> None:
    widths = [wilson(30, 100, 0.95, space).half_width for space in (101, 150, 1000, 10**9)]
    assert widths == sorted(widths)
    assert widths[-1] == pytest.approx(wilson(30, 100, 0.95).half_width, rel=1e-6)


def test_equal_weights_are_no_weights() -> None:
    for hits in (0, 3, 10):
        for got, wanted in zip(
            weighted([7] * hits, [7] * 10, 0.95), wilson(hits, 10, 0.95), strict=True
        ):
            assert got == pytest.approx(wanted)


def test_unequal_weights_say_less() -> None:
    even = weighted([5] * 4, [5] * 8, 0.95)
    uneven = weighted([17, 1, 1, 1], [17, 1, 1, 1] * 2, 0.95)
    assert uneven.estimate == even.estimate
    assert uneven.half_width > even.half_width


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(UserError, match=r"confidence is between 0 and 1, such as 0\.95"):
        quantile(confidence)


def test_a_margin_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="margin is between 0 and 1"):
        planned_size(5, 0.95, 100)


@pytest.mark.parametrize(("share", "n"), [(0.5, 60), (0.1, 100), (0.03, 200)])
@pytest.mark.parametrize("size", [400, 100_000])
def test_the_interval_covers_the_truth_as_often_as_it_says(share: float, n: int, size: int) -> None:
    hits = round(share * size)
    covered = 0
    rounds = 400
    for seed in range(rounds):
        found = wilson(sum(i < hits for i in draw(size, n, seed)), n, 0.95, size)
        covered += found.low <= hits / size <= found.high
    assert 0.92 <= covered / rounds <= 0.995


def test_the_weighted_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = Generator(5)
    weights = [1 + generator.below(20) for _ in range(5000)]
    has_it = [generator.below(10) < 3 for _ in weights]
    truth = sum(w for w, y in zip(weights, has_it, strict=True) if y) / sum(weights)
    covered = 0
    rounds = 400
    for seed in range(rounds):
        chosen = list(draw(len(weights), 150, seed))
        found = weighted(
            [weights[i] for i in chosen if has_it[i]], [weights[i] for i in chosen], 0.95, 5000
        )
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / rounds <= 0.995
