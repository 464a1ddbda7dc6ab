from __future__ import annotations

import tomllib
from typing import Any

import pytest

from lab.campaign.lines import key_lines, line_of

DOCUMENT = '''# a comment with [brackets] and = signs
title = "a # in a string, and a ] too"
"quoted key" = 1
dotted.name = 2

[table]   # a comment
multi = """
key = "not a key"
[not.a.table]
"""
literal = \'\'\'
other = 'x' \'\'\'\'
list = [
    1,  # one
    { inner = 3, "q" = [4] },
]
after = 1979-05-27 07:32:00

[[space]]
model = "a"
[space.fault]
bit = 1
[[space]]
model = "b"
[[space.also]]
model = "c"
[[space.also]]
when = { trigger = "pc", address = 5 }
'''


def paths(value: Any, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:  # noqa: ANN401  # a document
    found = [before] if before else []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += paths(inner, (*before, key))
    return found


def test_every_key_has_the_line_it_stands_on() -> None:
    lines = key_lines(DOCUMENT)
    written = DOCUMENT.splitlines()
    for path in paths(tomllib.loads(DOCUMENT)):
        line = written[line_of(lines, path) - 1]
        name = next(str(part) for part in reversed(path) if isinstance(part, str))
        assert name in line or isinstance(path[-1], int), (path, line)
    where = {
        ("title",): 2,
        ("dotted", "name"): 4,
        ("table",): 6,
        ("table", "literal"): 11,
        ("table", "list", 1, "inner"): 15,
        ("table", "after"): 17,
        ("space", 0, "fault", "bit"): 22,
        ("space", 1, "model"): 24,
        ("space", 1, "also", 0, "model"): 26,
        ("space", 1, "also", 1, "when", "address"): 28,
    }
    assert {path: lines[path] for path in where} == where


def test_a_key_that_is_missing_is_looked_for_in_its_table() -> None:
    lines = key_lines("a = 1\n\n[[space]]\nb = 2\n")
    assert line_of(lines, ("space", 0, "model")) == 3
    assert line_of(lines, ("nothing",)) == 1


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_endings_do_not_matter(ending: str) -> None:
    assert key_lines(ending.join(["", "a = 1", "[b]", "c = 'x'"]))["b", "c"] == 4
