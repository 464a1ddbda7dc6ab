"""Show the explanation of an exception syndrome: for people, and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from emu.arch.esr.explain import Explanation, FieldRow, RegisterRows, explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

INDENT = "  "
_NUMBER = re.compile(r"0[xX][0-9a-fA-F](?:_?[0-9a-fA-F])*|0|[1-9](?:_?[0-9])*")
_BARE_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{3,}(?:_[0-9a-fA-F]+)*")
_LIMIT = 1 << 64

_LABEL = "bold"
_QUIET = "dim"
_WARNING = "yellow"


def parse_register_value(text: str) -> int:
    """Return the 64-bit register value that ``text`` stands for.

    Parameters
    ----------
    text : str
        A ``0x`` number, or a decimal one without leading zeros. ``_`` may separate
        digits.

    Raises
    ------
    ValueError
        If it is anything else, or does not fit 64 bits.
    """
    digits = text.strip()
    if _NUMBER.fullmatch(digits) is None:
        bare = _BARE_HEXADECIMAL.fullmatch(digits)
        hint = f"; did you mean 0x{digits}?" if bare else ""
        raise ValueError(f"a register value is a number such as 0x93830047, not {text!r}{hint}")
    value = int(digits, 0)
    if value >= _LIMIT:
        raise ValueError(f"a register value fits 64 bits (16 hexadecimal digits), {text} does not")
    return value


def render(esr: int, far: int | None, hpfar: int | None, console: Console) -> None:
    """Print the fields of ESR_EL2, and of FAR_EL2 and HPFAR_EL2 if given, then the sentence.

    Parameters
    ----------
    esr : int
        ESR_EL2.
    far, hpfar : int or None
        FAR_EL2 and HPFAR_EL2 after the same exception.
    console : rich.console.Console
        Where to print.

    Raises
    ------
    ValueError
        If a value does not fit 64 bits.
    """
    explanation = explain(esr, far, hpfar)
    name_width = _name_width(explanation)
    for register in explanation.registers:
        console.print(Rule(_title(register), style=_QUIET, align="left"))
        if not _is_one_number(register):
            console.print(_table(register, name_width), highlight=False)
        console.print()
    console.print(Text(explanation.sentence, style=_LABEL), highlight=False)
    for note in explanation.notes:
        console.print(_remark("note", note, _QUIET), highlight=False)
    for warning in explanation.warnings:
        console.print(_remark("warning", warning, _WARNING), highlight=False)


def as_json(esr: int, far: int | None, hpfar: int | None) -> dict[str, Any]:
    """Return the same as a dictionary that JSON can hold; numbers stay numbers.

    Raises
    ------
    ValueError
        If a value does not fit 64 bits.
    """
    explanation = explain(esr, far, hpfar)
    return {
        "sentence": explanation.sentence,
        "notes": list(explanation.notes),
        "warnings": list(explanation.warnings),
        "registers": [
            {
                "name": register.name,
                "value": register.value,
                "fields": [_field_json(row) for row in register.fields],
            }
            for register in explanation.registers
        ],
    }


def _field_json(row: FieldRow) -> dict[str, Any]:
    field: dict[str, Any] = {
        "name": row.name,
        "msb": row.msb,
        "lsb": row.lsb,
        "value": row.value,
        "meaning": row.meaning,
    }
    if row.children:
        field["fields"] = [_field_json(child) for child in row.children]
    return field


def _is_one_number(register: RegisterRows) -> bool:
    """Whether the register is a single field, so that its title says it all."""
    return len(register.fields) == 1 and not register.fields[0].children


def _title(register: RegisterRows) -> Text:
    return Text.assemble((register.name, _LABEL), f" 0x{register.value:019_x}")


def _table(register: RegisterRows, name_width: int) -> Table:
    """Return the fields of a register: nested ones indented, those that are zero quiet."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=name_width)
    table.add_column(no_wrap=True, min_width=len("[31:26]"), justify="right")
    table.add_column(no_wrap=True, min_width=len("0x000_0000"))
    table.add_column()
    for depth, row in _nested(register.fields):
        table.add_row(
            Text(INDENT * depth + row.name, style=_LABEL if row.value else ""),
            row.span,
            str(row.value) if row.msb == row.lsb else f"{row.value:#_x}",
            row.meaning,
            style=_QUIET if depth and not row.value else "",
        )
    return table


def _nested(rows: tuple[FieldRow, ...], depth: int = 0) -> Iterator[tuple[int, FieldRow]]:
    """Yield every row with its depth, parents first."""
    for row in rows:
        yield depth, row
        yield from _nested(row.children, depth + 1)


def _name_width(explanation: Explanation) -> int:
    """Return the width of the longest indented name, so that all tables have one shape."""
    return max(
        len(INDENT) * depth + len(row.name)
        for register in explanation.registers
        for depth, row in _nested(register.fields)
    )


def _remark(label: str, text: str, style: str) -> Table:
    """Return a labelled paragraph, with its further lines under its first."""
    remark = Table.grid(padding=(0, 1))
    remark.add_column(no_wrap=True, style=style)
    remark.add_column(style=style)
    remark.add_row(f"{label}:", text)
    return remark
