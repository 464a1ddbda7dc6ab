"""Mappings made, updated under logging and joined again, as in the kernel's kvm_page_table_test.

Two vCPUs touch the same memory, one by writing and one by reading. Every fault is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from emu.arch.address import IPA
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K
from tests.hyp.selftests.guest import (
    BACKINGS,
    DATA,
    DATA_SLOT,
    LOG,
    NO_FLAGS,
    TOUCH,
    SelftestGuest,
    touch,
)

VALUE = 0x0123_4567_89AB_CDEF
MIB = 1 << 20


class Memory(NamedTuple):
    """What is touched."""

    backing: str
    size: int
    step: int = SIZE_4K
    """How far apart pages are read; every page of a gigabyte would take minutes."""


class Counts(NamedTuple):
    """Faults on the data by kind and status code, and leaves that were made by size."""

    faults: dict[tuple[str, int], int]
    leaves: dict[int, int]


class Stages(NamedTuple):
    """What each stage costs."""

    create: Counts
    update: Counts
    adjust: Counts


class Run:
    """Two vCPUs and the memory between them."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.backing = BACKINGS[memory.backing]
        total = 3 * SIZE_1G if memory.size == SIZE_1G else 40 * MIB
        self.guest = guest = SelftestGuest(memory=total, vcpus=2)
        guest.add_slot(DATA_SLOT, DATA, memory.size, backing=self.backing)
        guest.load(*TOUCH, blocks=range(DATA, DATA + memory.size, SIZE_2M))
        self.writer, self.reader = guest.vcpus
        self.mapped = Counter[int]()

    def counts(self) -> Counts:
        """Return what has happened since the last time."""
        faults = self.guest.faults()
        on_data = Counter((f.kind, f.fsc) for f in faults if f.where.startswith("data"))
        mapped = Counter(self.guest.vm.stats.pages_mapped)
        of_data = Counter(f.where.split()[0] for f in faults)
        leaves = mapped - self.mapped
        # Code and tables are small; each of their first touches makes one leaf.
        leaves[SIZE_4K] -= of_data["code"] + of_data["table"]
        self.mapped = mapped
        return Counts(dict(on_data), dict(+leaves))

    def create(self, *, reader_first: bool) -> None:
        """Touch the first word of every page that the memory comes by."""
        size, guest = self.backing.granule, self.guest
        count = self.memory.size // size
        if reader_first:
            touch(guest, self.reader, DATA, count, size)
        touch(guest, self.writer, DATA, count, size, write=VALUE)
        if not reader_first:
            touch(guest, self.reader, DATA, count, size)

    def update(self) -> None:
        """Write each small page, or the first of each large page and then read its later half."""
        for vcpu in self.guest.vcpus:
            size, step = self.backing.granule, self.memory.step
            for at in range(DATA, DATA + self.memory.size, max(size, MIB)):
                if size == SIZE_4K:
                    touch(self.guest, vcpu, at, MIB // SIZE_4K, write=VALUE)
                    continue
                touch(self.guest, vcpu, at, 1, write=VALUE)
                touch(self.guest, vcpu, at + size // 2, size // 2 // step, step)

    def adjust(self) -> None:
        """Read everything."""
        for vcpu in self.guest.vcpus:
            touch(self.guest, vcpu, DATA, self.memory.size // self.memory.step, self.memory.step)


def small_pages(kind: str) -> dict[tuple[str, int], int]:
    """Return the first touches of 2 MiB by small pages; the first one makes the tables."""
    return {(kind, 5): 1, (kind, 7): 511}


ZERO_PAGES = {("write", 15): 512, ("write", 7): 512}
"""Writes to pages of zeros: each is copied, which unmaps it, and faults again."""
SMALL = Stages(
    Counts(small_pages("write"), {SIZE_4K: 512}),
    Counts({("write", 15): 512}, {}),
    Counts({}, {}),
)
LARGE = Stages(
    Counts({("write", 5): 1, ("write", 6): 1}, {SIZE_2M: 2}),
    Counts({("write", 14): 2, ("read", 7): 512}, {SIZE_4K: 2 + 512}),
    Counts({("read", 7): 2}, {SIZE_2M: 2}),
)
GIGANTIC = Stages(
    Counts({("write", 5): 1}, {SIZE_1G: 1}),
    # Every second read is the first one in its 2 MiB, and makes a table.
    Counts({("write", 13): 1, ("read", 6): 256, ("read", 7): 256}, {SIZE_4K: 1 + 512}),
    Counts({("read", 7): 1}, {SIZE_1G: 1}),
)

TWO_READS = {("read", 5): 1, ("read", 6): 1}
CREATED_BY_A_READ = {
    "anonymous": Counts(small_pages("read") | ZERO_PAGES, {SIZE_4K: 2 * 512}),
    "shmem": Counts(small_pages("read"), {SIZE_4K: 512}),
    "anonymous_thp": Counts(
        TWO_READS | {("write", 14): 2, ("write", 6): 2}, {SIZE_2M: 4}
    ),  # a huge page of zeros
    "anonymous_hugetlb_2mb": Counts(TWO_READS | {("write", 14): 2}, {SIZE_2M: 2}),
    "shared_hugetlb_2mb": Counts(TWO_READS, {SIZE_2M: 2}),
    "anonymous_hugetlb_1gb": Counts({("read", 5): 1, ("write", 13): 1}, {SIZE_1G: 1}),
}
MEMORIES = (
    (Memory("anonymous", 2 * MIB), SMALL),
    (Memory("shmem", 2 * MIB), SMALL),
    (Memory("anonymous_thp", 4 * MIB), LARGE),
    (Memory("anonymous_hugetlb_2mb", 4 * MIB), LARGE),
    (Memory("shared_hugetlb_2mb", 4 * MIB), LARGE),
    (Memory("anonymous_hugetlb_1gb", SIZE_1G, MIB), GIGANTIC),
)


@pytest.mark.parametrize("reader_first", [False, True], ids=["writer first", "reader first"])
@pytest.mark.parametrize(("memory", "stages"), MEMORIES, ids=[m.backing for m, _ in MEMORIES])
@pytest.mark.kvm_row(2, 7, 11, 12, 15, 39, 40)
def test_each_stage_costs_exactly_these_faults(
    memory: Memory, stages: Stages, *, reader_first: bool
) -> None:
    run = Run(memory)
    run.create(reader_first=reader_first)
    assert run.counts() == (CREATED_BY_A_READ[memory.backing] if reader_first else stages.create)
    run.guest.set_flags(DATA_SLOT, LOG)
    run.update()
    assert run.counts() == stages.update
    granule = run.backing.granule
    written = set(range(0, memory.size // SIZE_4K, granule // SIZE_4K))
    assert run.guest.dirty(DATA_SLOT) == written
    run.guest.set_flags(DATA_SLOT, NO_FLAGS)
    run.adjust()
    assert run.counts() == stages.adjust
    assert {run.guest.read_u64(DATA + page * SIZE_4K) for page in written} == {VALUE}
    leaves = {run.guest.vm.pgt.get_leaf(IPA(at)).level for at in range(DATA, DATA + MIB, SIZE_4K)}
    assert leaves == {{SIZE_4K: 3, SIZE_2M: 2, SIZE_1G: 1}[granule]}
    assert run.guest.vm.stats.exits["MMIO"] == sum(run.guest.vm.stats.exits.values())
    run.guest.vm.destroy()
    assert run.guest.vm.stats.table_pages == 0
