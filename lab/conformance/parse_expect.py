"""The recorded answers of a case, from JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lab.conformance import values
from lab.conformance.cases import VECTOR_BYTES, VECTORS, Expectation, Outcome, StepResult
from lab.conformance.values import MalformedCaseError, cell, items, number, record, shown, u64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.address import PA
    from lab.conformance.cases import Descriptor

SECOND_SEEN: Final = ("new", "old", "both", "neither")
"""Which tables a second access saw."""

_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
_NEEDED: Final = {
    Outcome.OK.value: (),
    Outcome.EXCEPTION.value: ("taken_to", "esr", "elr", "spsr"),
    Outcome.PAR.value: ("par",),
}
_RESULT: Final = (
    "kind",
    "taken_to",
    "esr",
    "far",
    "hpfar",
    "elr",
    "spsr",
    "el1_vector",
    "imm",
    "via",
    "par",
    "par_decoded",
    "gpr_changed",
    "q_changed",
)
_NUMBERS: Final = ("esr", "far", "hpfar", "elr", "spsr", "imm", "par")
_X: Final = re.compile(r"x(?:[12]?[0-9]|30)")
_Q: Final = re.compile(r"q(?:[12]?[0-9]|3[01])\[[01]\]")


def expectation(
    content: object, where: str, steps: int, descriptors: Sequence[Descriptor]
) -> Expectation:
    """Return the answer of some profiles.

    Parameters
    ----------
    content
        The JSON value.
    where
        Its place in the case, for errors.
    steps
        How many steps follow the first run.
    descriptors
        Those that the case lays out.

    Raises
    ------
    MalformedCaseError
        If it is none.
    """
    optional = ("descs_after", "mem_after", "second_seen")
    answer = record(content, where, ("profiles", "steps"), optional)
    profiles = items(answer["profiles"], f"{where}.profiles")
    results = items(answer["steps"], f"{where}.steps", steps + 1)
    after = items(answer.get("descs_after") or [], f"{where}.descs_after")
    memory = answer.get("mem_after")
    seen = answer.get("second_seen")
    return Expectation(
        profiles=frozenset(values.text(each, f"{where}.profiles") for each in profiles),
        steps=tuple(_result(each, f"{where}.steps[{i}]") for i, each in enumerate(results)),
        descriptors=dict(
            _changed_descriptor(each, f"{where}.descs_after[{i}]", descriptors)
            for i, each in enumerate(after)
        ),
        memory=None if memory is None else _memory(memory, f"{where}.mem_after"),
        second_seen=None
        if seen is None
        else values.choice(seen, f"{where}.second_seen", SECOND_SEEN),
    )


def _result(content: object, where: str) -> StepResult:
    result = record(content, where, ("outcome",), _RESULT)
    outcome = values.choice(result["outcome"], f"{where}.outcome", _OUTCOMES)
    for name in _NEEDED[outcome]:
        if result.get(name) is None:
            raise MalformedCaseError(f"{where} lacks the field {name!r} (outcome {outcome})")
    numbers: dict[str, Any] = {
        name: u64(result[name], f"{where}.{name}")
        for name in _NUMBERS
        if result.get(name) is not None
    }
    if result.get("taken_to") is not None:
        numbers["taken_to"] = number(result["taken_to"], f"{where}.taken_to", 1, 2)
    if result.get("el1_vector") is not None:
        numbers["el1_vector"] = _vector(result["el1_vector"], f"{where}.el1_vector")
    via = result.get("via")
    return StepResult(
        outcome,
        **numbers,
        via=None if via is None else values.text(via, f"{where}.via"),
        gpr_changed=_registers(result.get("gpr_changed"), f"{where}.gpr_changed", _X),
        # SIMD registers are recorded where some changed; elsewhere none did.
        q_changed=_registers(result.get("q_changed") or {}, f"{where}.q_changed", _Q)
        if result.get("gpr_changed") is not None
        else None,
    )


def _vector(value: object, where: str) -> int:
    """Return the offset of a vector, which is given itself or as the entry's index."""
    found = number(value, where, 0, VECTORS * VECTOR_BYTES - 1)
    return found * VECTOR_BYTES if found < VECTORS else found


def _registers(content: object, where: str, names: re.Pattern[str]) -> dict[str, int] | None:
    if content is None:
        return None
    if not isinstance(content, dict):
        raise MalformedCaseError(f"{where} is an object, not {shown(content)}")
    for name in content:
        if not names.fullmatch(name):
            raise MalformedCaseError(f"{where}: there is no register {shown(name)}")
    return {name: u64(value, f"{where}.{name}") for name, value in content.items()}


def _changed_descriptor(
    content: object, where: str, descriptors: Sequence[Descriptor]
) -> tuple[PA, int]:
    stage, level, index, address, value = items(content, where, 5)
    at = u64(address, where)
    for each in descriptors:
        if each[:3] == (stage, level, index) and at in (each.pa, each.address):
            return each.pa, u64(value, where)
    raise MalformedCaseError(
        f"{where}: the case has no descriptor {stage} L{level}[{index}] at {shown(address)}"
    )


def _memory(content: object, where: str) -> dict[PA, int]:
    changed = {}
    for i, each in enumerate(items(content, where)):
        pa, value = items(each, f"{where}[{i}]", 2)
        changed[cell(pa, f"{where}[{i}]")] = u64(value, f"{where}[{i}]")
    return changed
