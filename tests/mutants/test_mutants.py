"""The table of mutants fits the code, and the tool tells noticed from unnoticed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import pytest

from tests.mutants.__main__ import chosen
from tests.mutants.run import ROOT, try_mutant
from tests.mutants.table import Mutant, TableError, mutated, read_table

if TYPE_CHECKING:
    from pathlib import Path

MUTANTS: Final = read_table()
CODE: Final = "def two() -> int:\n    return 2\n"
FAULT: Final = Mutant("two is three", "emu/two.py", "return 2", "return 3", ["tests/test_two.py"])


def test_there_are_enough_mutants_of_all_parts() -> None:
    assert len(MUTANTS) >= 20
    assert {mutant.file.rsplit("/", 1)[0] for mutant in MUTANTS} >= {"emu/mmu", "emu/arch", "hyp"}
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_mutant_is_a_change_of_one_line_that_is_there(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    changed = mutated(mutant, source)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    assert all((ROOT / test).exists() for test in mutant.noticed_by)


@pytest.mark.parametrize("source", ["", "return 2\nreturn 2\n", "return 22\n"])
def test_line_that_is_not_there_once_is_named(source: str) -> None:
    with pytest.raises(TableError, match=r"emu/two.py has the line 'return 2' [02] times"):
        mutated(FAULT, source)


def test_entry_with_other_keys_is_named(tmp_path: Path) -> None:
    table = tmp_path / "table.toml"
    table.write_text('[[mutant]]\nfile = "emu/two.py"\n')
    with pytest.raises(TableError, match=r"table.toml: mutant 1 has the keys file; a mutant has "):
        read_table(table)


def test_words_choose_mutants() -> None:
    assert chosen([FAULT], ["three", "other"]) == [FAULT]
    with pytest.raises(TableError, match="no mutant has 'four'"):
        chosen([FAULT], ["four"])


@pytest.mark.parametrize(
    ("test", "killer"),
    [("assert two() == 2", "tests/test_two.py::test_two"), ("assert two()", None)],
)
def test_mutant_is_noticed_only_by_a_test_that_fails(
    tmp_path: Path, test: str, killer: str | None
) -> None:
    for folder in ("emu", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "emu/two.py").write_text(CODE)
    text = f"from two import two\n\ndef test_two() -> None:\n    {test}\n"
    (tmp_path / "tests/test_two.py").write_text(text)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["emu"]\n')
    assert try_mutant(FAULT, tmp_path, rest=()).killer == killer
