"""What ARCHITECTURE.md says about the code: the layers, and the names it mentions."""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAY_IMPORT: Final = {
    "emu/arch/": {"emu.arch"},
    "emu/arch/a64/text.py": {"emu.arch", "capstone"},
    "emu/cpu/": {"emu", "unicorn"},
    "emu/": {"emu"},
    "hyp/": {"hyp", "emu"},
    "lab/": {"lab", "hyp", "emu", "guests", "firmware", "click", "elftools", "rich"},
    "guests/": {"guests"},
    "firmware/": {"firmware", "guests", "click"},
}
"""Beside the standard library, by folder or file; the longest that fits decides."""

NOT_FOR_EL2: Final = ("emu.mmu", "emu.units", "emu.cpu.engine", "emu.cpu.registers")
"""Parts of the machine that EL2 software cannot see."""

PARTS_OF_A_PE: Final = {"mmu", "engine", "registers", "code"}

PLACE: Final = re.compile(r"`((?:\w+/)*\w+\.py)(?::([\w.]+))?`")
"""A file, or a name in it: `emu/mmu/mmu.py:Mmu.walk`."""

SOURCES: Final = [
    path
    for folder in ("emu", "hyp", "lab", "guests", "firmware")
    for path in (ROOT / folder).rglob("*.py")
]


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    name = name_of(path)
    folder = max((f for f in MAY_IMPORT if name.startswith(f)), key=len)
    for module in imports(path):
        standard = module.partition(".")[0] in sys.stdlib_module_names
        allowed = standard or any(within(module, package) for package in MAY_IMPORT[folder])
        assert allowed, f"{name} imports {module}, which {folder} may not"


@pytest.mark.parametrize("path", sorted((ROOT / "hyp").rglob("*.py")), ids=name_of)
def test_the_hypervisor_sees_of_the_machine_what_el2_sees(path: Path) -> None:
    for module in imports(path):
        hidden = [package for package in NOT_FOR_EL2 if within(module, package)]
        assert not hidden, f"{name_of(path)} imports {module}, which EL2 software cannot see"


@pytest.mark.parametrize("path", sorted((ROOT / "hyp").rglob("*.py")), ids=name_of)
def test_the_hypervisor_does_not_look_inside_a_pe(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in PARTS_OF_A_PE:
            owner = ast.unparse(node.value)
            assert owner.split(".")[-1] != "pe", f"{name_of(path)} uses {owner}.{node.attr}"


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 100
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
