"""A walk for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from emu.mmu.explain import Kind
from emu.mmu.fault import Fault
from emu.mmu.permissions import rights
from emu.mmu.reasons import WHO, access, reason
from lab.sizes import format_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from emu.mmu.explain import Lookup, Walk

_ADDRESSES: Final = frozenset({"OA", "NLTA"})
_FORM: Final = frozenset({"TYPE", "VALID"})
_STYLES: Final = {Kind.INVALID: "red", Kind.RESERVED: "red", Kind.ABSENT: "red"}
_COLUMNS: Final = ("walk", "descriptor at", "word", "kind", "output", "fields")
_WIDE: Final = 100
"""Columns of a terminal that has room for the output address, too."""
_DIGIT: Final = 9
_SPACE: Final = {1: "IPA", 2: "PA"}


def show(console: Console, walk: Walk) -> None:
    """Print every lookup of a walk, and why it ended as it did."""
    console.print(Text(f"{WHO[walk.privilege]}: {access(walk.need)} VA {_hex(walk.va)}", "bold"))
    lookups = list(_in_order(walk))
    if lookups:
        console.print(_table(lookups, with_output=console.width >= _WIDE))
    if not walk.regime.stage1.enabled:
        console.print("Stage 1 is off: the VA is the IPA.")
    if not walk.regime.stage2.enabled:
        console.print("Stage 2 is off: the IPA is the PA.")
    for update in walk.updates:
        console.print(
            f"Hardware would change the descriptor at PA {_hex(update.address)} "
            f"from {update.before:#018x} to {update.after:#018x}."
        )
    console.print()
    console.print(_verdict(walk))
    if walk.is_stale:
        assert walk.cached is not None
        console.print(
            Text(
                f"The TLB still says PA {_hex(walk.cached.page)}: "
                "the tables were changed without a TLBI.",
                "yellow",
            )
        )


def as_dict(walk: Walk) -> dict[str, Any]:
    """Return a walk as what JSON can hold; numbers stay numbers."""
    shown: dict[str, Any] = {
        "va": walk.va,
        "access": access(walk.need).split()[0],
        "privilege": WHO[walk.privilege],
        "stage1": [_lookup_dict(lookup) for lookup in walk.stage1],
        "ipa": walk.ipa,
        "stage2": [_lookup_dict(lookup) for lookup in walk.stage2],
        "updates": [update._asdict() for update in walk.updates],
        "pa": walk.pa,
        "reason": reason(walk),
        "tlb_is_stale": walk.is_stale,
    }
    if isinstance(walk.result, Fault):
        fault = walk.result
        shown["fault"] = {
            "stage": fault.stage,
            "level": fault.level,
            "type": fault.type.value,
            "status": int(fault.status),
            "s1ptw": fault.s1ptw,
        }
    return shown


def _verdict(walk: Walk) -> Text:
    result = walk.result
    if isinstance(result, Fault):
        walks = " on the stage 1 table walk" if result.s1ptw else ""
        level = "" if result.level is None else f" at level {result.level}"
        text = f"stage {result.stage} {result.type.value}{level}{walks}"
        return Text.assemble((f"{text}. ", "bold red"), _sentence(reason(walk)))
    memory = "Device" if result.is_device else "Normal"
    allowed_to = ", ".join(
        f"{who} {rights(allowed)}" for who, allowed in zip(WHO[:2], result.allowed[:2], strict=True)
    )
    pa = walk.pa
    assert pa is not None
    return Text.assemble((f"PA {_hex(pa)}", "bold green"), f", {memory} memory, {allowed_to}")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _table(lookups: list[tuple[int, Lookup]], *, with_output: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    shown = [heading for heading in _COLUMNS if with_output or heading != "output"]
    for heading in shown:
        table.add_column(heading, header_style="dim", no_wrap=heading != "fields")
    for depth, lookup in lookups:
        cells = _cells(depth, lookup)
        table.add_row(*(cells[heading] for heading in shown))
    return table


def _in_order(walk: Walk) -> Iterator[tuple[int, Lookup]]:
    """Yield the lookups as they happen, those of a walk's own accesses one step in."""
    for lookup in walk.stage1:
        for nested in lookup.nested:
            yield 1, nested
        yield 0, lookup
    for lookup in walk.stage2:
        yield 0, lookup


def _cells(depth: int, lookup: Lookup) -> dict[str, Text]:
    style = _STYLES.get(lookup.kind, "dim" if depth else "")
    cells = {
        "walk": f"{'  ' * depth}S{lookup.stage} L{lookup.level}",
        "descriptor at": f"{_SPACE[lookup.stage]} {_hex(lookup.address)}",
        "word": "" if lookup.word is None else f"{lookup.word:#018x}",
        "kind": lookup.kind.value,
        "output": "" if lookup.fields is None else _hex(lookup.output),
        "fields": " ".join(
            f"{name}={value:#x}" if value > _DIGIT else f"{name}={value}"
            for name, value in _fields(lookup)
            if name not in _ADDRESSES
        ),
    }
    return {heading: Text(cell, style) for heading, cell in cells.items()}


def _fields(lookup: Lookup) -> Iterator[tuple[str, int]]:
    """Yield the fields that say something: not the form, and what is not zero."""
    if lookup.fields is None:
        return
    for described, value in lookup.fields.describe():
        if value and described.name not in _FORM:
            yield described.name, int(value)


def _lookup_dict(lookup: Lookup) -> dict[str, Any]:
    return {
        "stage": lookup.stage,
        "level": lookup.level,
        "address": lookup.address,
        "word": lookup.word,
        "kind": lookup.kind.value,
        "output": lookup.output,
        "fields": dict(_fields(lookup)),
        "walk": [_lookup_dict(nested) for nested in lookup.nested],
    }


def _hex(address: int) -> str:
    return format_address(address)
