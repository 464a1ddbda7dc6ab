"""The benchmarks by name, in the order in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import (
    compiled,
    compute,
    dirtylog,
    exits,
    fault,
    faults,
    ipi,
    kvm,
    linux,
    pgtable,
    recording,
    refill,
    startup,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rows import Row
    from bench.timing import Scale

BENCHMARKS: Final[dict[str, Callable[[Scale], list[Row]]]] = {
    "compute": compute.measure,
    "refill": refill.measure,
    "walk": walk.measure,
    "fault": fault.measure,
    "faults": faults.measure,
    "exits": exits.measure,
    "ipi": ipi.measure,
    "kvm": kvm.measure,
    "pgtable": pgtable.measure,
    "dirtylog": dirtylog.measure,
    "recording": recording.measure,
    "startup": startup.measure,
    "linux": linux.measure,
    "compiled": compiled.measure,
}
