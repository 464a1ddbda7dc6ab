"""Physical memory that checks break-before-make on every store to a stage-2 table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PA, PAGE_MASK
from emu.memory import PhysicalMemory
from hyp.pte import PTE_PERMS, PTE_SW, PTE_VALID

if TYPE_CHECKING:
    from collections.abc import Container

_AF = 1 << 10
_MAY_CHANGE_IN_PLACE = PTE_PERMS | PTE_SW | _AF
"""What a valid entry may change without a break (Arm ARM D8.17.1)."""


class BreakBeforeMakeError(AssertionError):
    """A store that the architecture does not allow."""


class WatchedMemory(PhysicalMemory):
    """Physical memory with a watch on the pages that are tables.

    Attributes
    ----------
    tables
        The pages that are watched.
    stores
        Every store to them.
    """

    def __init__(self, base: PA, size: int) -> None:
        super().__init__(base, size)
        self.tables: Container[int] = ()
        self.stores: list[tuple[PA, int, int]] = []
        self.broken: dict[PA, int] = {}

    def invalidated(self) -> None:
        """Note a TLB invalidation; the entries broken before it may be made again."""
        self.broken.clear()

    def write_u64(self, pa: PA, value: int) -> None:
        """Write, and check what it does to an entry."""
        if pa & ~PAGE_MASK in self.tables:
            self._check(pa, self.read_u64(pa), value)
        super().write_u64(pa, value)

    def write(self, pa: PA, data: bytes | bytearray | memoryview) -> None:
        """Write, and check it as so many entries if it goes to a table."""
        if pa & ~PAGE_MASK in self.tables:
            for offset in range(0, len(data), 8):
                new = int.from_bytes(data[offset : offset + 8], "little")
                old = self.read_u64(PA(pa + offset))
                if new != old:
                    self._check(PA(pa + offset), old, new)
        super().write(pa, data)

    def _check(self, pa: PA, old: int, new: int) -> None:
        self.stores.append((pa, old, new))
        if old & PTE_VALID and new & PTE_VALID and (old ^ new) & ~_MAY_CHANGE_IN_PLACE:
            raise BreakBeforeMakeError(f"{old:#x} becomes {new:#x} while valid")
        if old & PTE_VALID and not new & PTE_VALID:
            self.broken[pa] = old
        elif new & PTE_VALID and not old & PTE_VALID:
            before = self.broken.pop(pa, None)
            if before is not None:
                raise BreakBeforeMakeError(f"{before:#x} becomes {new:#x} without TLBI between")
