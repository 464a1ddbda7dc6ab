"""Writes docs/coverage.md: which tests show which row of the KVM behaviour table."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).with_name("table.toml")
PAGE: Final = ROOT / "docs" / "coverage.md"

_HEAD: Final = """\
# Coverage of KVM's behaviour

What KVM/arm64 does, one row a behaviour, and the tests that show it. Written by
`python -m tests.rows.page` from `tests/rows/table.toml` and the `kvm_row` marks of the tests.

{done} of {all} rows have tests.

| row | behaviour | tests |
|---:|---|---|
"""


def table() -> tuple[dict[int, str], dict[int, str]]:
    """Return the behaviour by row, and why rows have no test."""
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return (
        {int(row): text for row, text in data["rows"].items()},
        {int(row): text for row, text in data["missing"].items()},
    )


def marked() -> dict[int, list[str]]:
    """Return the tests by row, as ``file::name``, in the order of files and lines."""
    found: dict[int, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        name = file.relative_to(ROOT / "tests").as_posix()
        text = file.read_text(encoding="utf-8")
        if "kvm_row" not in text:
            continue
        for test, rows in _tests(ast.parse(text).body):
            for row in rows:
                found.setdefault(row, []).append(f"{name}::{test}")
    return found


def _tests(
    body: list[ast.stmt], inherited: tuple[int, ...] = ()
) -> Iterator[tuple[str, list[int]]]:
    """Yield the marked tests of a module or class, and their rows."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node.body, (*inherited, *_rows(node.decorator_list)))
        elif isinstance(node, ast.FunctionDef):
            rows = [*inherited, *_rows(node.decorator_list)]
            if rows:
                yield node.name, rows


def _rows(decorators: list[ast.expr]) -> list[int]:
    """Return the rows of a test's marks, those of single parameters included."""
    found = [
        ast.literal_eval(argument)
        for decorator in decorators
        for mark in ast.walk(decorator)
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.kvm_row"
        for argument in mark.args
    ]
    return sorted(set(found))


def page() -> str:
    """Return the text of docs/coverage.md."""
    rows, missing = table()
    tests = marked()
    done = sum(row in tests for row in rows)
    lines = [_HEAD.format(done=done, all=len(rows))]
    for row, behaviour in rows.items():
        shown = "<br>".join(f"`{test}`" for test in tests.get(row, ()))
        lines.append(f"| {row} | {behaviour} | {shown or 'none: ' + missing.get(row, '?')} |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
