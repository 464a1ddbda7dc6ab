"""Counters of what the hypervisor did."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeVar

_Key = TypeVar("_Key")


class Resolution(StrEnum):
    """How a guest abort ended."""

    MAPPED = "mapped"
    RELAXED = "relaxed"
    RETRIED = "retried"
    ACCESS_FLAG = "access flag set"
    MMIO = "mmio"
    NISV = "nisv"
    SKIPPED = "skipped"
    INJECTED = "injected"
    SEA = "external abort"
    SIGNALLED = "signalled"
    BLOCKED = "blocked"
    FAILED = "failed"

    # As for any string. Enum's own hash is Python code, and each abort is counted by this.
    __hash__ = str.__hash__


class Tally(dict[_Key, int]):
    """Numbers of what was counted, 0 for what was not.

    Not a ``collections.Counter``: that stores by Python code, and much is counted for each exit.
    """

    __slots__ = ()

    def __missing__(self, key: _Key) -> int:
        return 0


@dataclass(slots=True)
class Stats:
    """The counters of one VM.

    Parameters
    ----------
    aborts
        Guest aborts by (exception class, fault status code, resolution); the
        status code holds the fault's type and level.
    pages_mapped
        Leaves installed, by size in bytes.
    table_pages
        Stage-2 table pages in use now.
    icache_invalidations
        Invalidations to the point of unification, by page or whole.
    dcache_cleans
        Cleans to the point of coherency of a new or removed mapping.
    tlb_flushes
        Flush sequences by name.
    exits
        Returns of ``VCPU.run`` by exit reason.
    traps
        Entries to EL2 by exception class.
    mmio_exit_kernel, mmio_exit_user
        MMIO accesses served by a device in process, or by user space.
    """

    NOT_COMPARED: ClassVar = frozenset(
        {
            "aborts",
            "dcache_cleans",
            "exits",
            "icache_invalidations",
            "mmio_exit_kernel",
            "mmio_exit_user",
            "pages_mapped",
            "table_pages",
            "tlb_flushes",
            "traps",
        }
    )

    aborts: Tally[tuple[int, int, Resolution]] = field(default_factory=Tally)
    pages_mapped: Tally[int] = field(default_factory=Tally)
    table_pages: int = 0
    icache_invalidations: int = 0
    dcache_cleans: int = 0
    tlb_flushes: Tally[str] = field(default_factory=Tally)
    exits: Tally[str] = field(default_factory=Tally)
    traps: Tally[int] = field(default_factory=Tally)
    mmio_exit_kernel: int = 0
    mmio_exit_user: int = 0
