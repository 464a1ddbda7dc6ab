"""Which modules are compiled: those in which a run spends its time."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from emu import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable

CHOSEN: Final = (
    "emu/memory.py",
    "emu/arch/bits.py",
    "emu/arch/exceptions.py",
    "emu/arch/granule.py",
    "emu/arch/a64/*",
    "emu/arch/esr/build.py",
    "emu/arch/esr/fsc.py",
    "emu/mmu/*",
    "emu/cpu/*",
    "emu/units/*",
    "hyp/aborts.py",
    "hyp/attributes.py",
    "hyp/context.py",
    "hyp/cpufeature.py",
    "hyp/debug.py",
    "hyp/descriptors.py",
    "hyp/dirty_log.py",
    "hyp/dirty_ring.py",
    "hyp/eager_split.py",
    "hyp/errors.py",
    "hyp/event_stream.py",
    "hyp/fault_info.py",
    "hyp/frames.py",
    "hyp/halt.py",
    "hyp/host/*",
    "hyp/hugepages.py",
    "hyp/hypercalls.py",
    "hyp/icache.py",
    "hyp/inject.py",
    "hyp/interrupts.py",
    "hyp/iobus.py",
    "hyp/kvm.py",
    "hyp/load.py",
    "hyp/mapping.py",
    "hyp/memcache.py",
    "hyp/memslots.py",
    "hyp/mmio.py",
    "hyp/percpu.py",
    "hyp/pgtable.py",
    "hyp/pmu.py",
    "hyp/pmu_regs.py",
    "hyp/profiles.py",
    "hyp/pvtime.py",
    "hyp/rcu.py",
    "hyp/reset.py",
    "hyp/set_pte.py",
    "hyp/smccc.py",
    "hyp/splitting.py",
    "hyp/stage2_mmu.py",
    "hyp/steps.py",
    "hyp/sysregs.py",
    "hyp/tablepages.py",
    "hyp/timer.py",
    "hyp/tlb.py",
    "hyp/traps.py",
    "hyp/unmapping.py",
    "hyp/user_mem_abort.py",
    "hyp/vcpu.py",
    "hyp/vcpu_run.py",
    "hyp/vgic/*",
    "hyp/vm.py",
    "hyp/vmid.py",
    "hyp/vtcr.py",
    "hyp/walker.py",
    "hyp/wrprotect.py",
    "hyp/devices/pl011.py",
)
"""Patterns of paths."""

LEFT_OUT: Final = {
    "*/__init__.py": "packages are found by their source",
    "emu/arch/a64/word.py": "a subclass of int, which a compiled class cannot be",
    "emu/arch/a64/tlbi_arguments.py": "as above",
    "emu/arch/a64/operations.py": "an enumeration's members cannot be of a compiled class",
    "emu/arch/a64/maintenance.py": "as above",
    "emu/arch/a64/tlbi.py": "as above",
    "emu/arch/a64/text.py": "for people",
    "emu/cpu/batch.py": "declares structures of ctypes",
    "emu/cpu/codefilter.py": "as above",
    "emu/cpu/sysfilter.py": "as above",
    "emu/cpu/hostcode.py": "runs once",
    "emu/cpu/internals.py": "runs once",
    "hyp/host/fork.py": "seldom used",
    "hyp/host/userfault.py": "seldom used",
    "hyp/host/notifiers.py": "seldom used",
    "hyp/vgic/addresses.py": "runs once",
    "hyp/vgic/attributes.py": "runs once",
    "hyp/vgic/ident.py": "runs once",
    "hyp/vgic/v2_*.py": "seldom used",
    "hyp/vgic/irq_line.py": "a subclass of int",
}
"""Patterns of paths again, each with the reason why those modules run from their source."""


def to_compile() -> list[str]:
    """Return the paths of the modules to compile."""
    return [path for path in compiled.sources() if _any(path, CHOSEN) and not _any(path, LEFT_OUT)]


def _any(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
