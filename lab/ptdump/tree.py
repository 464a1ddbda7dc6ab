"""A dump as a tree of tables, their entries decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text
from rich.tree import Tree

from hyp.pte import GRANULE, pte_to_phys
from lab.ptdump.decode import Kind, attributes
from lab.ptdump.dump import Table
from lab.sizes import format_address, format_size

if TYPE_CHECKING:
    from lab.ptdump.decode import Attributes
    from lab.ptdump.dump import Dump, Run, SlotInfo

INNER: Final = "inner shareable"
"""What KVM gives every leaf; only others are worth a word."""

_STYLES: Final = {
    Kind.EMPTY: "dim",
    Kind.LOCKED: "red",
    Kind.ANNOTATED: "yellow",
    Kind.RESERVED: "red",
}


def tree(dump: Dump) -> Tree:
    """Return the tables as a tree; entries that are alike share a line."""
    root = Tree(Text("\n".join([header(dump), *map(_slot, dump.slots)]), "bold"))
    tables: dict[int, Tree] = {dump.start_level - 1: root}
    for node in dump.in_order():
        if isinstance(node, Table):
            tables[node.level] = tables[node.level - 1].add(_table(node))
        else:
            tables[node.level].add(_run(node, dump))
    return root


def header(dump: Dump) -> str:
    """Return one line about the whole."""
    ran = f"{dump.guest}, {dump.end}, {dump.instructions:,} instructions: " if dump.guest else ""
    return (
        f"{ran}ipa_range {dump.ipa_bits}, stage2_levels {dump.levels}, "
        f"{len(dump.tables)} table{'s'[: len(dump.tables) > 1]}"
    )


def _slot(slot: SlotInfo) -> str:
    parts = [f"slot {slot.id}: {format_address(slot.base)}, {format_size(slot.size)}"]
    if slot.read_only:
        parts.append("read-only")
    if slot.dirty is not None:
        parts.append(f"{format_size(sum(part.size for part in slot.dirty))} dirty")
    return ", ".join(parts)


def _table(table: Table) -> Text:
    return Text.assemble(
        f"L{table.level} table ",
        (f"at PA {format_address(table.pa)}", "cyan"),
        f" for {format_address(table.ipa)}",
    )


def _run(run: Run, dump: Dump) -> Text:
    found = attributes(run, fwb=dump.fwb)
    times = f"{run.length} x " if run.length > 1 else ""
    start = f"L{run.level} {format_address(run.ipa)}  {times}{format_size(GRANULE[run.level])} "
    if not run.valid:
        return Text(start + (found.annotation or found.kind.value), _STYLES[found.kind])
    text = Text(start + found.kind.value, _STYLES.get(found.kind, ""))
    text.append(f" -> {format_address(pte_to_phys(run.pte))}", "cyan")
    text.append(f"  {_fields(found)}{_dirty(run, dump)}")
    return text


def _fields(found: Attributes) -> str:
    parts = [found.prot, found.memory]
    if found.share != INNER:
        parts.append(found.share)
    if not found.af:
        parts.append("old")
    if found.sw:
        parts.append(f"sw {found.sw:#x}")
    return ", ".join(parts)


def _dirty(run: Run, dump: Dump) -> str:
    """Return how much of a run its slot's dirty log holds."""
    size = sum(
        max(min(run.end, part.ipa + part.size) - max(run.ipa, part.ipa), 0)
        for slot in dump.slots
        for part in slot.dirty or ()
    )
    return f", {format_size(size)} dirty" if size else ""
