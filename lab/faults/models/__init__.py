"""What can go wrong: the fault models, one kind of place a file."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lab.faults.fault import Fault


def fault_models() -> dict[str, type[Fault]]:
    """Return all fault models by name."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(Fault.models.items()))
