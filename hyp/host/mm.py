"""The system calls of the VMM process on its memory.

A virtual machine monitor backs guest memory with memory of its own: ``mmap`` makes an
area, a page of it comes into being on first touch, and KVM's slots point at areas by
host virtual address. Whatever changes a page that a guest may have mapped is told to
the notifiers first and last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import PA, PAGE_MASK
from hyp.errors import Errno, KvmError
from hyp.host.actions import PageActions
from hyp.host.backing import HostFile
from hyp.host.faultin import handle_mm_fault
from hyp.host.space import FaultinError, HostPfn
from hyp.host.tables import PMD_SHIFT, PRESENT, WRITE, entry_frame
from hyp.host.vma import (
    HVA,
    READ_WRITE,
    SIZE_1G,
    SIZE_2M,
    SIZE_4K,
    TASK_SIZE,
    HostProt,
    PfnMemory,
    Vma,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.memory import PhysicalMemory

_MMAP_BASE: Final = 0x7F00_0000_0000
_GUARD: Final = SIZE_2M


class HostMemory(PageActions):
    """The address space of the VMM process.

    Parameters
    ----------
    memory
        The machine's physical memory, from which pages and page tables come.
    """

    __slots__ = ("_next",)

    def __init__(self, memory: PhysicalMemory) -> None:
        super().__init__(memory)
        self._next = _MMAP_BASE

    # --- areas ---------------------------------------------------------------------------

    def mmap(
        self,
        size: int,
        page_size: int = SIZE_4K,
        prot: HostProt = READ_WRITE,
        *,
        private: bool = False,
        thp: bool = False,
        file: HostFile | None = None,
        offset: int = 0,
    ) -> HVA:
        """Make an area (mmap(2)).

        Parameters
        ----------
        size
            In bytes; rounded up to ``page_size``.
        page_size
            4 KiB, 2 MiB or 1 GiB. The area is aligned to it.
        prot
            What the process, and so the guest, may do with it.
        private
            Whether the memory is the process's own (MAP_PRIVATE): a page that is only
            read is the page of zeros, or the file's, and is copied when it is written.
            Otherwise (MAP_SHARED) pages are the file's, and a page is allocated when it
            is first touched.
        thp
            Whether private memory of 4 KiB pages may come by 2 MiB (MADV_HUGEPAGE).
            The area is aligned to 2 MiB.
        file, offset
            What the area shows, and from where on; the file's page size counts.

        Raises
        ------
        KvmError
            EINVAL for a size that is not positive, or another page size; ENOMEM beyond
            the end of the address space.
        """
        if file is not None:
            page_size = 1 << file.page_shift
        shift = _page_shift(page_size)
        if thp and not (private and page_size == SIZE_4K and file is None):
            raise KvmError(
                Errno.EINVAL,
                "transparent huge pages are of anonymous private memory of 4K pages; "
                "use private=True, page_size=0x1000 and no file",
            )
        if offset % page_size or offset < 0:
            raise KvmError(
                Errno.EINVAL,
                f"offset {offset:#x} is not a multiple of the page size {page_size:#x}",
            )
        start, end = self._find_area(size, page_size, SIZE_2M if thp else page_size)
        if file is None and not private:
            file = HostFile(end - start, shift, anonymous=True)
        self.vmas.replace(
            start,
            end,
            [Vma(start, end, prot, shift, file=file, offset=offset, shared=not private, thp=thp)],
        )
        return start

    def mmap_pfn(
        self,
        pa: PA,
        size: int,
        prot: HostProt = READ_WRITE,
        memory: PfnMemory = PfnMemory.DEVICE,
    ) -> HVA:
        """Make an area of physical addresses, as a driver's mmap does (``remap_pfn_range``).

        Parameters
        ----------
        pa, size
            The range. The area has the same offset in 1 GiB, so that blocks can map it.
        prot
            What the process may do with it.
        memory
            How a guest may map it.

        Raises
        ------
        KvmError
            EINVAL for a range that is not of whole pages.
        """
        if pa & PAGE_MASK or size & PAGE_MASK:
            raise KvmError(
                Errno.EINVAL,
                f"frames {pa:#x} to {pa + size:#x} are not whole pages; use multiples of 0x1000",
            )
        start, end = self._find_area(size, SIZE_4K, SIZE_1G, pa % SIZE_1G)
        vma = Vma(start, end, prot, shared=True, pfn=pa, pfn_memory=memory)
        self.vmas.replace(start, end, [vma])
        return start

    def _find_area(self, size: int, page_size: int, align: int, skew: int = 0) -> tuple[HVA, HVA]:
        if size <= 0:
            raise KvmError(Errno.EINVAL, f"an area needs a positive size, not {size}")
        start = ((self._next + align - 1) & -align) + skew
        end = start + ((size + page_size - 1) & -page_size)
        if end > TASK_SIZE:
            raise KvmError(
                Errno.ENOMEM,
                f"{size:#x} bytes do not fit below {TASK_SIZE:#x}; map less",
            )
        self._next = end + _GUARD
        return HVA(start), HVA(end)

    def munmap(self, hva: HVA, size: int) -> None:
        """Remove what is in a range; a hole stays (munmap(2)).

        Raises
        ------
        KvmError
            EINVAL if the range is not of whole pages of the areas in it.
        """
        vmas = self._checked(hva, size)
        self._split_at_ends(hva, size)
        with self.notifiers.invalidate(hva, HVA(hva + size)):
            for vma in vmas:
                self.zap(vma, max(hva, vma.start), min(hva + size, vma.end))
        self.tables.pte_tables -= set(range(-(-hva >> PMD_SHIFT), hva + size >> PMD_SHIFT))
        self.vmas.replace(hva, hva + size, [])
        for vma in vmas:
            file = vma.file
            if file is not None and file.anonymous and all(v.file is not file for v in self.vmas):
                self.free_file_pages(file, 0, file.size >> file.page_shift)

    def mprotect(self, hva: HVA, size: int, prot: HostProt) -> None:
        """Change what may be done with a range (mprotect(2)).

        Raises
        ------
        KvmError
            EINVAL as for ``munmap``, ENOMEM if the range has a hole.
        """
        vmas = self._checked(hva, size)
        end = hva + size
        if sum(min(end, vma.end) - max(hva, vma.start) for vma in vmas) != size:
            raise KvmError(
                Errno.ENOMEM,
                f"hva {hva:#x} to {end:#x} is not mapped throughout; protect the areas one by one",
            )
        self._split_at_ends(hva, size)
        with self.notifiers.invalidate(hva, HVA(end)):
            self.vmas.replace(
                hva,
                end,
                [vma.part(max(hva, vma.start), min(end, vma.end), prot) for vma in vmas],
            )

    def _checked(self, hva: int, size: int) -> list[Vma]:
        """Return the areas of a range that cuts none of their pages."""
        vmas = self.vmas.overlapping(hva, hva + size)
        page_size = max((1 << vma.page_shift for vma in vmas), default=SIZE_4K)
        ends = [edge for vma in vmas for edge in (vma.start, vma.end)]
        if size <= 0 or any(at % page_size and at not in ends for at in (hva, hva + size)):
            raise KvmError(
                Errno.EINVAL,
                f"hva {hva:#x} with size {size:#x} is no range of whole pages of {page_size:#x}",
            )
        return vmas

    def _split_at_ends(self, hva: int, size: int) -> None:
        """Have no huge page reach over an end of a range."""
        for at in (hva, hva + size):
            if at % SIZE_2M:
                self.split_huge_page(at)

    # --- pages ---------------------------------------------------------------------------

    def vma_lookup(self, hva: int) -> Vma | None:
        """Return the area that contains ``hva``."""
        return self.vmas.lookup(hva)

    def faultin_pfn(self, vma: Vma, hva: int, *, write: bool) -> HostPfn | FaultinError:
        """Return the frame behind an address, bringing it in (``__kvm_faultin_pfn``).

        Parameters
        ----------
        vma
            The area that contains ``hva``.
        hva
            Any address in the area; the result is the 4 KiB frame that holds it.
        write
            Whether it is to be written. A page that is only read is not copied, and
            may still turn out to be writable.
        """
        if not (vma.writable if write else vma.readable):
            return FaultinError.NO_ACCESS
        if vma.pfn is not None:
            return HostPfn(PA(vma.pfn + (hva - vma.start & ~PAGE_MASK)), vma.writable)
        found = handle_mm_fault(self, vma, hva, write=write)
        if isinstance(found, FaultinError):
            return found
        entry, shift = found
        offset = hva & (1 << shift) - 1 & ~PAGE_MASK
        return HostPfn(PA((entry & ~PAGE_MASK) + offset), bool(entry & WRITE) and vma.writable)

    def user_mapping_size(self, hva: int) -> int | None:
        """Return the size of the host's own mapping of an address (``get_user_mapping_size``).

        Returns
        -------
        int or None
            ``None`` if nothing is mapped there.
        """
        vma = self.vmas.lookup(hva)
        if vma is None:
            return None
        entry, shift = self.tables.lookup(vma, hva)
        return 1 << shift if entry & PRESENT else None

    def age(self, hva: HVA, size: int) -> bool:
        """Return whether guests used a range since the last time, and forget it."""
        # Every notifier is asked, whatever the others say.
        young = [notifier.clear_young(hva, HVA(hva + size)) for notifier in self.notifiers]
        return any(young)

    def memfd(self, size: int, page_size: int = SIZE_4K) -> HostFile:
        """Return a file that lives in memory (memfd_create(2)), for several areas to show.

        Raises
        ------
        KvmError
            EINVAL for a size that is not of whole pages, or another page size.
        """
        shift = _page_shift(page_size)
        if size <= 0 or size % page_size:
            raise KvmError(
                Errno.EINVAL, f"a file of {size:#x} bytes is not of whole pages of {page_size:#x}"
            )
        return HostFile(size, shift, anonymous=False)

    def close(self, file: HostFile) -> None:
        """Give up a file that no area shows.

        Raises
        ------
        KvmError
            EBUSY if one does.
        """
        for vma in self.vmas:
            if vma.file is file:
                raise KvmError(Errno.EBUSY, f"{vma} shows the file; munmap it first")
        self.free_file_pages(file, 0, file.size >> file.page_shift)

    # --- the process's own accesses ------------------------------------------------------

    def read(self, hva: HVA, size: int) -> bytes:
        """Read ``size`` bytes as the process sees them; untouched pages read as zeros.

        Raises
        ------
        KvmError
            EFAULT if the range is not mapped; EHWPOISON if its memory has failed;
            EAGAIN if user space has not supplied a page; ENOMEM if memory has run out.
        """
        parts = []
        for vma, at, length in self._pieces(hva, size):
            if self._is_untouched(vma, at):
                parts.append(bytes(length))
                continue
            parts.append(self.memory.read(self._touch(vma, at, write=False), length))
        return b"".join(parts)

    def write(self, hva: HVA, data: bytes) -> None:
        """Write bytes as the process would, bringing pages into being.

        The protection of the area is not looked at: the VMM fills memory
        before it hands it out read-only.

        Raises
        ------
        KvmError
            As for ``read``.
        """
        done = 0
        for vma, at, length in list(self._pieces(hva, len(data))):
            self.memory.write(self._touch(vma, at, write=True), data[done : done + length])
            done += length

    def _is_untouched(self, vma: Vma, hva: int) -> bool:
        """Return whether nobody has touched a page, so that it need not be there to be zero."""
        if vma.pfn is not None or vma.userfault is not None or self.tables.lookup(vma, hva)[0]:
            return False
        return vma.file is None or vma.file_index(hva) not in vma.file.pages

    def _touch(self, vma: Vma, hva: int, *, write: bool) -> PA:
        """Return the physical address behind ``hva`` for an access of the process."""
        if vma.pfn is not None:
            return PA(vma.pfn + (hva - vma.start))
        found = handle_mm_fault(self, vma, hva, write=write)
        if isinstance(found, FaultinError):
            raise KvmError(_ERRNO[found], f"hva {hva:#x} cannot be had: {found.value}")
        entry, shift = found
        return PA(entry_frame(entry) + (hva & (1 << shift) - 1))

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
            length = min(end, (at | (1 << vma.page_shift) - 1) + 1) - at
            yield vma, at, length
            at += length


_ERRNO: Final = {
    FaultinError.NO_MEMORY: Errno.ENOMEM,
    FaultinError.HWPOISON: Errno.EHWPOISON,
    FaultinError.BLOCKED: Errno.EAGAIN,
}


def _page_shift(page_size: int) -> int:
    if page_size not in (SIZE_4K, SIZE_2M, SIZE_1G):
        raise KvmError(
            Errno.EINVAL,
            f"page size {page_size:#x} does not exist; use 0x1000, 0x200000 or 0x40000000",
        )
    return page_size.bit_length() - 1
