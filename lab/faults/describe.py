"""Fault models and triggers in words, from their declarations."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields

from lab.faults.parameter import parameters_of


def describe(kind: type) -> str:
    """Return what a model or trigger does, and a list of its parameters, as Markdown."""
    defaults = {field.name: field.default for field in fields(kind)}
    lines = [inspect.getdoc(kind) or "", ""]
    for name, known in parameters_of(kind).items():
        facts = [known.expected] if known.expected else []
        default = defaults[name]
        if default is not MISSING and default not in (None, ""):
            facts.append(f"{default} unless given")
        elif default is not MISSING:
            facts.append("may be left out")
        range_ = f" ({'; '.join(facts)})" if facts else ""
        lines.append(f"- `{name}`{range_}: {known.text}")
    return "\n".join(lines)
