"""What ARCHITECTURE.md says about the code: what `hyp` uses, and the names it mentions.

That imports keep to the layers is checked by ``tests/test_layers.py``.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTS_OF_A_PE: Final = {"mmu", "engine", "registers", "code", "blocks"}
"""What EL2 software cannot see of a PE."""

PLACE: Final = re.compile(r"`((?:\w+/)*\w+\.py)(?::([\w.]+))?`")
"""A file, or a name in it: `emu/mmu/mmu.py:Mmu.walk`."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sorted((ROOT / "hyp").rglob("*.py")), ids=name_of)
def test_the_hypervisor_does_not_look_inside_a_pe(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in PARTS_OF_A_PE:
            owner = ast.unparse(node.value)
            assert owner.split(".")[-1] != "pe", f"{name_of(path)} uses {owner}.{node.attr}"


def test_there_is_something_to_check() -> None:
    assert any(PLACE.search(page.read_text(encoding="utf-8")) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_and_names_that_a_page_mentions_exist(page: Path) -> None:
    for file, name in PLACE.findall(page.read_text(encoding="utf-8")):
        path = ROOT / file
        if "/" not in file or (not name and is_planned(page, file)):
            continue
        assert path.is_file(), f"{page.name} mentions {file}, which does not exist"
        if name:
            assert name in definitions(path), (
                f"{page.name} mentions {file}:{name}, which is not there"
            )


def is_planned(page: Path, file: str) -> bool:
    """Whether a file stands in the table of what would go where."""
    _, _, planned = page.read_text(encoding="utf-8").partition("## Where what comes next")
    return f"`{file}`" in planned


def definitions(path: Path) -> set[str]:
    """Return the functions and classes of a file, members as ``Class.member``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return set(_definitions(tree.body, ""))


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ImportFrom):
            yield from (prefix + (alias.asname or alias.name) for alias in node.names)
