"""What all fault models have in common."""

from __future__ import annotations

import pickle
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import pytest

from lab.faults.models import fault_models
from lab.faults.parameter import parameters_of

if TYPE_CHECKING:
    from lab.faults.fault import Fault

MODELS = fault_models()


@pytest.mark.parametrize("name", MODELS)
def test_model_is_a_frozen_dataclass_whose_fields_are_all_parameters(name: str) -> None:
    model = MODELS[name]
    assert model.name == name
    assert is_dataclass(model)
    assert {field.name for field in fields(model)} == set(parameters_of(model))


def example(model: type[Fault]) -> Fault:
    """Return a fault with the first value that each parameter allows."""
    known = {
        "register": "x3",
        "address": 0x1000,
        "space": "pa",
        "operation": "TLBI",
        "step": "mark-page-dirty",
    }
    if model.__name__.startswith("System"):
        known["register"] = "VTTBR_EL2"
    values = {}
    for name, parameter in parameters_of(model).items():
        if name in known:
            values[name] = known[name]
        elif parameter.choices:
            values[name] = parameter.choices[0]
        elif parameter.minimum is not None:
            values[name] = max(parameter.minimum, 0)
    values.pop("width", None)
    values.pop("size", None)
    return model(**values)


@pytest.mark.parametrize("name", MODELS)
def test_fault_survives_pickling_and_cannot_be_changed(name: str) -> None:
    fault = example(MODELS[name])
    assert pickle.loads(pickle.dumps(fault)) == fault  # noqa: S301  # our own
    with pytest.raises(AttributeError):
        fault.other = 1  # type: ignore[attr-defined]
