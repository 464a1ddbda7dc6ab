"""Areas of an address space (``struct vm_area_struct``), and the ordered set of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from enum import Enum, IntFlag
from typing import TYPE_CHECKING, Final, NewType

from emu.arch.address import PA, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyp.host.backing import HostFile
    from hyp.host.userfault import Userfault

HVA = NewType("HVA", int)
"""A virtual address of the VMM process."""

SIZE_4K: Final = PAGE_SIZE
SIZE_2M: Final = 2 << 20
SIZE_1G: Final = 1 << 30

TASK_SIZE: Final = 1 << 48
"""The end of user space."""


class HostProt(IntFlag):
    """The protection of an area, as for mmap(2)."""

    NONE = 0
    READ = 1
    WRITE = 2


READ_WRITE: Final = HostProt.READ | HostProt.WRITE


class PfnMemory(Enum):
    """How a driver lets an area of raw page frames be mapped."""

    DEVICE = "device"
    ANY_UNCACHED = "any uncached"
    """VM_ALLOW_ANY_UNCACHED: a guest may have it as normal, non-cacheable memory."""
    CACHEABLE = "cacheable"


class Vma:
    """One area of the address space.

    Parameters
    ----------
    start, end
        The range, end exclusive; both are multiples of the page size.
    prot
        What the process may do with it.
    page_shift
        12, 21 or 30: the size of the pages behind the area (as with hugetlbfs).
    file
        What the area shows; ``None`` for anonymous memory and raw frames.
    offset
        Where in the file the area starts, in bytes.
    shared
        Whether stores reach the file, or a copy of the page.
    thp
        Whether 2 MiB of it may come as one page (VM_HUGEPAGE).
    pfn
        The physical address behind ``start``, for an area of raw frames (VM_PFNMAP).
    pfn_memory
        What memory those are.
    userfault
        Who supplies pages that are not there.
    """

    __slots__ = (
        "end",
        "file",
        "offset",
        "page_shift",
        "pfn",
        "pfn_memory",
        "prot",
        "readable",
        "shared",
        "start",
        "thp",
        "userfault",
        "writable",
    )

    def __init__(
        self,
        start: HVA,
        end: HVA,
        prot: HostProt,
        page_shift: int = PAGE_SHIFT,
        *,
        file: HostFile | None = None,
        offset: int = 0,
        shared: bool = False,
        thp: bool = False,
        pfn: PA | None = None,
        pfn_memory: PfnMemory = PfnMemory.DEVICE,
        userfault: Userfault | None = None,
    ) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.readable = bool(prot & HostProt.READ)
        self.writable = bool(prot & HostProt.WRITE)
        self.page_shift = page_shift
        self.file = file
        self.offset = offset
        self.shared = shared
        self.thp = thp
        self.pfn = pfn
        self.pfn_memory = pfn_memory
        self.userfault = userfault

    def __repr__(self) -> str:
        return f"Vma({self.start:#x}-{self.end:#x} {self.prot!r})"

    def file_index(self, hva: int) -> int:
        """Return which page of the file is at ``hva``."""
        return (hva - self.start + self.offset) >> self.page_shift

    def part(self, start: int, end: int, prot: HostProt | None = None) -> Vma:
        """Return the area for a part of the range, with another protection if one is given."""
        moved = start - self.start
        return Vma(
            HVA(start),
            HVA(end),
            self.prot if prot is None else prot,
            self.page_shift,
            file=self.file,
            offset=self.offset + moved,
            shared=self.shared,
            thp=self.thp,
            pfn=None if self.pfn is None else PA(self.pfn + moved),
            pfn_memory=self.pfn_memory,
            userfault=self.userfault,
        )

    def continues(self, other: Vma) -> bool:
        """Return whether this area could be one with ``other``, which ends where it starts."""
        size = other.end - other.start
        return (
            other.end == self.start
            and other.prot == self.prot
            and other.page_shift == self.page_shift
            and other.file is self.file
            and (other.file is None or other.offset + size == self.offset)
            and other.shared == self.shared
            and other.thp == self.thp
            and (None if other.pfn is None else other.pfn + size) == self.pfn
            and other.pfn_memory is self.pfn_memory
            and other.userfault is self.userfault
        )


class VmaSet:
    """Areas by ascending address; none overlaps another."""

    __slots__ = ("_starts", "_vmas")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._vmas: list[Vma] = []

    def __iter__(self) -> Iterator[Vma]:
        """Yield the areas by ascending address."""
        return iter(self._vmas)

    def lookup(self, hva: int) -> Vma | None:
        """Return the area that contains ``hva``."""
        index = bisect_right(self._starts, hva) - 1
        if index < 0:
            return None
        vma = self._vmas[index]
        return vma if hva < vma.end else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Return the areas that have a byte in the range."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = bisect_left(self._starts, end)
        return [vma for vma in self._vmas[first:last] if vma.end > start]

    def replace(self, start: int, end: int, new: list[Vma]) -> None:
        """Put ``new`` in the place of whatever is in the range; areas that fit become one."""
        old = self.overlapping(start, end)
        kept = [old[0].part(old[0].start, start)] if old and old[0].start < start else []
        kept += new
        if old and old[-1].end > end:
            kept.append(old[-1].part(end, old[-1].end))
        first = bisect_left(self._starts, old[0].start if old else start)
        last = first + len(old)
        # Neighbours may go on where the new areas begin or end.
        if first:
            first -= 1
            kept.insert(0, self._vmas[first])
        if last < len(self._vmas):
            kept.append(self._vmas[last])
            last += 1
        self._vmas[first:last] = kept = _merged(kept)
        self._starts[first:last] = [vma.start for vma in kept]


def _merged(vmas: list[Vma]) -> list[Vma]:
    merged: list[Vma] = []
    for vma in vmas:
        if merged and vma.continues(merged[-1]):
            merged[-1].end = vma.end
        else:
            merged.append(vma)
    return merged
