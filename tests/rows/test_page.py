"""docs/coverage.md says what the tests show."""

from __future__ import annotations

from tests.rows.page import PAGE, marked, page, table


def test_every_mark_names_a_row() -> None:
    rows, _ = table()
    assert set(marked()) <= set(rows)


def test_a_row_has_tests_or_a_reason_but_not_both() -> None:
    rows, missing = table()
    assert set(rows) - set(marked()) == set(missing)


def test_the_page_is_the_one_that_the_marks_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.rows.page"
