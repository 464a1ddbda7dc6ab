"""What the golden run reads and writes, instruction by instruction: the ground for pruning.

A fault that is injected before instruction ``t`` is first seen by whatever reads its place at
``t`` or later. So all faults in a place between one access to it and the next come to the same:
if the next one reads, they are one class, and the last of them stands for all; if it overwrites
the place, or there is none, they are masked.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from lab.campaign.axis import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Access(NamedTuple):
    """What one instruction does to a place first."""

    time: int
    """Instructions that all vCPUs had retired before it."""
    reads: bool
    """Whether it reads. If it reads and writes, it reads first."""


class Trace:
    """The accesses of a golden run, by place; they are added in the order in which they happen.

    Attributes
    ----------
    length : int
        Instructions, of all vCPUs.
    pcs : array[int]
        The address of each.
    """

    def __init__(self) -> None:
        self.pcs = array("Q")
        self._registers: dict[tuple[int, str], array[int]] = {}
        self._words: dict[int, list[tuple[int, int, int]]] = {}
        self._turns: list[tuple[int, int]] = []
        self.all_registers_read: array[int] = array("Q")
        """Times at which any register may have been read, by which vCPU is not said."""

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
        end = pa + size
        while pa < end:
            word, first = pa & ~7, pa & 7
            count = min(8 - first, end - pa)
            mask = (1 << count) - 1 << first
            self._words.setdefault(word, []).append((time, mask, reads))
            pa += count

    # --- asking

    def times_of(self, vcpu: int) -> Pieces:
        """Return the times at which a vCPU executes."""
        ends = [*self._turns, (self.length, -1)]
        return Pieces(range(a, b) for (a, who), (b, _) in pairwise(ends) if who == vcpu)

    @property
    def vcpus(self) -> list[int]:
        """The vCPUs that execute anything."""
        return sorted({vcpu for _, vcpu in self._turns})

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

    def of_byte(self, pa: int) -> list[Access]:
        """Return the accesses to a byte of memory, by time."""
        return list(_first_of_each(self._words.get(pa & ~7, ()), 1 << (pa & 7)))

    def bytes_accessed(self) -> Pieces:
        """Return the addresses of all bytes that are read or written."""
        return Pieces(
            range(word + bit, word + bit + 1)
            for word, seen in self._words.items()
            for bit in range(8)
            if any(mask >> bit & 1 for _, mask, _ in seen)
        )


def _first_of_each(seen: Iterable[tuple[int, int, int]], mask: int) -> Iterator[Access]:
    last = -1
    for time, touched, reads in seen:
        if touched & mask and time != last:
            yield Access(time, bool(reads))
            last = time
