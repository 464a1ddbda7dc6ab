"""What the golden run reads and writes, instruction by instruction: the ground for pruning.

A fault that is injected before instruction ``t`` is first seen by whatever reads its place at
``t`` or later. So all faults in a place between one access to it and the next come to the same:
if the next one reads, they are one class, and the last of them stands for all; if it overwrites
the place, or there is none, they are masked.

It is always right to say of an access that it reads: classes are then smaller than need be.
"""

from __future__ import annotations

from array import array
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from emu.arch.address import PAGE_MASK, PAGE_SHIFT
from lab.campaign.axis import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterable

GENERAL: Final = tuple(f"x{number}" for number in range(31))
"""The registers whose accesses are recorded."""

_LARGE: Final = 64
"""Accesses of more bytes are kept as ranges, not by word."""


class Access(NamedTuple):
    """What one instruction does to a place first."""

    time: int
    """Instructions that all vCPUs had retired before it."""
    reads: bool
    """Whether it reads. If it reads and writes, it reads first."""


class _Range(NamedTuple):
    """An access to many bytes."""

    order: int
    time: int
    start: int
    end: int
    reads: bool


class Trace:
    """The accesses of a golden run, by place; they are added in the order in which they happen.

    Attributes
    ----------
    pcs : array[int]
        The address of each instruction.
    pages : dict[int, int]
        The frame behind each page of the slots, by number of the IPA's page.
    moved : set[int]
        Those pages that have had several frames.
    born : dict[int, int]
        For frames that came into use during the run: the instruction that had them come.
    tables : dict[tuple[int, int], range]
        The addresses of the stage-2 tables, by level and the first IPA that one translates.
    tables_moved : bool
        Whether a stage-2 table went away in the meantime.
    table_shifts : tuple[int, ...]
        By level, log2 of what one descriptor translates.
    """

    def __init__(self) -> None:
        self.pcs = array("Q")
        self.pages: dict[int, int] = {}
        self.moved: set[int] = set()
        self.born: dict[int, int] = {}
        self.tables: dict[tuple[int, int], range] = {}
        self.tables_moved = False
        self.table_shifts: tuple[int, ...] = ()
        self._registers: dict[tuple[int, str], array[int]] = {}
        self._words: dict[int, array[int]] = {}
        self._ranges: list[_Range] = []
        self._order = 0
        self._turns: list[tuple[int, int]] = []

    @classmethod
    def of_length(cls, length: int) -> Self:
        """Return a trace of which only the length is known: whose addresses are all zero."""
        trace = cls()
        trace.pcs = array("Q", bytes(8 * length))
        return trace

    @property
    def length(self) -> int:
        """Instructions, of all vCPUs."""
        return len(self.pcs)

    # --- recording

    def instruction(self, vcpu: int, pc: int) -> None:
        """Record that a vCPU executes the next instruction."""
        if not self._turns or self._turns[-1][1] != vcpu:
            self._turns.append((self.length, vcpu))
        self.pcs.append(pc)

    def register(self, time: int, vcpu: int, name: str, *, reads: bool) -> None:
        """Record an access to a register. What one instruction does first counts."""
        seen = self._registers.setdefault((vcpu, name), array("Q"))
        if not seen or seen[-1] >> 1 != time:
            seen.append(time << 1 | reads)

    def memory(self, time: int, pa: int, size: int, *, reads: bool) -> None:
        """Record an access to bytes of memory."""
        self._order += 1
        end = pa + size
        if size > _LARGE:
            self._ranges.append(_Range(self._order, time, pa, end, reads))
            return
        while pa < end:
            word, first = pa & ~7, pa & 7
            count = min(8 - first, end - pa)
            mask = (1 << count) - 1 << first
            seen = self._words.setdefault(word, array("Q"))
            seen.extend((self._order, time, mask << 1 | reads))
            pa += count

    # --- asking

    @property
    def vcpus(self) -> list[int]:
        """The vCPUs that execute anything."""
        return sorted({vcpu for _, vcpu in self._turns})

    def times_of(self, vcpu: int) -> Pieces:
        """Return the times at which a vCPU executes."""
        ends = [*self._turns, (self.length, -1)]
        return Pieces(range(a, b) for (a, who), (b, _) in pairwise(ends) if who == vcpu)

    def times_in(self, addresses: Iterable[range]) -> Pieces:
        """Return the times of instructions that lie in ranges of addresses."""
        pieces = list(addresses)
        return Pieces(
            range(time, time + 1)
            for time, pc in enumerate(self.pcs)
            if any(pc in piece for piece in pieces)
        )

    def of_register(self, vcpu: int, name: str) -> list[Access]:
        """Return the accesses of a vCPU to a register, by time."""
        seen = self._registers.get((vcpu, name), ())
        return [Access(packed >> 1, bool(packed & 1)) for packed in seen]

    def of_byte(self, pa: int, *, appears: bool = False) -> list[Access]:
        """Return the accesses to a byte of memory, by time.

        Parameters
        ----------
        pa : int
            The byte.
        appears : bool
            Whether the place is only there once its frame has come into use: what happens to
            the frame before is not looked at, and its coming overwrites the place.
        """
        seen = iter(self._words.get(pa & ~7, ()))
        events = [
            (order, time, bool(packed & 1))
            for order, time, packed in zip(seen, seen, seen, strict=True)
            if packed >> 1 + (pa & 7) & 1
        ]
        events += [(r.order, r.time, r.reads) for r in self._ranges if r.start <= pa < r.end]
        found: list[Access] = []
        birth = self.born.get(pa & ~PAGE_MASK) if appears else None
        if birth is not None:
            found.append(Access(birth, reads=False))
        for _, time, reads in sorted(events):
            if (not found or found[-1].time < time) and (birth is None or time > birth):
                found.append(Access(time, reads))
        return found

    def bytes_accessed(self) -> Pieces:
        """Return the addresses of all bytes that small accesses read or write."""
        found = []
        for word, seen in self._words.items():
            masks = 0
            for packed in seen[2::3]:
                masks |= packed >> 1
            found += [range(word + bit, word + bit + 1) for bit in range(8) if masks >> bit & 1]
        return Pieces(found)

    def pa_of(self, ipa: int) -> int | None:
        """Return what is behind an IPA once there is something; None if there never is."""
        frame = self.pages.get(ipa >> PAGE_SHIFT)
        return None if frame is None else frame | ipa & PAGE_MASK

    def has_moved(self, ipa: int) -> bool:
        """Whether an IPA has had several frames behind it."""
        return ipa >> PAGE_SHIFT in self.moved

    def descriptor_of(self, ipa: int, level: int) -> int | None:
        """Return where the stage-2 descriptor for an IPA is once it is there; None if never."""
        if not 0 <= level < len(self.table_shifts):
            return None
        shift = self.table_shifts[level]
        for (of, first), table in self.tables.items():
            offset = 8 * ((ipa >> shift) - (first >> shift))
            if of == level and 0 <= offset < len(table):
                return table[offset]
        return None

    def descriptors_accessed(self, level: int) -> list[int]:
        """Return the first IPAs of what the stage-2 descriptors of a level translate.

        Of those descriptors that something reads or writes by itself, not with a whole page.
        """
        accessed = self.bytes_accessed()
        return sorted(
            first + (offset // 8 << self.table_shifts[of])
            for (of, first), table in self.tables.items()
            if of == level
            for offset in range(0, len(table), 8)
            if accessed.below(table[offset] + 8) > accessed.below(table[offset])
        )

    def memory_accessed(self, space: str, size: int) -> list[int]:
        """Return the addresses of the units of memory of the slots that are accessed.

        Parameters
        ----------
        space : str
            ``pa`` or ``ipa``.
        size : int
            Bytes of a unit.
        """
        pages = {frame: page << PAGE_SHIFT for page, frame in self.pages.items()}
        found = set()
        for pa in self.bytes_accessed():
            page = pages.get(pa & ~PAGE_MASK)
            if page is not None:
                address = pa if space == "pa" else page | pa & PAGE_MASK
                found.add(address & -size)
        return sorted(found)

    def digest(self) -> str:
        """Return a hash of all of it."""
        made = sha256(self.pcs.tobytes())
        made.update(repr((self._turns, self._ranges, self.tables_moved)).encode())
        for facts in (self.pages, self.born, self.tables, dict.fromkeys(self.moved, 1)):
            made.update(repr(sorted(facts.items())).encode())
        for name, seen in sorted(self._registers.items()):
            made.update(repr(name).encode() + seen.tobytes())
        for word, seen in sorted(self._words.items()):
            made.update(repr(word).encode() + seen.tobytes())
        return made.hexdigest()
