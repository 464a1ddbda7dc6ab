"""The fault models and triggers that campaigns can name, and what to say of other names."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING

from lab.errors import UserError
from lab.faults.fault import Fault
from lab.faults.parameter import parameters_of
from lab.faults.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Iterable


def near(name: str, names: Iterable[str]) -> str:
    """Return what to say of a name that there is not: the nearest ones, or a list of all."""
    known = sorted(names)
    found = difflib.get_close_matches(name, known, n=3)
    if found:
        return "did you mean " + " or ".join(map(repr, found)) + "?"
    if not known:
        return "there are none"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"there are {shown}"


@cache
def _load() -> None:
    """Import all models and triggers, which makes their names known."""
    from lab.faults import models, triggers  # noqa: PLC0415  # they take time

    for package in (models, triggers):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def model_called(name: str) -> type[Fault]:
    """Return the fault model with a name.

    Raises
    ------
    UserError
        If there is none; the text has similar names.
    """
    _load()
    if name not in Fault.models:
        raise UserError(f"no fault model is called {name!r}; {near(name, Fault.models)}")
    return Fault.models[name]


def trigger_called(name: str) -> type[Trigger]:
    """Return the trigger with a name.

    Raises
    ------
    UserError
        If there is none; the text has similar names.
    """
    _load()
    if name not in Trigger.kinds:
        raise UserError(f"no trigger is called {name!r}; {near(name, Trigger.kinds)}")
    return Trigger.kinds[name]


def check_names(kind: type, given: Iterable[str]) -> None:
    """Check that a model or trigger has the parameters that are given, and gets those it needs.

    Raises
    ------
    UserError
        For one that it has not, or that is missing.
    """
    known = parameters_of(kind)
    title = getattr(kind, "name", "") or kind.__name__
    names = list(given)
    for name in names:
        if name not in known:
            raise UserError(f"{title!r} has no parameter {name!r}; {near(name, known)}")
    for field in fields(kind):
        required = field.default is MISSING and field.default_factory is MISSING
        if field.name in known and required and field.name not in names:
            about = known[field.name]
            expected = f": {about.expected}" if about.expected else ""
            raise UserError(f"{title!r} needs {field.name}{expected} ({about.text})")
