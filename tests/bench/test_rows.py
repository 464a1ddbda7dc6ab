from __future__ import annotations

import pytest

from bench.rows import Reference, Row, Unit, three_digits


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123")],
)
def test_numbers_show_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_a_figure_shows_its_unit() -> None:
    assert Unit.MICROSECONDS.text(2.5) == "2.50 us"


def test_a_time_meets_its_target_when_it_is_not_above() -> None:
    row = Row("fault", 25.0, Unit.MICROSECONDS, limit=25.0)
    assert row.meets(row.limit, row.value)
    assert not row.meets(row.limit, 25.1)


def test_a_speed_meets_its_target_when_it_is_not_below() -> None:
    row = Row("loop", 65.0, Unit.MIPS)
    assert row.meets(0.65, row.ratio(Reference("bare", 100.0)))
    assert not row.meets(0.65, row.ratio(Reference("bare", 101.0)))


def test_a_row_without_a_target_neither_meets_nor_misses_it() -> None:
    assert Row("walk", 1.0, Unit.MICROSECONDS).meets(None, 1.0) is None


def test_a_row_as_json_holds_ratio_and_verdict_of_each_reference() -> None:
    row = Row("refill", 1.0, Unit.MICROSECONDS, (Reference("hook", 0.25, 3.0),))
    assert row.as_dict() == {
        "name": "refill",
        "value": 1.0,
        "unit": "us",
        "limit": None,
        "met": None,
        "note": "",
        "references": [
            {
                "name": "hook",
                "value": 0.25,
                "ratio": 4.0,
                "limit": 3.0,
                "met": False,
                "verdict": "",
            }
        ],
    }


def test_only_a_rival_is_cheaper_or_dearer() -> None:
    row = Row("fault", 1.0, Unit.MICROSECONDS)
    assert row.verdict(Reference("KVM", 1.5, is_rival=True)) == "cheaper"
    assert row.verdict(Reference("KVM", 1.0, is_rival=True)) == "dearer"
    assert not row.verdict(Reference("hook", 1.5))
    loop = Row("loop", 100.0, Unit.MIPS)
    assert loop.verdict(Reference("QEMU", 50.0, is_rival=True)) == "faster"
    assert loop.verdict(Reference("QEMU", 150.0, is_rival=True)) == "slower"
