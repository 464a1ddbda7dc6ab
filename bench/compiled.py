"""The same figures once as Python and once with compiled modules (``stage2 compile``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.rows import Reference, Row, Unit
from bench.timing import QUICK
from emu import compiled
from lab.compiled import build
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.timing import Scale

NAMES: Final = ("refill", "fault", "exits", "ipi")
"""The benchmarks that are run both ways."""
LINUX: Final = "linux"
"""Another, which takes minutes."""
ROOT: Final = Path(__file__).resolve().parent.parent


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark.

    Raises
    ------
    UserError
        If nothing has been compiled.
    """
    if build.existing() is None:
        raise UserError("nothing has been compiled; run stage2 compile")
    names = (*NAMES, *(() if scale == QUICK else (LINUX,)))
    python, machine_code = (_figures(names, scale, pure=pure) for pure in (True, False))
    return [
        Row(name, value, Unit(unit), (Reference("as Python", python[name][0]),))
        for name, (value, unit) in machine_code.items()
    ]


def _figures(names: Sequence[str], scale: Scale, *, pure: bool) -> dict[str, tuple[float, str]]:
    """Return the figures of the benchmarks by name, each with its unit."""
    with tempfile.TemporaryDirectory(prefix="stage2-bench-") as place:
        output = Path(place) / "figures.json"
        quick = ("--quick",) if scale == QUICK else ()
        subprocess.run(  # noqa: S603  # this package
            [sys.executable, "-m", "bench", *names, *quick, "--json", str(output)],
            cwd=ROOT,
            env={**os.environ, compiled.PURE: "1" if pure else "0"},
            capture_output=True,
            check=True,
        )
        found: dict[str, list[dict[str, Any]]] = json.loads(output.read_text())["benchmarks"]
    return {
        f"{benchmark}: {row['name']}": (row["value"], row["unit"])
        for benchmark, rows in found.items()
        for row in rows
    }
