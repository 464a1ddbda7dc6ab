"""The architectural TLB: what the MMU may remember, and what a TLBI must remove.

It stands between the walks and the execution engine's own TLB, which only ever holds
copies of entries that are here. Two kinds of entries (Arm ARM D8.16):

- combined entries (VA to PA, both stages), tagged by VMID and by ASID or global;
- stage-2 entries (IPA to PA), tagged by VMID, used for table walks.

A TLBI by IPA removes the second kind only; combined entries made from them stay until a
stage-1 invalidation. That is why hypervisors issue both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PA, PAGE_SHIFT, VA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.mmu.fault import Fault
    from emu.mmu.permissions import Permissions
    from emu.mmu.stage2 import Stage2Mapping

GLOBAL: Final = -2
"""Stands for the ASID of entries that match all ASIDs."""


class TlbEntry(NamedTuple):
    """A combined entry for one 4 KiB page."""

    page: PA
    allowed: Permissions
    """What both stages allow now: writing to a clean page is not included."""
    shift: int
    """log2 of the stage-1 block this page was cut from: one TLBI by VA removes all of it."""
    level1: int
    """Level of the stage-1 leaf."""
    level2: int
    """Level of the stage-2 leaf."""
    is_global: bool
    is_device: bool
    """Whether both stages together make this Device memory."""
    contiguous: bool = False
    """The contiguous bit of the stage-1 leaf. Entries are held page by page all the same."""
    defect: Fault | None = None
    """What every use of the entry ends with, if it is defective. Then it allows nothing."""


class TlbContext:
    """The combined entries of one VMID and one ASID, or of one VMID's global entries."""

    __slots__ = ("_shifts", "blocks", "pages")

    def __init__(self) -> None:
        self.pages: dict[int, TlbEntry] = {}
        """By VA >> 12."""
        self.blocks: dict[tuple[int, int], list[int]] = {}
        """Pages cut from a larger stage-1 block, by (shift, VA >> shift)."""
        self._shifts: dict[int, None] = {}
        """The shifts that there have been."""

    def insert(self, va: VA, entry: TlbEntry) -> None:
        """Add the entry for the page of ``va``."""
        page = va >> PAGE_SHIFT
        self.pages[page] = entry
        if entry.shift > PAGE_SHIFT:
            self._shifts[entry.shift] = None
            self.blocks.setdefault((entry.shift, va >> entry.shift), []).append(page)

    def remove(self, page: int, levels: range) -> int:
        """Remove what translates VA >> 12 ``page`` from a stage-1 leaf at one of ``levels``.

        Returns
        -------
        int
            How many page entries went.
        """
        hits = 0
        entry = self.pages.get(page)
        if entry is not None and entry.shift <= PAGE_SHIFT and entry.level1 in levels:
            del self.pages[page]
            hits += 1
        if not self.blocks:
            return hits
        for shift in self._shifts:
            place = (shift, page >> shift - PAGE_SHIFT)
            found = self.blocks.pop(place, None)
            if found is None:
                continue
            block = dict.fromkeys(found)
            # A page whose entry was replaced by one of another size is not the block's any more.
            cut = [other for other in block if self._shift_of(other) == shift]
            gone = [other for other in cut if self.pages[other].level1 in levels]
            for other in gone:
                del self.pages[other]
            hits += len(gone)
            kept = [other for other in cut if other in self.pages]
            if kept:
                self.blocks[place] = kept
        return hits

    def remove_range(self, first: int, size: int, levels: range) -> int:
        """Remove what translates any of ``size`` bytes; for sizes beyond the entries there are.

        Parameters
        ----------
        first
            The lowest VA as a signed number.
        size
            Bytes.
        levels
            As for :meth:`remove`.
        """
        gone = [
            page
            for page, entry in self.pages.items()
            if entry.level1 in levels and _overlaps(_signed(page), entry.shift, first, size)
        ]
        for page in gone:
            del self.pages[page]
        return len(gone)

    def _shift_of(self, page: int) -> int | None:
        """Return the block size of a page's entry."""
        entry = self.pages.get(page)
        return None if entry is None else entry.shift

    def clear(self) -> int:
        """Remove everything; return how many entries went."""
        hits = len(self.pages)
        self.pages.clear()
        self.blocks.clear()
        return hits


class Stage2Entries:
    """The stage-2 entries of one VMID, one for each block or page."""

    __slots__ = ("_by_shift",)

    def __init__(self) -> None:
        self._by_shift: dict[int, dict[int, Stage2Mapping]] = {}
        """By log2 of the size, then by IPA >> that."""

    def __len__(self) -> int:
        return sum(map(len, self._by_shift.values()))

    def __iter__(self) -> Iterator[tuple[IPA, Stage2Mapping]]:
        """Yield each entry with the first address that it translates."""
        for shift, entries in self._by_shift.items():
            for block, mapping in entries.items():
                yield IPA(block << shift), mapping

    def lookup(self, ipa: IPA) -> Stage2Mapping | None:
        """Return the entry that translates ``ipa``."""
        for shift, entries in self._by_shift.items():
            entry = entries.get(ipa >> shift)
            if entry is not None:
                return entry
        return None

    def insert(self, ipa: IPA, mapping: Stage2Mapping) -> None:
        """Add an entry."""
        shift = mapping.shift
        entries = self._by_shift.get(shift)
        if entries is None:
            # The smallest first: where entries overlap, that one is found.
            entries = {}
            self._by_shift = dict(sorted([*self._by_shift.items(), (shift, entries)]))
        entries[ipa >> shift] = mapping

    def remove(self, ipa: IPA, levels: range) -> int:
        """Remove what translates ``ipa`` from a leaf at one of ``levels``; return how many."""
        hits = 0
        for shift, entries in self._by_shift.items():
            entry = entries.get(ipa >> shift)
            if entry is not None and entry.level in levels:
                del entries[ipa >> shift]
                hits += 1
        return hits

    def remove_range(self, first: int, size: int, levels: range) -> int:
        """Remove what translates any of ``size`` bytes; for sizes beyond the entries there are."""
        hits = 0
        for shift, entries in self._by_shift.items():
            gone = [
                block
                for block, entry in entries.items()
                if entry.level in levels and _overlaps(block << shift, shift, first, size)
            ]
            for block in gone:
                del entries[block]
            hits += len(gone)
        return hits

    def clear(self) -> int:
        """Remove everything; return how many entries went."""
        hits = len(self)
        for entries in self._by_shift.values():
            entries.clear()
        return hits


def _overlaps(address: int, shift: int, first: int, size: int) -> bool:
    """Whether the block that contains an address has a byte in a range."""
    start = address >> shift << shift
    return start < first + size and first < start + (1 << shift)


def _signed(page: int) -> int:
    """Return the signed VA of a page number."""
    va = page << PAGE_SHIFT
    return va - (va >> 63 << 64)


class Combined(NamedTuple):
    """One combined entry with its tags, for people to look at."""

    vmid: int
    asid: int
    """:data:`GLOBAL` for an entry of every ASID."""
    va: VA
    entry: TlbEntry


class Stage2Only(NamedTuple):
    """One stage-2 entry with its tag."""

    vmid: int
    ipa: IPA
    mapping: Stage2Mapping


class Survivor(NamedTuple):
    """An entry that invalidations leave, for a while. No TLB has such, unless it is defective."""

    vmid: int
    asid: int | None
    """:data:`GLOBAL` for an entry of every ASID; None for one of stage 2 only."""
    address: int
    """A VA or an IPA that it translates."""
    times: int
    """How many invalidations that would have removed it are still to be survived."""


class Tlb:
    """All entries of one PE.

    Attributes
    ----------
    survivors
        The entries that invalidations leave.
    has_defects
        Whether an entry may be defective.
    """

    def __init__(self) -> None:
        self.contexts: dict[tuple[int, int], TlbContext] = {}
        """Combined entries by (VMID, ASID); the ASID may be :data:`GLOBAL`."""
        self.stage2: dict[int, Stage2Entries] = {}
        """Stage-2 entries by VMID."""
        self.survivors: list[Survivor] = []
        self.has_defects = False

    def find(self, vmid: int, asid: int | None, address: int) -> TlbEntry | Stage2Mapping | None:
        """Return the entry with these tags that translates an address.

        Parameters
        ----------
        vmid, asid
            The tags; an ASID of None asks for an entry of stage 2 only.
        address
            A VA or an IPA.
        """
        if asid is None:
            entries = self.stage2.get(vmid)
            return None if entries is None else entries.lookup(IPA(address))
        context = self.contexts.get((vmid, asid))
        return None if context is None else context.pages.get(address >> PAGE_SHIFT)

    def put(
        self, vmid: int, asid: int | None, address: int, entry: TlbEntry | Stage2Mapping
    ) -> None:
        """Add an entry, in the place of one that translates the same with the same tags."""
        if isinstance(entry, TlbEntry):
            assert asid is not None, "a combined entry has an ASID, or is global"
            self.has_defects |= entry.defect is not None
            self.context(vmid, asid).insert(VA(address), entry)
        else:
            self.stage2_entries(vmid).insert(IPA(address), entry)

    def drop(self, vmid: int, asid: int | None, address: int) -> None:
        """Forget one entry."""
        if asid is None:
            self.stage2_entries(vmid).remove(IPA(address), range(-1, 4))
        else:
            self.context(vmid, asid).pages.pop(address >> PAGE_SHIFT, None)

    def context(self, vmid: int, asid: int) -> TlbContext:
        """Return the combined entries of a VMID and an ASID (or :data:`GLOBAL`)."""
        return self.contexts.setdefault((vmid, asid), TlbContext())

    def stage2_entries(self, vmid: int) -> Stage2Entries:
        """Return the stage-2 entries of a VMID."""
        return self.stage2.setdefault(vmid, Stage2Entries())

    def contexts_of(self, vmid: int | None, asid: int | None = None) -> list[TlbContext]:
        """Return the contexts of a VMID (None: all), of all ASIDs or of one."""
        if vmid is not None and asid is not None:
            context = self.contexts.get((vmid, asid))
            return [] if context is None else [context]
        return [
            context
            for (v, a), context in self.contexts.items()
            if (vmid is None or v == vmid) and (asid is None or a == asid)
        ]

    def __len__(self) -> int:
        return sum(len(c.pages) for c in self.contexts.values()) + sum(
            map(len, self.stage2.values())
        )

    def combined_entries(self) -> Iterator[Combined]:
        """Yield the entries of both stages together, by VMID, ASID and VA."""
        for (vmid, asid), context in sorted(self.contexts.items()):
            for page, entry in sorted(context.pages.items()):
                yield Combined(vmid, asid, VA(page << PAGE_SHIFT), entry)

    def stage2_only_entries(self) -> Iterator[Stage2Only]:
        """Yield the entries of stage 2, by VMID and IPA."""
        for vmid, entries in sorted(self.stage2.items()):
            for ipa, mapping in sorted(entries):
                yield Stage2Only(vmid, ipa, mapping)
