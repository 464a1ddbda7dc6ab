"""Maintenance instructions of EL1 and of EL2: TLBI, IC and DC (Arm ARM D7.5, D8.17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.arch.a64.maintenance import DC, IC
from emu.arch.a64.operations import Shareability
from emu.arch.address import PA, PAGE_SIZE
from emu.arch.registers.virtualization import HCR_EL2
from emu.mmu.tlbi import Invalidation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.a64.tlbi import TLBI
    from emu.arch.address import VA
    from emu.cpu.pe import ProcessingElement


@dataclass(slots=True)
class Disturbance:
    """What happens to some maintenance instructions of one PE. No PE has one by itself.

    Attributes
    ----------
    operations
        Their names.
    by_guest
        Whether the guest executes them, or EL2; None for both.
    before
        How many are still carried out as they should be.
    left
        How many are disturbed after those.
    times
        How often each of them is carried out: 0 or 2.
    """

    operations: frozenset[str]
    by_guest: bool | None
    before: int
    left: int
    times: int


def _times(pe: ProcessingElement, name: str, *, by_guest: bool) -> int:
    """Return how often an instruction is carried out: once, unless it is disturbed."""
    for disturbance in pe.disturbances:
        if name not in disturbance.operations:
            continue
        if disturbance.by_guest is not None and disturbance.by_guest != by_guest:
            continue
        if disturbance.before:
            disturbance.before -= 1
            continue
        disturbance.left -= 1
        if not disturbance.left:
            pe.disturbances.remove(disturbance)
        return disturbance.times
    return 1


def tlbi(
    pe: ProcessingElement,
    operation: TLBI,
    argument: int,
    pc: VA | None,
    *,
    engine_follows: bool,
) -> int:
    """Do what :meth:`emu.cpu.pe.ProcessingElement.tlbi` says."""
    pe.refresh()
    vmid, name = pe.mmu.regime.vmid, operation._name_  # of which Enum.name is a slow view
    removed = 0
    reached = _reached(pe, operation, by_guest=pc is not None)
    if pe.disturbances:
        reached = list(reached) * _times(pe, name, by_guest=pc is not None)
    for peer in reached:
        hits = peer.mmu.invalidate(operation, argument, vmid)
        if hits and not (engine_follows and peer is pe and peer.mmu.removed_only_named):
            peer.engine.flush_tlb()
        removed += hits
    pe.maintenance[name] += 1
    pe.tlbi_entries[name] += removed
    pe.tlbi_count += 1
    if not removed:
        pe.tlbi_without_hit += 1
    if pe.on_tlbi is not None:
        pe.on_tlbi(Invalidation(operation, argument, vmid, pc, len(reached), removed))
    return removed


def cache(pe: ProcessingElement, operation: DC | IC, pa: PA | None, *, by_guest: bool) -> None:
    """Carry out cache maintenance on a line of the page of ``pa``, or on everything.

    The data caches are coherent. Instruction cache operations have code that was executed before
    looked at again.
    """
    pe.maintenance[operation._name_] += 1  # of which Enum.name is a slow view
    times = _times(pe, operation.name, by_guest=by_guest) if pe.disturbances else 1
    if isinstance(operation, IC) and times:
        for peer in _reached(pe, operation, by_guest=by_guest):
            peer.changed_code.invalidate(pa)


def instruction_lines(pe: ProcessingElement, operation: IC, pa: PA, size: int, line: int) -> None:
    """Execute an instruction cache operation on each line of a range."""
    if pe.disturbances:  # one of them may be meant
        for address in range(pa & -line, pa + size, line):
            cache(pe, operation, PA(address), by_guest=False)
        return
    pe.maintenance[operation.name] += _lines(pa, size, line)
    for page in range(pa & -PAGE_SIZE, pa + size, PAGE_SIZE):
        start, end = max(page, pa), min(page + PAGE_SIZE, pa + size)
        for peer in _reached(pe, operation):
            peer.changed_code.invalidate(PA(start), end - start)


def data_lines(pe: ProcessingElement, operation: DC, pa: PA | None, size: int, line: int) -> None:
    """Execute a data cache operation on each line of a range: there is nothing to do but count."""
    lines = 1 if pa is None else _lines(pa, size, line)
    pe.maintenance[operation.name] += lines
    if pe.disturbances:
        for _ in range(lines):
            _times(pe, operation.name, by_guest=False)


def _reached(
    pe: ProcessingElement, operation: TLBI | IC, *, by_guest: bool = False
) -> Sequence[ProcessingElement]:
    """Return the PEs that a maintenance operation reaches; HCR_EL2.FB widens EL1's own."""
    if operation.shareability is not Shareability.NONE:
        return pe.peers
    forced = by_guest and pe.registers.el2(HCR_EL2) & HCR_EL2.FB.in_place
    return pe.peers if forced else (pe,)


def _lines(pa: PA, size: int, line: int) -> int:
    """Return how many cache lines of ``line`` bytes a range touches."""
    return (pa + size - 1) // line - pa // line + 1
