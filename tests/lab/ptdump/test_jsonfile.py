"""Dumps in files: written, read, refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import UserError
from lab.ptdump import jsonfile

if TYPE_CHECKING:
    from pathlib import Path

    from lab.ptdump import Dump


def test_dump_that_was_read_again_is_the_same(mixed_dump: Dump, tmp_path: Path) -> None:
    file = tmp_path / "dump.json"
    file.write_text(jsonfile.text(mixed_dump))
    assert jsonfile.read(file) == mixed_dump
    assert jsonfile.text(jsonfile.read(file)) == file.read_text()


def test_text_is_the_json_of_the_dictionary(mixed_dump: Dump) -> None:
    assert json.loads(jsonfile.text(mixed_dump)) == jsonfile.as_dict(mixed_dump)


def test_entries_are_decoded(mixed_dump: Dump) -> None:
    content = jsonfile.as_dict(mixed_dump)
    assert (content["format"], content["version"]) == ("stage2 ptdump", 1)
    assert (content["ipa_range"], content["stage2_levels"]) == (40, 3)
    entries = {entry["ipa"]: entry for entry in content["entries"]}
    block = entries[0x4020_0000]
    assert block.pop("pte") & 0xFFFF_FFFF_F000 == 0x9_0020_0000
    assert block == {
        "ipa": 0x4020_0000, "size": 0x40_0000, "level": 2, "count": 2, "kind": "block",
        "pa": 0x9_0020_0000, "prot": "rw-", "memory": "Normal", "share": "inner shareable",
        "af": True, "sw": 0,
    }  # fmt: skip
    assert entries[0x4000_5000]["annotation"] == "locked"
    assert entries[0]["kind"] == "empty"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ("[]", "is no dump of page tables; 'stage2 ptdump GUEST --save FILE.json' writes one"),
        ('{"format": "other"}', "is no dump of page tables"),
        ('{"format": "stage2 ptdump"}', "is a dump of version None"),
        (
            '{"format": "stage2 ptdump", "version": 2}',
            "version 2, and this program reads version 1",
        ),
        ('{"format": "stage2 ptdump", "version": 1}', "damaged dump: 'guest' is missing"),
    ],
)
def test_file_that_is_no_dump_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        jsonfile.read(file)
    assert said in str(refused.value)


def damage(content: dict[str, Any], path: str, value: object) -> None:
    *keys, last = path.split(".")
    inner: Any = content
    for key in keys:
        inner = inner[int(key) if key.isdecimal() else key]
    inner[int(last) if last.isdecimal() else last] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("guest", 1, "guest is a text, not 1"),
        ("ipa_range", 31, "ipa_range is 32 to 52, not 31"),
        ("ipa_range", True, "ipa_range is a number of 64 bits, not True"),
        ("ipa_range", 41, "not those of 41 bits"),
        ("stage2_levels", 1, "stage2_levels is 2 to 4, not 1"),
        ("tables", [], "no tables or no entries"),
        ("tables", 1, "not iterable"),
        ("tables.0.level", 9, "no table has level 9"),
        ("entries.0", 1, "not subscriptable"),
        ("entries.0.count", 0, "no 0 entries of level 1"),
        ("entries.1.ipa", 0x3FFF_F000, "no entry is at 0x40000000"),
        ("entries.1.ipa", 0x4000_1000, "no entry is at 0x40000000"),
        ("entries.1.ipa", 0x4000_0001, "0x40000001 is not aligned to level 3"),
        ("entries.1.pte", 1 << 64, "pte is a number of 64 bits"),
        ("slots", None, "not iterable"),
    ],
)
def test_damaged_dump_names_the_damage(
    mixed_dump: Dump, tmp_path: Path, path: str, value: object, said: str
) -> None:
    content = jsonfile.as_dict(mixed_dump)
    damage(content, path, value)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as refused:
        jsonfile.read(file)
    assert "damaged dump" in str(refused.value)
    assert said in str(refused.value)
