"""Faults that change nothing, and runs that show whether anything did."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from guests.catalogue import GUESTS
from lab.config import RunConfig
from lab.faults.fault import Fault, Injection, Status
from lab.faults.injector import Injector
from lab.faults.planned import FaultRecord, PlannedFault
from lab.loader import load
from lab.trace import TextTrace
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.result import RunResult

    Options = Mapping[str, int]

    from lab.faults.target import Target
    from lab.faults.trigger import Trigger
    from lab.loader import Image

SMP: Final[Options] = {"smp": 4, "seed": 7, "quantum": 3}


@dataclass(frozen=True, slots=True)
class Nothing(Fault):
    """Changes nothing, and notes when and where it was injected."""

    seen: list[tuple[int, int, int]] = field(default_factory=list)
    """Instructions retired, PC and vCPU."""
    stays: bool = False

    def inject(self, target: Target) -> Injection:
        """Change nothing."""

        def note() -> None:
            self.seen.append((target.vm.machine.clock.retired, target.vcpu.pc, target.vcpu.index))

        note()
        return Injection(Status.INJECTED, "nothing", note if self.stays else None)


class Observed(NamedTuple):
    """All that a run shows of itself."""

    trace: str
    result: RunResult
    counts: tuple[tuple[int, ...], ...]
    """Instructions retired, TLB hits and misses and TLBIs of each PE."""
    registers: tuple[tuple[int, ...], ...]


@cache
def image(guest: str) -> Image:
    """Return a bundled guest."""
    return load(GUESTS / "elf" / f"{guest}.elf", RunConfig().memory)


def machine(guest: str, options: Options = MappingProxyType({})) -> Vmm:
    """Return a bundled guest's machine before its run."""
    return Vmm(RunConfig(memory_size=64 << 20, **options), image(guest))  # type: ignore[arg-type]  # numbers only


def observe(
    guest: str,
    faults: Sequence[PlannedFault] = (),
    options: Options = MappingProxyType({}),
    *,
    armed: bool = True,
) -> tuple[Observed, tuple[FaultRecord, ...]]:
    """Run a bundled guest to its end, with everything traced."""
    stream = io.StringIO()
    vmm = machine(guest, options)
    trace = TextTrace(stream)
    vmm.vm.events.subscribe(trace)
    vmm.trace_mmu([trace])
    vmm.trace_tlb([trace])
    injector = Injector(vmm.vm, faults)
    if armed:
        injector.arm()
    result = vmm.run(guest)
    records = injector.records
    injector.disarm()
    pes = vmm.machine.pes
    return Observed(
        stream.getvalue(),
        replace(result, host_seconds=0),
        tuple((pe.retired, pe.mmu.hits, pe.mmu.misses, pe.tlbi_count) for pe in pes),
        tuple(tuple(pe.read_all_x()) for pe in pes),
    ), records


def once(
    trigger: Trigger, guest: str, options: Options = MappingProxyType({})
) -> tuple[int, int, int] | None:
    """Return when, where and on which vCPU a trigger comes; None if it does not."""
    fault = Nothing()
    observe(guest, [PlannedFault(trigger, fault)], options)
    assert len(fault.seen) <= 1, "a trigger comes once"
    return fault.seen[0] if fault.seen else None
