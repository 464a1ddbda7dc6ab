"""What a run came to: facts to print, to compare, and to hand to other programs.

Everything but :attr:`RunResult.host_seconds` is the same in equal runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from emu import compiled
from emu.arch.address import IPA, PAGE_SIZE
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from hyp.dirty import dirty_pages
from lab.config import DEFAULT_GIC, DEFAULT_MEMORY, DEFAULT_QUANTUM
from lab.monitor import EndReason
from lab.sizes import format_size

if TYPE_CHECKING:
    from hyp.stats import Stats
    from lab.boot import Boot
    from lab.config import RunConfig
    from lab.crash import CrashReport
    from lab.dirtylog import Harvest
    from lab.monitor import End

EXIT_ABNORMAL = 3
EXIT_INTERRUPTED = 130
LARGEST_EXIT_CODE = 255


class AbortRow(NamedTuple):
    """Guest aborts of one kind that were resolved in one way."""

    kind: str
    fault: str
    level: int | None
    resolution: str
    times: int


@dataclass(frozen=True, slots=True)
class DirtyPages:
    """The dirty log of one slot: bit ``n`` of ``bitmap``, little-endian, is page ``n``."""

    slot: int
    base: IPA
    pages: int
    bitmap: bytes

    @property
    def count(self) -> int:
        """How many pages were written."""
        return int.from_bytes(self.bitmap, "little").bit_count()

    def marked(self) -> tuple[int, ...]:
        """Return the pages that were written, by their place in the slot."""
        return tuple(dirty_pages(self.bitmap))


class TlbCounts(NamedTuple):
    """Translations that the MMU was asked for: answered by the TLB, and by a walk.

    The execution engine keeps a TLB of its own in front of it, and asks only on a miss there.
    """

    hits: int
    misses: int
    invalidations: int = 0
    """TLBI instructions, of the guest and of the hypervisor."""
    without_hit: int = 0
    """Those that found nothing to remove."""


class MachineFacts(NamedTuple):
    """What the guest ran on, as far as ``stage2 run`` has options for it that it sees."""

    memory: int = DEFAULT_MEMORY
    """RAM in bytes."""
    cpus: int = 1
    gic: int = DEFAULT_GIC
    """The version; 0 for none."""
    initrd: int = 0
    """Bytes of the initial file system."""
    seed: int = 0
    kaslr: bool = False
    quantum: int = DEFAULT_QUANTUM
    virtio: tuple[str, ...] = ()
    """What is behind the virtio transports."""

    @classmethod
    def of(cls, config: RunConfig, boot: Boot) -> MachineFacts:
        """Return what a run has of a configuration."""
        return cls(
            memory=config.memory_size,
            cpus=config.smp,
            gic=config.gic,
            initrd=0 if boot.initrd is None else boot.initrd.size,
            seed=config.seed,
            kaslr=config.kaslr,
            quantum=config.quantum,
            virtio=config.virtio_devices,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The outcome of one run.

    Attributes
    ----------
    guest : str
        As the user named it.
    end : End
        Why the run is over.
    guest_code : int
        The exit code that the guest gave, 0 if it gave none.
    console : str
        What it printed.
    instructions : int
        Instructions retired.
    stats : Stats
        The hypervisor's counters.
    tlb : TlbCounts
        Of all PEs.
    dirty : tuple[DirtyPages, ...]
        One entry for each slot with a dirty log.
    harvest : Harvest or None
        The rounds in which the log was collected, if it was during the run.
    unclaimed : tuple[tuple[IPA, str, int], ...]
        MMIO without a device: page, ``read`` or ``write``, how often.
    nisv : int
        Accesses without valid syndrome that got an external abort from user space.
    virtio : tuple[str, ...]
        The virtio devices that wait for a reset, and why.
    machine : MachineFacts
        What it ran on.
    unmet : str
        What a script waited for in vain; empty if nothing.
    crash : CrashReport or None
        What is known of an abnormal end.
    host_seconds : float
        Time on the host's clock: the only thing here that differs between equal runs.
    """

    guest: str
    end: End
    guest_code: int
    console: str
    instructions: int
    stats: Stats
    tlb: TlbCounts
    dirty: tuple[DirtyPages, ...] = ()
    harvest: Harvest | None = None
    unclaimed: tuple[tuple[IPA, str, int], ...] = ()
    nisv: int = 0
    virtio: tuple[str, ...] = ()
    machine: MachineFacts = field(default_factory=MachineFacts)
    unmet: str = ""
    crash: CrashReport | None = None
    host_seconds: float = field(default=0.0, compare=False)

    @property
    def exit_code(self) -> int:
        """The status with which ``stage2 run`` ends."""
        if self.end.reason is EndReason.INTERRUPTED:
            return EXIT_INTERRUPTED
        lost = self.harvest is not None and self.harvest.lost
        if not self.end.reason.is_normal or lost or self.unmet:
            return EXIT_ABNORMAL
        return min(self.guest_code, LARGEST_EXIT_CODE)

    @property
    def what(self) -> str:
        """How the run ended, in one sentence."""
        return self.end.detail if self.crash is None else self.crash.what

    @property
    def mips(self) -> float:
        """Million instructions a second on this host."""
        return self.instructions / self.host_seconds / 1e6 if self.host_seconds else 0.0

    def aborts(self) -> list[AbortRow]:
        """Return the guest's aborts by kind, fault, level and resolution, in a fixed order."""
        rows = [
            AbortRow(_class_name(ec), *_fault_name(fsc), resolution.value, count)
            for (ec, fsc, resolution), count in self.stats.aborts.items()
        ]
        return sorted(rows, key=lambda row: (row.kind, row.fault, row.level or 0, row.resolution))

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as what JSON can hold; the host's time stands apart at the end."""
        stats = self.stats
        return {
            "guest": self.guest,
            "end": self.end.reason.name.lower(),
            "detail": self.end.detail,
            "exit_code": self.exit_code,
            "guest_code": self.guest_code,
            "machine": self.machine._asdict(),
            "console": self.console,
            "instructions": self.instructions,
            "aborts": [row._asdict() for row in self.aborts()],
            "pages_mapped": {format_size(s): n for s, n in sorted(stats.pages_mapped.items())},
            "table_pages": stats.table_pages,
            "dirty": [
                {
                    "slot": log.slot,
                    "base": log.base,
                    "pages": log.pages,
                    "dirty": [log.base + n * PAGE_SIZE for n in dirty_pages(log.bitmap)],
                }
                for log in self.dirty
            ],
            "harvest": None if self.harvest is None else _harvest(self.harvest),
            "tlb": self.tlb._asdict(),
            "maintenance": {
                "icache_invalidations": stats.icache_invalidations,
                "dcache_cleans": stats.dcache_cleans,
                "tlb_flushes": dict(sorted(stats.tlb_flushes.items())),
            },
            "traps": {trap_name(ec): n for ec, n in sorted(stats.traps.items())},
            "exits": dict(sorted(stats.exits.items())),
            "mmio": {
                "kernel": stats.mmio_exit_kernel,
                "user": stats.mmio_exit_user,
                "nisv": self.nisv,
                "unclaimed": [
                    {"page": page, "access": access, "count": count}
                    for page, access, count in self.unclaimed
                ],
            },
            "virtio": list(self.virtio),
            "unmet": self.unmet,
            "crash": None if self.crash is None else self.crash.as_dict(),
            "host": {
                "seconds": round(self.host_seconds, 6),
                "mips": round(self.mips, 3),
                "compiled": compiled.in_use() is not None,
            },
        }


def _harvest(harvest: Harvest) -> dict[str, Any]:
    return {
        "rounds": [entry._asdict() for entry in harvest.rounds],
        "copy_is_equal": not harvest.lost,
        "lost": list(harvest.lost),
    }


_ABORT_CLASSES = {
    ExceptionClass.IABT_LOW: "instruction abort",
    ExceptionClass.DABT_LOW: "data abort",
}


def _class_name(ec: int) -> str:
    return _ABORT_CLASSES.get(ExceptionClass(ec)) or trap_name(ec)


def trap_name(ec: int) -> str:
    """Return KVM's name of an exception class."""
    try:
        return ExceptionClass(ec).name
    except ValueError:
        return f"EC {ec:#x}"


def _fault_name(fsc: int) -> tuple[str, int | None]:
    try:
        code = FaultStatusCode(fsc)
    except ValueError:
        return f"FSC {fsc:#x}", None
    return code.fault.value.removesuffix(" fault"), code.level
