from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import compiled
from bench.timing import FULL, QUICK, Scale
from lab.compiled import build
from lab.errors import UserError


def test_without_compiled_modules_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "existing", lambda: None)
    with pytest.raises(UserError, match="run stage2 compile"):
        compiled.measure(QUICK)


@pytest.mark.parametrize(("scale", "linux"), [(QUICK, False), (FULL, True)])
def test_each_row_stands_beside_the_same_as_python(
    monkeypatch: pytest.MonkeyPatch, scale: Scale, linux: bool
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> None:
        commands.append(command)
        row = {"name": "4 levels", "unit": "us", "value": 30 if env["STAGE2_PURE"] == "1" else 10}
        Path(command[-1]).write_text(json.dumps({"benchmarks": {"walk": [row]}}))

    monkeypatch.setattr(build, "existing", object)
    monkeypatch.setattr(subprocess, "run", run)
    (row,) = compiled.measure(scale)
    (reference,) = row.references
    assert (row.name, row.value) == ("walk: 4 levels", 10)
    assert (reference.name, reference.value) == ("as Python", 30)
    assert [("linux" in command) for command in commands] == [linux, linux]
