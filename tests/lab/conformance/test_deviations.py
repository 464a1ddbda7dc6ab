from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from lab.conformance.deviations import Deviation, listed, load
from lab.conformance.reader import read

RECORDED = sorted((Path(__file__).parents[2] / "conformance").glob("*.jsonl.gz"))
GOOD = 'pattern = "a/*"\nfield = "esr"\nrule = "Arm ARM"\nreason = "because"\n'


def _load(tmp_path: Path, text: str) -> tuple[Deviation, ...]:
    path = tmp_path / "deviations.toml"
    path.write_text(text)
    return load(path)


def test_every_listed_deviation_is_about_a_recorded_case() -> None:
    names = [case.name for case in read(RECORDED).cases]
    assert names
    for entry in listed():
        assert any(fnmatchcase(name, entry.pattern) for name in names), entry.pattern


def test_a_list_is_read(tmp_path: Path) -> None:
    assert _load(tmp_path, "") == ()
    (entry,) = _load(tmp_path, "[[deviation]]\n" + GOOD)
    assert (entry.pattern, entry.field) == ("a/*", "esr")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('rule = "Arm ARM"\n', ""), "has the keys pattern, field, rule, reason"),
        (GOOD + 'colour = "red"\n', "has the keys"),
        (GOOD.replace('"because"', '""'), "all given"),
        (GOOD.replace('"esr"', '"esrr"'), "field is one of outcome, taken_to"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        _load(tmp_path, f"[[deviation]]\n{GOOD}[[deviation]]\n{text}")
    assert "deviation 2" in str(refusal.value)
