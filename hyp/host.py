"""The VMM process: its virtual address space and the pages behind it.

A virtual machine monitor backs guest memory with anonymous memory of its own.
Here too: ``mmap`` makes an area, a page of it comes into being on first touch,
and KVM's slots point at areas by host virtual address (HVA).
"""

from __future__ import annotations

from bisect import bisect_right
from enum import IntFlag
from typing import TYPE_CHECKING, NewType

from emu.arch.address import PA, PAGE_MASK, PAGE_SIZE
from hyp.errors import Errno, KvmError
from hyp.frames import FrameAllocator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.memory import PhysicalMemory

HVA = NewType("HVA", int)
"""A virtual address of the VMM process."""

SIZE_4K = PAGE_SIZE
SIZE_2M = 2 << 20
SIZE_1G = 1 << 30

TASK_SIZE = 1 << 48
"""The end of user space."""

_MMAP_BASE = 0x7F00_0000_0000
_GUARD = SIZE_2M


class HostProt(IntFlag):
    """The protection of an area, as for mmap(2)."""

    NONE = 0
    READ = 1
    WRITE = 2


READ_WRITE = HostProt.READ | HostProt.WRITE


class Vma:
    """One area of the address space.

    Parameters
    ----------
    start, end
        The range, end exclusive; both are multiples of the page size.
    page_shift
        12, 21 or 30: the size of the pages behind the area (as with hugetlbfs).
    prot
        What the process may do with it.

    Attributes
    ----------
    pages
        The page behind each ``1 << page_shift`` bytes, once touched.
    """

    __slots__ = ("end", "page_shift", "pages", "prot", "readable", "start", "writable")

    def __init__(self, start: HVA, end: HVA, page_shift: int, prot: HostProt) -> None:
        self.start = start
        self.end = end
        self.page_shift = page_shift
        self.prot = prot
        self.readable = bool(prot & HostProt.READ)
        self.writable = bool(prot & HostProt.WRITE)
        self.pages: list[PA | None] = [None] * ((end - start) >> page_shift)

    def __repr__(self) -> str:
        return f"Vma({self.start:#x}-{self.end:#x} {self.prot!r})"


class HostMemory:
    """The address space of the VMM process.

    Parameters
    ----------
    memory
        The machine's physical memory, from which pages and page tables come.
    """

    __slots__ = ("_memory", "_next", "_starts", "_vmas", "frames")

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._next = _MMAP_BASE
        self._starts: list[int] = []
        self._vmas: list[Vma] = []
        self.frames = FrameAllocator(memory)

    def mmap(self, size: int, page_size: int = SIZE_4K, prot: HostProt = READ_WRITE) -> HVA:
        """Make an area of anonymous memory.

        Parameters
        ----------
        size
            In bytes; rounded up to ``page_size``.
        page_size
            4 KiB, 2 MiB or 1 GiB. The area is aligned to it.
        prot
            What the process, and so the guest, may do with it.

        Raises
        ------
        KvmError
            EINVAL for a size that is not positive, or another page size.
        """
        if page_size not in (SIZE_4K, SIZE_2M, SIZE_1G):
            raise KvmError(
                Errno.EINVAL,
                f"page size {page_size:#x} does not exist; use 0x1000, 0x200000 or 0x40000000",
            )
        if size <= 0:
            raise KvmError(Errno.EINVAL, f"an area needs a positive size, not {size}")
        shift = page_size.bit_length() - 1
        count = (size + page_size - 1) >> shift
        start = (self._next + page_size - 1) & -page_size
        end = start + (count << shift)
        if end > TASK_SIZE:
            raise KvmError(
                Errno.ENOMEM,
                f"{size:#x} bytes do not fit below {TASK_SIZE:#x}; map less",
            )
        self._starts.append(start)
        self._vmas.append(Vma(HVA(start), HVA(end), shift, prot))
        self._next = end + _GUARD
        return HVA(start)

    def vma_lookup(self, hva: int) -> Vma | None:
        """Return the area that contains ``hva``."""
        index = bisect_right(self._starts, hva) - 1
        if index < 0:
            return None
        vma = self._vmas[index]
        return vma if hva < vma.end else None

    def fault_in(self, vma: Vma, hva: int) -> PA | None:
        """Return the page-sized frame behind ``hva``, bringing it into being.

        Parameters
        ----------
        vma
            The area that contains ``hva``.
        hva
            Any address in the area; the result is the 4 KiB frame that holds it.

        Returns
        -------
        PA or None
            ``None`` when physical memory has run out.
        """
        offset = hva - vma.start
        index = offset >> vma.page_shift
        page = vma.pages[index]
        if page is None:
            page = self.frames.allocate(1 << vma.page_shift)
            if page is None:
                return None
            vma.pages[index] = page
        return PA(page + (offset & ((1 << vma.page_shift) - 1) & ~PAGE_MASK))

    def read(self, hva: HVA, size: int) -> bytes:
        """Read ``size`` bytes as the process sees them; untouched pages read as zeros.

        Raises
        ------
        KvmError
            EFAULT if the range is not mapped.
        """
        parts = []
        for vma, at, length in self._pieces(hva, size):
            page = vma.pages[(at - vma.start) >> vma.page_shift]
            if page is None:
                parts.append(bytes(length))
            else:
                offset = (at - vma.start) & ((1 << vma.page_shift) - 1)
                parts.append(self._memory.read(PA(page + offset), length))
        return b"".join(parts)

    def write(self, hva: HVA, data: bytes) -> None:
        """Write bytes as the process would, bringing pages into being.

        The protection of the area is not looked at: the VMM fills memory
        before it hands it out read-only.

        Raises
        ------
        KvmError
            EFAULT if the range is not mapped; ENOMEM if memory has run out.
        """
        done = 0
        for vma, at, length in list(self._pieces(hva, len(data))):
            page = self.fault_in(vma, at)
            if page is None:
                page = self.frames.require(1 << vma.page_shift, f"the page at hva {at:#x}")
            self._memory.write(PA(page + (at & PAGE_MASK)), data[done : done + length])
            done += length

    def _pieces(self, hva: int, size: int) -> Iterator[tuple[Vma, int, int]]:
        """Cut a range at page boundaries."""
        at, end = hva, hva + size
        while at < end:
            vma = self.vma_lookup(at)
            if vma is None:
                raise KvmError(
                    Errno.EFAULT,
                    f"hva {at:#x} is not mapped in the VMM process; mmap it first",
                )
            page_end = vma.start + ((((at - vma.start) >> vma.page_shift) + 1) << vma.page_shift)
            length = min(end, page_end) - at
            yield vma, at, length
            at += length
