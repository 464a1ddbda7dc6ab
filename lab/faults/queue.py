"""What is to be done before instructions that are known by their number."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.probe import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU

    Act = Callable[[VCPU], None]


class Planned(NamedTuple):
    """Something to do before an instruction."""

    retired: int
    """Which one: how many have retired before it."""
    turn: int
    """Decides between those of one instruction: the first that was asked for is the first."""
    act: Act


class Queue:
    """What is to be done at some count of retired instructions, the next one first."""

    def __init__(self) -> None:
        self._heap: list[Planned] = []
        self._gone: set[int] = set()

    def add(self, planned: Planned) -> None:
        """Add something to do."""
        heappush(self._heap, planned)

    def remove(self, planned: Planned) -> None:
        """Forget it, if it is still to come."""
        if planned in self._heap:
            self._gone.add(planned.turn)

    @property
    def next(self) -> int:
        """The next count, or :data:`NEVER`."""
        while self._heap and self._heap[0].turn in self._gone:
            self._gone.discard(heappop(self._heap).turn)
        return self._heap[0].retired if self._heap else NEVER

    def take(self, retired: int) -> list[Planned]:
        """Return what is due at a count, and forget it."""
        taken = []
        while self.next <= retired:
            taken.append(heappop(self._heap))
        return taken
