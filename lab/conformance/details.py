"""A difference in words: what was recorded beside what the machine did, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.esr.explain import explain
from emu.arch.registers.exceptions import PAR_EL1, PAR_EL1_FAULT, PSTATE
from lab.conformance.cases import StepResult
from lab.conformance.compare import FINAL, Difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.arch.esr.explain import FieldRow
    from emu.arch.fields import Layout
    from lab.conformance.compare import Value
    from lab.conformance.run import CaseResult

NOTHING: Final = "-"
"""Shown for what is not there, or did not change."""

_NO_FIELD: Final = "bits of no field"
"""Names what is set in a register outside its fields."""

_STATE: Final = ("taken_to", "esr", "far", "hpfar", "elr", "spsr", "el1_vector", "imm", "via")
"""What is shown of a step that ended otherwise."""

_TITLES: Final = {
    "esr": "ESR_EL{}",
    "far": "FAR_EL{}",
    "elr": "ELR_EL{}",
    "spsr": "SPSR_EL{}",
    "hpfar": "HPFAR_EL2",
    "par": "PAR_EL1",
}


class Row(NamedTuple):
    """One line of a comparison."""

    name: str
    recorded: str
    here: str
    depth: int = 0
    """1 for a field of the register in the line above."""


def step_title(step: int) -> str:
    """Return what a step number stands for."""
    if step == FINAL:
        return "at the end"
    return f"step {step}" if step else "first run"


def rows(result: CaseResult) -> Iterator[tuple[int, Row]]:
    """Yield the lines that show the differences of a case, each with its step."""
    for difference in result.differences:
        level = _level(result, difference.step)
        for each in _with_state(result, difference):
            yield (
                difference.step,
                Row(
                    _title(each, level),
                    _text(each.field, each.recorded),
                    _text(each.field, each.here),
                ),
            )
            for row in field_rows(each):
                yield difference.step, row


def field_rows(difference: Difference) -> Iterator[Row]:
    """Yield the fields in which two values of a syndrome, PAR_EL1 or PSTATE differ.

    Of a syndrome that stands alone, the fields that are not zero.
    """
    recorded = _fields(difference.field, difference.recorded)
    here = _fields(difference.field, difference.here)
    if not (recorded and here) and difference.field != "esr":
        return
    absent = _Field(0, NOTHING)
    for name in {**recorded, **here}:
        one, other = recorded.get(name, absent), here.get(name, absent)
        if one.value != other.value or (one.value and one.text != other.text):
            yield Row(name, one.text, other.text, depth=1)


def _with_state(result: CaseResult, difference: Difference) -> Iterator[Difference]:
    """Yield a difference; if it is of the outcome, then also what came of the two steps."""
    yield difference
    if difference.field != "outcome":
        return
    blank = StepResult("")
    recorded, here = (
        steps[difference.step] if difference.step < len(steps) else blank
        for steps in (result.recorded, result.here)
    )
    for name in _STATE:
        one, other = getattr(recorded, name), getattr(here, name)
        if one != other:
            yield Difference(difference.step, name, "", one, other)


def _level(result: CaseResult, step: int) -> str:
    """Return the Exception level that took the exception, ``x`` if that differs."""
    levels = {
        steps[step].taken_to
        for steps in (result.recorded, result.here)
        if 0 <= step < len(steps) and steps[step].taken_to is not None
    }
    return str(levels.pop()) if len(levels) == 1 else "x"


def _title(difference: Difference, level: str) -> str:
    title = _TITLES.get(difference.field, difference.field).format(level)
    return f"{title} {difference.item}".rstrip()


def _text(field: str, value: Value) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    return f"EL{value}" if field == "taken_to" else f"{value:#x}"


class _Field(NamedTuple):
    """A field's value, and how it is shown."""

    value: int
    text: str


def _fields(register: str, value: Value) -> dict[str, _Field]:
    """Return the fields of a register value, by name and bits."""
    if not isinstance(value, int):
        return {}
    if register == "esr":
        leaves = [*_leaves(explain(value).registers[0].fields)]
        shown = {f"{row.name} {row.span}": _Field(row.value, _meaning(row)) for row in leaves}
        rest = value & ~sum(_mask(row) for row in leaves)
    else:
        layout = _layout(register, value)
        if layout is None:
            return {}
        shown = {
            f"{field.name} {field.span}": _Field(int(found), f"{int(found):#x}")
            for field, found in layout.describe()
        }
        rest = layout.unnamed
    return {**shown, _NO_FIELD: _Field(rest, f"{rest:#x}")}


def _layout(register: str, value: int) -> Layout | None:
    if register == "spsr":
        return PSTATE(value)
    if register == "par":
        return PAR_EL1_FAULT(value) if PAR_EL1(value).F else PAR_EL1(value)
    return None


def _leaves(fields: tuple[FieldRow, ...]) -> Iterator[FieldRow]:
    for row in fields:
        yield from _leaves(row.children) if row.children else (row,)


def _mask(row: FieldRow) -> int:
    return (2 << row.msb) - (1 << row.lsb)


def _meaning(row: FieldRow) -> str:
    value = f"{row.value:#x}" if row.msb != row.lsb else str(row.value)
    return f"{value} {row.meaning}".rstrip()
