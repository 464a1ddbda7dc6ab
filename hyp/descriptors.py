"""Atomic accesses to page-table entries.

Every read and every store of a descriptor by the hypervisor goes through here.
Between two of these operations other PEs may run; an observer sees each of them
coming, and may have them run just there.
"""

from __future__ import annotations

from array import array
from enum import Enum
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

from emu.arch.address import PA

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.memory import PhysicalMemory

P = ParamSpec("P")
R = TypeVar("R")


class Operation(Enum):
    """What page-table code does with an entry."""

    READ = "read"
    STORE = "store"
    CMPXCHG = "cmpxchg"
    XCHG = "xchg"
    STORE_RELEASE = "store-release"


class Descriptors:
    """The operations that page-table code is made of.

    Attributes
    ----------
    read
        READ_ONCE of an entry.
    store
        WRITE_ONCE of an entry.
    cmpxchg
        ``cmpxchg(ptep, old, new)`` stores ``new`` if the entry still is ``old``; it
        returns whether it was.
    exchange
        ``exchange(ptep, new)`` stores ``new`` and returns what was there.
    store_release
        A store that becomes visible after everything before it.
    observed
        Whether somebody watches. Runs are then made one operation at a time.
    """

    __slots__ = (
        "_memory",
        "cmpxchg",
        "exchange",
        "observed",
        "read",
        "store",
        "store_release",
    )

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self.observe(None)

    def observe(self, before: Callable[[Operation, int], None] | None) -> None:
        """Call ``before`` with each operation and its entry's address ahead of it.

        Parameters
        ----------
        before
            May change entries itself, as another PE would. ``None`` ends it.
        """
        memory = self._memory
        self.observed = before is not None
        self.read = _ahead(before, Operation.READ, cast("Callable[[int], int]", memory.read_u64))
        write = cast("Callable[[int, int], None]", memory.write_u64)
        self.store = _ahead(before, Operation.STORE, write)
        self.store_release = _ahead(before, Operation.STORE_RELEASE, write)
        self.cmpxchg = _ahead(before, Operation.CMPXCHG, self._cmpxchg)
        self.exchange = _ahead(before, Operation.XCHG, self._exchange)

    def _cmpxchg(self, ptep: int, old: int, new: int) -> bool:
        memory = self._memory
        if memory.read_u64(PA(ptep)) != old:
            return False
        memory.write_u64(PA(ptep), new)
        return True

    def _exchange(self, ptep: int, new: int) -> int:
        old = self._memory.read_u64(PA(ptep))
        self._memory.write_u64(PA(ptep), new)
        return old

    # Runs: many reads or stores at once, for a walker that is alone and unobserved.

    def load_run(self, ptep: int, count: int) -> array[int]:
        """Read ``count`` entries from ``ptep`` on."""
        return array("Q", self._memory.read(PA(ptep), count << 3))

    def store_run(self, ptep: int, entries: array[int]) -> None:
        """Store entries from ``ptep`` on."""
        self._memory.write(PA(ptep), entries.tobytes())


def _ahead(
    before: Callable[[Operation, int], None] | None,
    operation: Operation,
    carry_out: Callable[Concatenate[int, P], R],
) -> Callable[Concatenate[int, P], R]:
    """Return an operation that tells the observer first."""
    if before is None:
        return carry_out

    def observed(ptep: int, /, *args: P.args, **kwargs: P.kwargs) -> R:
        before(operation, ptep)
        return carry_out(ptep, *args, **kwargs)

    return observed
