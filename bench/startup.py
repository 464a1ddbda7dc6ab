"""From the shell to a guest's greeting and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.rows import Reference, Row, Unit
from bench.timing import Spent, best_of

if TYPE_CHECKING:
    from bench.timing import Scale

LIMIT: Final = 0.5
ROOT: Final = Path(__file__).resolve().parent.parent
GREETING: Final = "PASS"


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    hello, floor = best_of(
        min(scale.rounds, 5),
        lambda: _run("-m", "lab.cli", "run", "hello", "--quiet", expected=GREETING),
        lambda: _run("-c", "import unicorn"),
    )
    return [
        Row(
            "stage2 run hello",
            hello,
            Unit.SECONDS,
            (Reference("python -c 'import unicorn'", floor),),
            LIMIT,
        )
    ]


def _run(*arguments: str, expected: str = "") -> float:
    """Run Python with some arguments; return the seconds of CPU from start to exit."""
    before = Spent.by_children()
    done = subprocess.run(  # noqa: S603  # this project's own command
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds = (Spent.by_children() - before).cpu
    if expected not in done.stdout:
        raise RuntimeError(f"{arguments} should have printed {expected!r}, not {done.stdout!r}")
    return seconds
