"""The house has layers, and imports run one way: lab -> hyp -> emu.

All modules are parsed, none is imported. A violation is reported as ``file:line: rule``.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("emu", "hyp", "lab", "firmware", "guests")


class Rule(NamedTuple):
    """What the modules of one part of the house may import, beside the standard library."""

    where: str
    """A path; the longest one that matches a module decides."""
    may_import: frozenset[str]
    """Modules or packages, everything below them included."""
    why: str


LAB: Final = frozenset({"lab", "hyp", "emu", "guests", "firmware", "click", "rich", "elftools"})

RULES: Final = (
    Rule("emu", frozenset({"emu"}), "emu is the lowest layer: it knows neither hyp nor lab"),
    Rule(
        "emu/arch",
        frozenset({"emu.arch"}),
        "emu/arch is the architecture as data and pure functions, on the standard library alone",
    ),
    Rule(
        "emu/arch/a64/text.py",
        frozenset({"emu.arch", "capstone"}),
        "emu/arch/a64/text.py is the only one of emu/arch to use a disassembler, if there is one",
    ),
    Rule(
        "emu/memory.py",
        frozenset({"emu.arch", "emu.images"}),
        "physical memory knows addresses and nothing of translation",
    ),
    Rule(
        "emu/mmu",
        frozenset({"emu.arch", "emu.memory", "emu.mmu"}),
        "the MMU translates for any engine: it knows neither emu.cpu nor a hypervisor",
    ),
    Rule(
        "emu/units",
        frozenset({"emu.arch", "emu.memory", "emu.mmu", "emu.units"}),
        "units stand beside the core and do not look into it",
    ),
    Rule(
        "emu/cpu",
        frozenset({"emu", "unicorn"}),
        "emu/cpu is the only place that knows the execution engine, and no higher layer",
    ),
    Rule(
        "hyp",
        frozenset({"hyp", "numpy", "emu.arch", "emu.memory", "emu.machine", "emu.cpu.pe"}),
        "hyp touches the machine only as EL2 software could: memory, registers, a PE",
    ),
    Rule(
        "hyp/__init__.py",
        frozenset({"emu"}),
        "importing hyp finds its compiled modules as importing emu does",
    ),
    Rule(
        "lab/compiled/generate.py",
        frozenset({"mypyc"}),
        "a program of its own, which runs the compiler from Python to C",
    ),
    Rule(
        "lab",
        LAB,
        "lab uses the layers below it and its own dependencies, never the engine",
    ),
    Rule(
        "lab/campaign",
        LAB | {"distributed", "jinja2", "pyarrow"},
        "lab/campaign uses what the extra 'campaign' installs, beside what lab may",
    ),
    Rule(
        "firmware",
        frozenset({"firmware", "guests", "click"}),
        "firmware is built without the machine it runs on",
    ),
    Rule(
        "guests",
        frozenset({"guests", "firmware"}),
        "guests are built and listed without the machine they run on",
    ),
)


class Import(NamedTuple):
    """One imported module and where."""

    line: int
    module: str


def imports(source: str, path: str) -> Iterator[Import]:
    """Yield every import of a module, wherever it stands; of ``from a import b``, ``a.b`` too."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                package = Path(path).parts[: -node.level]
                module = ".".join((*package, *([node.module] if node.module else [])))
            else:
                module = node.module or ""
            for alias in node.names:
                yield Import(node.lineno, f"{module}.{alias.name}")


def rule_for(path: str) -> Rule:
    """Return the rule for a module: the one for the longest path that contains it."""
    parts = Path(path).parts
    fitting = [
        rule for rule in RULES if parts[: len(Path(rule.where).parts)] == Path(rule.where).parts
    ]
    return max(fitting, key=lambda rule: len(rule.where))


def is_allowed(module: str, rule: Rule) -> bool:
    """Whether a rule lets a module be imported."""
    if module.split(".", maxsplit=1)[0] in sys.stdlib_module_names:
        return True
    return any(f"{module}.".startswith(f"{allowed}.") for allowed in rule.may_import)


def violations(source: str, path: str) -> list[str]:
    """Return the imports of one module that break its rule, as ``file:line: rule``."""
    rule = rule_for(path)
    return [
        f"{path}:{found.line}: imports {found.module}, but {rule.why}"
        for found in imports(source, path)
        if not is_allowed(found.module, rule)
    ]


def modules() -> list[str]:
    """Return all modules of the project, by path from its root."""
    return sorted(
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )


def report(found: list[str]) -> str:
    """Return violations as a message, one a line."""
    return "\n".join(["", *found])


def test_imports_keep_to_the_layers() -> None:
    found = [v for path in modules() for v in violations((ROOT / path).read_text(), path)]
    assert not found, report(found)


def test_every_module_says_what_it_is() -> None:
    found = [
        f"{path}:1: has no docstring, but every module begins with one"
        for path in modules()
        if not ast.get_docstring(ast.parse((ROOT / path).read_text(), path))
    ]
    assert not found, report(found)


def test_all_packages_are_looked_at() -> None:
    seen = modules()
    for package in PACKAGES:
        assert f"{package}/__init__.py" in seen
    assert len(seen) > 100


# The checks themselves


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("emu/mmu/tlb.py", "import hyp.vm"),
        ("emu/mmu/tlb.py", "from emu.cpu import pe"),
        ("emu/cpu/pe.py", "from lab import cli"),
        ("emu/arch/fields.py", "from emu.memory import PhysicalMemory"),
        ("emu/arch/fields.py", "import capstone"),
        ("emu/machine.py", "import unicorn"),
        ("emu/memory.py", "from emu.mmu import walk"),
        ("emu/units/timer.py", "import emu.cpu.pe"),
        ("hyp/vm.py", "from emu.mmu.mmu import Mmu"),
        ("hyp/vm.py", "import emu.cpu.engine"),
        ("hyp/vm.py", "from emu.cpu import pe, engine"),
        ("hyp/vm.py", "import unicorn"),
        ("hyp/devices/pl011.py", "from ... import lab"),
        ("hyp/devices/pl011.py", "import rich"),
        ("lab/cli.py", "import unicorn"),
        ("lab/cli.py", "import numpy"),
        ("lab/cli.py", "import jinja2"),
        ("guests/catalogue.py", "from lab import loader"),
        ("firmware/build.py", "import emu"),
    ],
)
@pytest.mark.parametrize(
    "place", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}", "try:\n    {}\nfinally: pass"]
)
def test_import_against_the_layers_is_reported_with_file_line_and_rule(
    path: str, source: str, place: str
) -> None:
    (found,) = violations(f"import ast\n\n{place.format(source)}\n", path)
    line = 3 + place.partition("{}")[0].count("\n")
    assert found.startswith(f"{path}:{line}: imports ")
    assert found.endswith(rule_for(path).why)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("emu/mmu/tlb.py", "import mmap, ctypes.util"),
        ("emu/cpu/pe.py", "from unicorn.unicorn_py3.unicorn import Uc"),
        ("emu/cpu/pe.py", "from emu.mmu import mmu"),
        ("emu/arch/a64/text.py", "import capstone"),
        ("hyp/vm.py", "from emu.cpu.pe import EL2Entry"),
        ("hyp/vm.py", "from emu import arch, memory, machine"),
        ("hyp/dirty.py", "import numpy as np"),
        ("hyp/devices/pl011.py", "from . import device"),
        ("lab/campaign/parquet.py", "import pyarrow.parquet, elftools"),
        ("lab/cli.py", "import click, rich.console, hyp.vm, emu.machine, guests"),
    ],
)
def test_import_with_the_layers_is_allowed(path: str, source: str) -> None:
    assert violations(source, path) == []
