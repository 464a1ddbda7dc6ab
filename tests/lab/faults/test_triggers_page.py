"""docs/triggers.md lists the triggers that there are, as they declare themselves."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Final

from lab.faults import triggers
from lab.faults.parameter import parameters_of
from lab.faults.trigger import Trigger

PAGE: Final = Path(__file__).parents[3] / "docs" / "triggers.md"


def rows() -> list[str]:
    for module in pkgutil.iter_modules(triggers.__path__, f"{triggers.__name__}."):
        importlib.import_module(module.name)
    own = {
        name: kind
        for name, kind in Trigger.kinds.items()
        if kind.__module__.startswith(triggers.__name__)
    }
    return [row(name, kind) for name, kind in sorted(own.items())]


def row(name: str, kind: type[Trigger]) -> str:
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ").rstrip(".")
    parameters = []
    for parameter, known in sorted(parameters_of(kind).items()):
        expected = f" ({known.expected})" if known.expected else ""
        parameters.append(f"`{parameter}`: {known.text}{expected}")
    return f"| `{name}` | {summary} | {'; '.join(parameters)} |"


def test_the_table_of_triggers_is_what_they_declare() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## The triggers\n")[2]
    section = section.partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    assert table == rows()
