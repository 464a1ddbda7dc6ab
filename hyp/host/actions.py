"""What happens to pages without the process touching them: reclaim, migration, failure, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PA, PAGE_SHIFT, PAGE_SIZE
from hyp.errors import Errno, KvmError
from hyp.host.backing import POISONED
from hyp.host.fork import Fork
from hyp.host.space import AddressSpace
from hyp.host.tables import (
    OWNED,
    PMD_SHIFT,
    POISON,
    PRESENT,
    SWAPPED,
    WRITE,
    entry_frame,
    swap_entry,
    swap_place,
)
from hyp.host.userfault import Userfault, UserfaultMode
from hyp.host.vma import HVA, SIZE_2M, SIZE_4K

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.host.userfault import UserfaultMessage
    from hyp.host.vma import Vma


class PageActions(AddressSpace):
    """Steps of the kernel and of the hardware, one method each."""

    __slots__ = ()

    # --- reclaim and migration -----------------------------------------------------------

    def swap_out(self, hva: HVA, size: int) -> int:
        """Write pages out and take their frames away.

        Pages that have several owners, huge pages of hugetlbfs and raw frames stay.

        Returns
        -------
        int
            How many pages were written out.
        """
        count = 0
        for vma in self.vmas.overlapping(hva, hva + size):
            start, end = max(hva, vma.start), min(hva + size, vma.end)
            if vma.page_shift != PAGE_SHIFT:
                continue
            for at, _ in self.tables.present_in(start, end, PMD_SHIFT) if vma.thp else []:
                self.split_huge_page(at)
            for at, entry in self.tables.present_in(start, end, PAGE_SHIFT):
                count += self._swap_out_page(vma, HVA(at), entry)
        return count

    def _swap_out_page(self, vma: Vma, hva: HVA, entry: int) -> bool:
        frame = entry_frame(entry)
        if not entry & PRESENT:
            return False
        if entry & OWNED:
            if self.shared.is_shared(frame):
                return False
            with self.notifiers.invalidate(hva, HVA(hva + SIZE_4K)):
                place = self.swap.write_out(self.memory, frame, SIZE_4K)
                self.tables.set(hva, PAGE_SHIFT, swap_entry(place))
            self.frames.free(frame)
            return True
        if vma.file is None:
            return False
        index = vma.file_index(hva)
        self.unmap_file_page(vma.file, index)
        vma.file.pages[index] = self.memory.read(frame, SIZE_4K)
        self.frames.free(frame)
        return True

    def migrate(self, hva: HVA) -> None:
        """Move the page at ``hva`` to another frame, contents and all (``migrate_pages``).

        Raises
        ------
        KvmError
            EFAULT without a page there, EBUSY if it has several owners, ENOMEM without
            another frame.
        """
        vma, entry, shift = self._present(hva)
        old, size = entry_frame(entry), 1 << shift
        start = HVA(hva & -size)
        if (not entry & OWNED and vma.file is None) or self.shared.is_shared(old):
            raise KvmError(Errno.EBUSY, f"the page at hva {hva:#x} is not the area's own")
        new = self.frames.require(size, f"the page at hva {hva:#x}")
        if entry & OWNED:
            with self.notifiers.invalidate(start, HVA(start + size)):
                self.memory.write(new, self.memory.view(old, size))
                self.tables.set(start, shift, new | entry & PAGE_SIZE - 1)
        else:
            assert vma.file is not None
            index = vma.file_index(hva)
            self.unmap_file_page(vma.file, index)
            self.memory.write(new, self.memory.view(old, size))
            vma.file.pages[index] = new
        self.frames.free(old, size)

    def collapse(self, hva: HVA) -> None:
        """Make one huge page of the small ones around ``hva`` (MADV_COLLAPSE).

        Raises
        ------
        KvmError
            EINVAL unless the area is for huge pages and holds all 2 MiB; EBUSY if a page
            is in swap space, has failed or has several owners; ENOMEM without memory.
        """
        start = HVA(hva & -SIZE_2M)
        vma = self.vmas.lookup(start)
        if vma is None or not vma.thp or start < vma.start or start + SIZE_2M > vma.end:
            raise KvmError(
                Errno.EINVAL,
                f"the 2 MiB at hva {start:#x} are not in an area for huge pages; "
                "use mmap(private=True, thp=True)",
            )
        if self.tables.lookup(vma, start)[1] == PMD_SHIFT:
            return
        small = self.tables.present_in(start, start + SIZE_2M, PAGE_SHIFT)
        for at, entry in small:
            shared = entry & OWNED and self.shared.is_shared(entry_frame(entry))
            if not entry & PRESENT or shared:
                raise KvmError(Errno.EBUSY, f"the page at hva {at:#x} cannot be moved now")
        block = self.frames.require(SIZE_2M, f"a huge page at hva {start:#x}")
        with self.notifiers.invalidate(start, HVA(start + SIZE_2M)):
            for at, entry in small:
                self.memory.write(
                    PA(block + at - start), self.memory.view(entry_frame(entry), PAGE_SIZE)
                )
                self.tables.set(at, PAGE_SHIFT, 0)
                self.put_page(entry, PAGE_SHIFT)
            self.tables.pte_tables.discard(start >> PMD_SHIFT)
            self.tables.set(start, PMD_SHIFT, block | PRESENT | WRITE | OWNED)

    def _present(self, hva: int) -> tuple[Vma, int, int]:
        vma = self.vmas.lookup(hva)
        entry, shift = (0, 0) if vma is None else self.tables.lookup(vma, hva)
        if vma is None or not entry & PRESENT:
            raise KvmError(Errno.EFAULT, f"there is no page at hva {hva:#x}; touch it first")
        return vma, entry, shift

    # --- loss ----------------------------------------------------------------------------

    def discard(self, hva: HVA, size: int) -> None:
        """Forget the contents of a range (MADV_DONTNEED, and MADV_REMOVE of shared memory).

        The next access finds a page of zeros, or that of the file behind private memory.
        """
        for at in (hva, hva + size):
            if at % SIZE_2M:
                self.split_huge_page(at)
        for vma in self.vmas.overlapping(hva, hva + size):
            start, end = HVA(max(hva, vma.start)), HVA(min(hva + size, vma.end))
            with self.notifiers.invalidate(start, end):
                self.zap(vma, start, end)
            if vma.shared and vma.file is not None:
                last = vma.file_index(end - 1) + 1
                self.free_file_pages(vma.file, vma.file_index(start), last)

    def hwpoison(self, hva: HVA) -> None:
        """Let the memory behind ``hva`` fail (MADV_HWPOISON). Its frame is never used again.

        Raises
        ------
        KvmError
            EFAULT without a page there; EBUSY for the page of zeros and raw frames.
        """
        self.split_huge_page(hva)
        vma, entry, shift = self._present(hva)
        start = HVA(hva & -(1 << shift))
        if not entry & OWNED and vma.file is None:
            raise KvmError(Errno.EBUSY, f"the page of zeros at hva {hva:#x} does not fail")
        if not entry & OWNED:
            assert vma.file is not None
            index = vma.file_index(hva)
            self.unmap_file_page(vma.file, index)
            vma.file.pages[index] = POISONED
        with self.notifiers.invalidate(start, HVA(start + (1 << shift))):
            self.tables.set(start, shift, POISON)

    # --- copies --------------------------------------------------------------------------

    def fork(self) -> Fork:
        """Return a copy of the address space as it is now (fork(2)).

        Nothing is copied yet: private pages are shared, and whoever writes one first
        gets a copy of his own. A transparent huge page is mapped by small pages first.
        """
        entries: dict[int, tuple[PA, int]] = {}
        swapped: dict[int, bytes] = {}
        for vma in list(self.vmas):
            if vma.shared:
                continue
            for at, _ in self.tables.present_in(vma.start, vma.end, PMD_SHIFT) if vma.thp else []:
                self.split_huge_page(at)
            with self.notifiers.invalidate(vma.start, vma.end):
                for at, entry in self.tables.present_in(vma.start, vma.end, vma.page_shift):
                    if entry & PRESENT and entry & OWNED:
                        self.shared.get(entry_frame(entry))
                        self.tables.set(at, vma.page_shift, entry & ~WRITE)
                        entries[at] = entry_frame(entry), vma.page_shift
                    elif entry & SWAPPED:
                        swapped[at] = self.swap.read(swap_place(entry))
        return Fork(self, entries, swapped)

    # --- userfaultfd ---------------------------------------------------------------------

    def userfault_register(
        self,
        hva: HVA,
        size: int,
        handler: Callable[[UserfaultMessage], None],
        mode: UserfaultMode = UserfaultMode.MISSING,
    ) -> Userfault:
        """Have ``handler`` supply the pages of a range that are missed (UFFDIO_REGISTER).

        Raises
        ------
        KvmError
            EINVAL if the range has a hole; EBUSY if part of it has a handler.
        """
        registration = Userfault(handler, mode)
        vmas = self.vmas.overlapping(hva, hva + size)
        if sum(min(hva + size, v.end) - max(hva, v.start) for v in vmas) != size:
            raise KvmError(
                Errno.EINVAL, f"hva {hva:#x} with size {size:#x} is not mapped throughout"
            )
        if any(vma.userfault is not None for vma in vmas):
            raise KvmError(Errno.EBUSY, f"hva {hva:#x} has a handler; unregister it first")
        self._set_userfault(hva, size, registration)
        return registration

    def userfault_unregister(self, hva: HVA, size: int) -> None:
        """Have no handler for a range any more (UFFDIO_UNREGISTER)."""
        self._set_userfault(hva, size, None)

    def _set_userfault(self, hva: int, size: int, registration: Userfault | None) -> None:
        parts = []
        for vma in self.vmas.overlapping(hva, hva + size):
            part = vma.part(max(hva, vma.start), min(hva + size, vma.end))
            part.userfault = registration
            parts.append(part)
        self.vmas.replace(hva, hva + size, parts)

    def userfault_copy(self, hva: HVA, data: bytes) -> None:
        """Supply a page (UFFDIO_COPY).

        Raises
        ------
        KvmError
            EINVAL unless it is one page; EEXIST if there is one; ENOMEM without memory.
        """
        vma, shift = self._missing(hva)
        if len(data) != 1 << shift:
            raise KvmError(Errno.EINVAL, f"a page is {1 << shift:#x} bytes, not {len(data):#x}")
        frame = self.frames.require(1 << shift, f"the page at hva {hva:#x}")
        self.memory.write(frame, data)
        if vma.file is not None and vma.shared:
            vma.file.pages[vma.file_index(hva)] = frame
            self.tables.set(hva, shift, frame | PRESENT | WRITE)
        else:
            self.tables.set(hva, shift, frame | PRESENT | WRITE | OWNED)
            if vma.thp:
                self.tables.pte_tables.add(hva >> PMD_SHIFT)

    def userfault_zeropage(self, hva: HVA) -> None:
        """Supply a page of zeros (UFFDIO_ZEROPAGE)."""
        _, shift = self._missing(hva)
        self.userfault_copy(hva, bytes(1 << shift))

    def userfault_continue(self, hva: HVA) -> None:
        """Let the page that the file has in (UFFDIO_CONTINUE).

        Raises
        ------
        KvmError
            EFAULT if the file has none, EEXIST if it is there already.
        """
        vma = self.vmas.lookup(hva)
        file = None if vma is None else vma.file
        if vma is None or file is None or vma.file_index(hva) not in file.pages:
            raise KvmError(Errno.EFAULT, f"no file has a page for hva {hva:#x}; use userfault_copy")
        if self.tables.lookup(vma, hva)[0]:
            raise KvmError(Errno.EEXIST, f"hva {hva:#x} has its page already")
        frame = self.file_page(file, vma.file_index(hva))
        if not isinstance(frame, int):
            raise KvmError(Errno.EHWPOISON, f"hva {hva:#x} cannot be had: {frame.value}")
        self.tables.set(hva, vma.page_shift, frame | PRESENT | (WRITE if vma.shared else 0))

    def _missing(self, hva: int) -> tuple[Vma, int]:
        vma = self.vmas.lookup(hva)
        if vma is None or vma.pfn is not None or hva & (1 << vma.page_shift) - 1:
            raise KvmError(Errno.EINVAL, f"hva {hva:#x} is not the start of a page of memory")
        there = self.tables.lookup(vma, hva)[0]
        if there or (vma.shared and vma.file is not None and vma.file_index(hva) in vma.file.pages):
            raise KvmError(Errno.EEXIST, f"hva {hva:#x} has its page already")
        return vma, vma.page_shift
