"""A VM's stage-2 tables as they were at one moment, and the slots over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import IPA, PA, PAGE_SHIFT, PAGE_SIZE
from hyp.dirty import dirty_pages
from hyp.pte import GRANULE, GRANULE_SHIFT, LAST_LEVEL, PTE_VALID, pte_to_phys, pte_valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Table(NamedTuple):
    """A table page; the top, where tables may stand side by side, counts as one.

    Attributes
    ----------
    ipa
        The first address that it translates.
    level
        The level of its entries.
    pa
        Where it lies.
    """

    ipa: IPA
    level: int
    pa: PA


class Run(NamedTuple):
    """Neighbouring entries of one table that are alike, tables themselves excepted.

    Invalid entries of a run are equal. Valid ones differ in the output address alone, which
    goes on from one to the next.

    Attributes
    ----------
    ipa
        The address that the first entry translates.
    level
        The level of the table.
    pte
        The first entry.
    length
        How many there are.
    """

    ipa: IPA
    level: int
    pte: int
    length: int

    @property
    def size(self) -> int:
        """What the entries cover, in bytes."""
        return self.length << GRANULE_SHIFT[self.level]

    @property
    def end(self) -> IPA:
        """The first address behind them."""
        return IPA(self.ipa + self.size)

    @property
    def valid(self) -> bool:
        """Whether they map something."""
        return pte_valid(self.pte)

    def output(self, ipa: IPA) -> PA:
        """Return what ``ipa``, which the run maps, is translated to."""
        return PA(pte_to_phys(self.pte) + ipa - self.ipa)

    def entries(self) -> Iterator[tuple[IPA, int]]:
        """Yield each entry with the address that it translates."""
        granule = GRANULE[self.level]
        step = granule if self.valid else 0
        for n in range(self.length):
            yield IPA(self.ipa + n * granule), self.pte + n * step

    def continues(self, pte: int) -> bool:
        """Return whether ``pte`` would be the entry that follows."""
        step = self.size if self.pte & PTE_VALID else 0
        return pte == self.pte + step


class Extent(NamedTuple):
    """A range of guest physical addresses."""

    ipa: IPA
    size: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A memory slot.

    Attributes
    ----------
    dirty
        What its dirty log holds, by ascending address; ``None`` without a log.
    """

    id: int
    base: IPA
    size: int
    read_only: bool
    dirty: tuple[Extent, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """Everything that was read.

    Attributes
    ----------
    guest, end, instructions
        What ran, how it ended (``power_off``, ``budget``, ...), and the instructions it retired.
    ipa_bits
        The size of the guest physical address space; the debugfs file ``ipa_range``.
    start_level
        The level of the top.
    fwb
        Whether HCR_EL2.FWB is set, on which the meaning of MemAttr depends.
    tables
        All of them, a table before those below it, then by ascending address.
    runs
        All entries that are no tables, empty ones too, by ascending address: they leave
        no address out.
    slots
        The memory slots by ascending address.
    """

    guest: str = ""
    end: str = ""
    instructions: int = 0
    ipa_bits: int
    start_level: int
    fwb: bool
    tables: tuple[Table, ...]
    runs: tuple[Run, ...]
    slots: tuple[SlotInfo, ...] = ()

    @property
    def levels(self) -> int:
        """How many levels a walk has; the debugfs file ``stage2_levels``."""
        return LAST_LEVEL + 1 - self.start_level

    @property
    def pgd(self) -> PA:
        """Where the top lies."""
        return self.tables[0].pa

    def leaves(self) -> Iterator[Run]:
        """Yield what is mapped."""
        return (run for run in self.runs if run.valid)

    def in_order(self) -> Iterator[Table | Run]:
        """Yield tables and runs as a walk meets them: a table, then what it holds."""
        tables = iter(self.tables)
        table = next(tables, None)
        for run in self.runs:
            while table is not None and table.ipa <= run.ipa:
                yield table
                table = next(tables, None)
            yield run

    def with_dirty(self, logs: Mapping[int, bytes]) -> Dump:
        """Return the same with other dirty logs: bitmaps by slot, as KVM_GET_DIRTY_LOG gives."""
        slots = tuple(
            replace(slot, dirty=tuple(marked(slot.base, logs[slot.id])))
            if slot.id in logs
            else slot
            for slot in self.slots
        )
        return replace(self, slots=slots)


def marked(base: IPA, bitmap: bytes) -> Iterator[Extent]:
    """Yield the extents that a slot's bitmap marks; ``base`` is where the slot begins."""
    return _joined(IPA(base + (page << PAGE_SHIFT)) for page in dirty_pages(bitmap))


def _joined(pages: Iterable[IPA]) -> Iterator[Extent]:
    last: Extent | None = None
    for page in pages:
        if last is not None and last.ipa + last.size == page:
            last = Extent(last.ipa, last.size + PAGE_SIZE)
            continue
        if last is not None:
            yield last
        last = Extent(page, PAGE_SIZE)
    if last is not None:
        yield last
