"""The examples in the documentation do what they show.

Three kinds of fenced blocks are run; everything else is only shown:

- ``python`` blocks that begin with ``>>>``: all of a page as one session, output as for doctest;
- ``python`` blocks directly followed by a ``text`` block: as a program, which prints that text;
- ``console`` blocks: each line after ``$`` is run, in an empty folder of the block's own.

``...`` in an output stands for any text, over several lines, too. A line
``<!-- not run -->`` before a block exempts it. Times of the host are not compared, and paths
are taken relative to the project.

Commands that README.md names as what shows a feature must succeed.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.docs.pages import NOT_RUN, PAGES, ROOT, Block, blocks

if TYPE_CHECKING:
    from pathlib import Path

TOOLS: Final = ("cat", "cmp", "head", "tail", "wc")
"""What a console block may run beside ``stage2``, ``python`` and ``echo $?``."""

TIME_LIMIT: Final = 120

_PROMPT = "$ "
_INLINE = re.compile(r"`stage2 ([a-z][^`]*)`")
_HOST_TIME = re.compile(r"\d+\.\d+ s \([\d.,]+ MIPS\)")

BLOCKS = [block for page in PAGES for block in blocks(page) if not block.exempt]
SESSIONS = {
    page: [block for block in BLOCKS if block.page == page and block.is_session] for page in PAGES
}


def label(value: object) -> str:
    """Return a readable test id."""
    return value.where if isinstance(value, Block) else str(value)


def comparable(text: str) -> str:
    """Return output without what differs between equal runs: host times, this folder's path."""
    text = _HOST_TIME.sub("# s (# MIPS)", text.replace(f"{ROOT}/", ""))
    return "".join(line.rstrip() + "\n" for line in text.rstrip().splitlines())


def difference(shown: str, printed: str) -> str:
    """Return how ``printed`` differs from what the page shows; empty if it does not."""
    want, got = comparable(shown), comparable(printed)
    if doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS):
        return ""
    return "\n".join(difflib.unified_diff(want.splitlines(), got.splitlines(), "page", "printed"))


@pytest.mark.parametrize(
    "page",
    [page for page, sessions in SESSIONS.items() if sessions],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_python_session_gives_what_the_page_shows(page: Path) -> None:
    # Blank lines keep the line numbers of the page.
    text: list[str] = []
    for block in SESSIONS[page]:
        text += [""] * (block.line - 1 - len(text)) + block.text.splitlines()
    name = str(page.relative_to(ROOT))
    test = doctest.DocTestParser().get_doctest("\n".join(text), {}, name, str(page), 0)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.FAIL_FAST)
    failed, _ = runner.run(test, out=report.write)
    assert not failed, report.getvalue()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.is_program], ids=label)
def test_python_program_prints_the_text_below_it(block: Block) -> None:
    printed = io.StringIO()
    program = compile(block.text, str(block.page), "exec")
    scope: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(printed):
        exec(program, scope)  # noqa: S102  # the documentation's own code
    assert block.output is not None
    assert not (different := difference(block.output, printed.getvalue())), different


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "console"], ids=label)
def test_console_session_prints_what_the_page_shows(block: Block, tmp_path: Path) -> None:
    steps = commands(block)
    assert steps, f"{block.where}: a console block has lines that begin with {_PROMPT!r}"
    status = 0
    for command, shown in steps:
        if command == "echo $?":
            printed = f"{status}\n"
        else:
            status, printed = execute(arguments(command, block), tmp_path)
        different = difference(shown, printed)
        assert not different, f"{block.where}: {command}\n{different}"


@pytest.mark.parametrize(
    "command", dict.fromkeys(_INLINE.findall((ROOT / "README.md").read_text(encoding="utf-8")))
)
def test_command_that_shows_a_feature_succeeds(command: str, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # files that rows name; what is written goes
    status, printed = execute([sys.executable, "-m", "lab.cli", *shlex.split(command)], tmp_path)
    assert status == 0, printed


def commands(block: Block) -> list[tuple[str, str]]:
    """Return each command of a console block with the output that follows it."""
    steps: list[tuple[str, str]] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith(_PROMPT):
            steps.append((line.removeprefix(_PROMPT).strip(), ""))
        elif steps:
            command, shown = steps[-1]
            if command.endswith("\\"):
                steps[-1] = (f"{command[:-1]} {line.strip()}", shown)
            else:
                steps[-1] = (command, shown + line)
    return steps


def arguments(command: str, block: Block) -> list[str]:
    """Return the program to start for a command, and its arguments."""
    name, *rest = shlex.split(command, comments=True)
    if name == "stage2":
        return [sys.executable, "-m", "lab.cli", *rest]
    if name == "python":
        return [sys.executable, *rest]
    found = shutil.which(name) if name in TOOLS else None
    assert found is not None, (
        f"{block.where}: {name!r} is not run; use stage2, python, {', '.join(TOOLS)}, "
        f"or put {NOT_RUN} before the block"
    )
    return [found, *rest]


def execute(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in ``folder``; return its status and what a terminal would show."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "COLUMNS": "80",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIME_LIMIT,
    )
    return done.returncode, done.stdout
