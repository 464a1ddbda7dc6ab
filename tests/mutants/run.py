"""Run tests on a copy of the tree that has one mutant in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.mutants.table import Mutant, TableError, mutated

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("pyproject.toml", "emu", "hyp", "lab", "guests", "firmware", "bench", "tests")
REST: Final = ("tests/emu", "tests/conformance")
"""Where a mutant that its own tests let pass is looked for."""
LIMIT: Final = 300
"""Seconds for one run of pytest: a mutant that hangs is noticed, too."""


class Verdict(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    killer: str | None
    """The test that failed; None if all passed."""
    seconds: float

    @property
    def expected(self) -> bool:
        """Whether a test failed that the table names."""
        return self.killer is not None and self.killer.startswith(tuple(self.mutant.noticed_by))


def copy_tree(into: Path, root: Path = ROOT) -> Path:
    """Copy what tests need; compiled files come along, they keep their validity."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, into / name)
        elif source.exists():
            shutil.copy2(source, into / name)
    return into


def apply(mutant: Mutant, tree: Path) -> None:
    """Put a mutant into a tree."""
    file = tree / mutant.file
    file.write_text(mutated(mutant, file.read_text()))
    # A compiled file is recognised by size and seconds, which may both be equal here.
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
        compiled.unlink()


def first_failure(tree: Path, tests: Sequence[str]) -> str | None:
    """Run tests in a tree; return the first that fails, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE"]
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *tests],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree), "STAGE2_HYPOTHESIS": "unshrunk"},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{tests[0]}: not done after {LIMIT} s"
    if done.returncode == 0:
        return None
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" - ")[0].split(maxsplit=1)[1]
    raise TableError(f"pytest {' '.join(tests)}: {(done.stderr or done.stdout).strip()[-300:]}")


def try_mutant(mutant: Mutant, root: Path = ROOT, rest: Sequence[str] = REST) -> Verdict:
    """Return what the tests say of a mutant: those that must notice it, then the others."""
    start = time.monotonic()
    with TemporaryDirectory(prefix="mutant-") as folder:
        tree = copy_tree(Path(folder), root)
        apply(mutant, tree)
        killer = first_failure(tree, mutant.noticed_by)
        if killer is None and rest:
            killer = first_failure(tree, rest)
    return Verdict(mutant, killer, time.monotonic() - start)


def check_without(mutants: Sequence[Mutant], root: Path = ROOT) -> None:
    """Run the tests that mutants name on a plain copy.

    Raises
    ------
    TableError
        If one fails: it could not tell a mutant then. Or if the copy is not what is imported.
    """
    tests = sorted({test for mutant in mutants for test in mutant.noticed_by})
    with TemporaryDirectory(prefix="mutant-") as folder:
        tree = copy_tree(Path(folder), root)
        env = os.environ | {"PYTHONPATH": str(tree)}
        code = "import emu.machine; print(emu.machine.__file__)"
        shown = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tree, env=env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        if not shown.stdout.startswith(str(tree)):
            raise TableError(f"the tests import {shown.stdout.strip()}, not the copy in {tree}")
        failure = first_failure(tree, tests)
    if failure is not None:
        raise TableError(f"{failure} fails without any mutant; mend it first")
