"""The summary after a run: for people, on stderr, at any width from 80 columns up."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from emu.arch.address import PAGE_SIZE
from hyp.dirty import dirty_pages
from lab.monitor import EndReason
from lab.result import MachineFacts, trap_name
from lab.sizes import format_address, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from lab.dirtylog import Harvest
    from lab.result import DirtyPages, RunResult

CLEAN = "·"
SHADES = "▁▂▃▄▅▆▇█"
"""A cell of the dirty map: clean, or by the part of its pages that is dirty."""

MAP_COLUMNS = (16, 32, 64)
MAP_ROWS = 8
"""The sizes of a dirty map: the narrowest that has a cell for each page, else the widest."""

ROUNDS = 10
"""Rounds of the dirty log whose pages are shown."""

WIDE = 120
"""From this width on, facts and aborts stand side by side."""

_LABEL = "bold"
_QUIET = "dim"
_GOOD, _BAD, _WARNING = "green", "bold red", "yellow"
_RESOLUTION_STYLES = {"injected": _WARNING, "external abort": _WARNING, "failed": _BAD}


def render(result: RunResult, width: int) -> Group:
    """Return the summary of ``result`` for a console ``width`` columns wide."""
    parts: list[RenderableType] = [Rule(_title(result), style=_QUIET, align="left")]
    if result.crash is not None:
        parts += [result.crash.render(), Text()]
    elif not result.end.reason.is_normal:
        parts.append(Text(result.end.detail))
    facts, aborts = _facts(result), _aborts(result)
    if not aborts.row_count:
        parts.append(facts)
    elif width >= WIDE:
        beside = Table.grid(padding=(0, 4))
        beside.add_row(facts, aborts)
        parts.append(beside)
    else:
        parts += [facts, Text(), aborts]
    for log in result.dirty:
        parts += [Text(), *_dirty_map(log)]
    return Group(*parts)


def print_summary(result: RunResult, console: Console) -> None:
    """Print the summary."""
    console.print(render(result, console.width), highlight=False)


def _title(result: RunResult) -> Text:
    reason = result.end.reason
    style = _BAD if not reason.is_normal else _GOOD if result.exit_code == 0 else _WARNING
    if reason is EndReason.INTERRUPTED:
        style = _WARNING
    return Text.assemble(
        (result.guest, _LABEL), " ", (reason.value, style), f", exit code {result.exit_code}"
    )


def _facts(result: RunResult) -> Table:
    """Return the facts that fit a line each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=_LABEL, no_wrap=True)
    table.add_column()
    for label, value in _fact_lines(result):
        table.add_row(label, value)
    return table


def _fact_lines(result: RunResult) -> Iterator[tuple[str, str]]:
    stats, tlb = result.stats, result.tlb
    if result.machine != MachineFacts(memory=result.machine.memory):
        yield "machine", _machine(result.machine)
    yield (
        "instructions",
        f"{result.instructions:,} in {result.host_seconds:.3f} s ({result.mips:.1f} MIPS)",
    )
    if stats.pages_mapped:
        sizes = sorted(stats.pages_mapped.items())
        mapped = ", ".join(f"{count:,} x {format_size(size)}" for size, count in sizes)
        yield "mapped", f"{mapped}; {stats.table_pages:,} table pages"
    if tlb.hits or tlb.misses:
        yield (
            "MMU",
            f"{tlb.hits + tlb.misses:,} translations: {tlb.hits:,} TLB hits, {tlb.misses:,} walks",
        )
    if tlb.invalidations:
        yield "TLBI", f"{tlb.invalidations:,}, of which {tlb.without_hit:,} hit 0 entries"
    if stats.tlb_flushes:
        yield "TLB flushes", _counts(stats.tlb_flushes)
    if stats.icache_invalidations or stats.dcache_cleans:
        yield (
            "caches",
            (
                f"{stats.icache_invalidations:,} icache invalidations, "
                f"{stats.dcache_cleans:,} dcache cleans"
            ),
        )
    if stats.traps:
        yield "traps", _counts({trap_name(ec): n for ec, n in stats.traps.items()})
    if stats.exits:
        yield "exits", _counts(stats.exits)
    if stats.mmio_exit_kernel or stats.mmio_exit_user:
        yield (
            "MMIO",
            f"{stats.mmio_exit_kernel:,} in the hypervisor, {stats.mmio_exit_user:,} in user space",
        )
    if result.harvest is not None:
        yield from _harvest(result.harvest)
    if result.nisv:
        yield "no syndrome", f"{result.nisv:,} answered with an external abort"
    if result.unmet:
        yield "script", result.unmet
    for failure in result.virtio:
        yield "virtio", failure
    for page, access, count in result.unclaimed:
        yield "unclaimed", f"{count:,} x {access} at {format_address(page)}"


def _machine(machine: MachineFacts) -> str:
    """Return what the guest ran on; shown only if something is not as usual."""
    parts = [
        f"{machine.cpus} CPU{'s' if machine.cpus > 1 else ''}",
        f"GICv{machine.gic}" if machine.gic else "no GIC",
        format_size(machine.memory),
    ]
    if machine.initrd:
        parts.append(f"initrd of {format_size(machine.initrd)}")
    usual = MachineFacts()
    if (machine.seed, machine.kaslr) != (usual.seed, usual.kaslr):
        parts.append(f"seed {machine.seed}{' with KASLR' if machine.kaslr else ''}")
    if machine.quantum != usual.quantum:
        parts.append(f"quantum {machine.quantum:,}")
    parts += [f"virtio {name}" for name in machine.virtio]
    return ", ".join(parts)


def _harvest(harvest: Harvest) -> Iterator[tuple[str, str]]:
    rounds = harvest.rounds
    pages = ", ".join(f"{entry.pages:,}" for entry in rounds[:ROUNDS])
    rest = ", ..." if len(rounds) > ROUNDS else ""
    yield "harvest", f"{len(rounds):,} rounds, pages: {pages}{rest}"
    if harvest.lost:
        first = format_address(harvest.lost[0])
        yield "copy", f"{len(harvest.lost):,} pages LOST, the first at {first}"
    else:
        yield "copy", "made by the log alone, equal to the guest's memory"


def _counts(counts: dict[str, int]) -> str:
    """Return the most frequent first; equal counts by name."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)


def _aborts(result: RunResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style=_LABEL, padding=(0, 2, 0, 0))
    table.add_column("stage-2 abort")
    table.add_column("fault")
    table.add_column("level", justify="right")
    table.add_column("resolution")
    table.add_column("count", justify="right")
    for row in result.aborts():
        table.add_row(
            row.kind,
            row.fault,
            "" if row.level is None else str(row.level),
            Text(row.resolution, style=_RESOLUTION_STYLES.get(row.resolution, "")),
            f"{row.times:,}",
        )
    return table


def _dirty_map(log: DirtyPages) -> Iterator[Text]:
    """Yield a map of a slot's dirty pages: rows of cells, each a power of two of pages."""
    columns = next((c for c in MAP_COLUMNS if log.pages <= c * MAP_ROWS), MAP_COLUMNS[-1])
    per_cell = 1
    while log.pages > per_cell * columns * MAP_ROWS:
        per_cell *= 2
    dirty = [0] * -(-log.pages // per_cell)
    for page in dirty_pages(log.bitmap):
        dirty[page // per_cell] += 1
    yield Text.assemble(
        (f"dirty pages of slot {log.slot}", _LABEL),
        f"  {log.count:,} of {log.pages:,}",
        (f", one cell is {format_size(per_cell * PAGE_SIZE)}", _QUIET),
    )
    for start in range(0, len(dirty), columns):
        row = Text(f"{format_address(log.base + start * per_cell * PAGE_SIZE)} ", style=_QUIET)
        cells = dirty[start : start + columns]
        for is_dirty, run in groupby(cells, bool):
            shades = "".join(_shade(count, per_cell) for count in run)
            row.append(shades, style=f"not dim {_WARNING}" if is_dirty else "")
        yield row


def _shade(count: int, pages: int) -> str:
    """Return the character for ``count`` dirty pages of ``pages``; one is enough to be seen."""
    return SHADES[-(-count * len(SHADES) // pages) - 1] if count else CLEAN
