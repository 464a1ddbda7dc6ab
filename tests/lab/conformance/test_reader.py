from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from lab.conformance.reader import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_plain_and_compressed_files_are_read_alike(
    content: dict[str, Any], case_file: Callable[..., Path], tmp_path: Path
) -> None:
    plain = case_file(content)
    packed = tmp_path / "no-suffix"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    found = read([plain, packed])
    assert found.errors == []
    assert found.cases[0] == found.cases[1]
    assert [each.place for each in found.cases] == [f"{plain}:1", f"{packed}:1"]


def test_bad_lines_are_named_by_file_and_line_and_the_rest_is_read(
    content: dict[str, Any], case_file: Callable[..., Path]
) -> None:
    bad = content | {"name": "made/bad", "speed": 1}
    path = case_file(content, "{", bad, "", "\udc80".encode("utf-8", "replace").decode(), content)
    found = read([path])
    assert [each.place for each in found.cases] == [f"{path}:1", f"{path}:6"]
    assert [each.split(": ")[0] for each in found.errors] == [f"{path}:{n}" for n in (2, 3, 5)]
    assert "a line is one JSON object" in found.errors[0]
    assert "unknown field 'speed'" in found.errors[1]


def test_bytes_that_are_no_text_are_a_bad_line(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "cases"
    path.write_bytes(b"\xff\xfe\n" + json.dumps(content).encode() + b"\n")
    found = read([path])
    assert len(found.cases) == 1
    assert found.errors[0].startswith(f"{path}:1: a line is one JSON object")


def test_deeply_nested_json_is_a_bad_line(case_file: Callable[..., Path]) -> None:
    path = case_file("[" * 100_000)
    assert read([path]).errors[0].startswith(f"{path}:1: ")


def test_a_cut_off_file_gives_its_cases_and_an_error(
    content: dict[str, Any], tmp_path: Path
) -> None:
    lines = b"".join(
        json.dumps(content | {"name": f"made/{n}"}).encode() + b"\n" for n in range(99)
    )
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(lines)[:-30])
    found = read([path])
    assert found.cases
    assert found.errors[-1].startswith(f"{path}: cannot be read: ")


def test_files_that_are_missing_or_empty_are_errors(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    missing = tmp_path / "missing"
    found = read([missing, empty, tmp_path])
    assert [each.split(":")[0] for each in found.errors] == [
        str(missing),
        str(empty),
        str(tmp_path),
    ]
