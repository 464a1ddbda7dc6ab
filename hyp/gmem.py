"""guest_memfd: memory of a guest that need not be in the VMM's address space.

The file belongs to one VM. Slots are bound to ranges of it, and the guest's faults
are answered from the file (``gmem_abort``); user space sees its pages only by mapping
the file. (virt/kvm/guest_memfd.c)
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from hyp.errors import Errno, KvmError
from hyp.exits import Error, MemoryFault
from hyp.fault_info import PERMISSION
from hyp.memslots import MemoryRegion2
from hyp.pte import Prot
from hyp.stats import Resolution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyp.exits import Exit
    from hyp.fault_info import FaultInfo
    from hyp.memslots import MemoryRegion, MemorySlot
    from hyp.vcpu import VCPU
    from hyp.vm import VM


class GuestMemfdFlags(IntFlag):
    """The GUEST_MEMFD_FLAG_* flags."""

    MMAP = 1
    """User space may map the file."""
    INIT_SHARED = 2
    """Its pages may be touched by user space."""


class GuestMemfd:
    """The file that KVM_CREATE_GUEST_MEMFD makes.

    Parameters
    ----------
    vm
        The VM whose memory it is.
    size
        In bytes; a multiple of the page size.
    flags
        A combination of :class:`GuestMemfdFlags`.

    Raises
    ------
    KvmError
        EINVAL for unknown flags or a size that is not possible.
    """

    __slots__ = ("_bindings", "_pages", "_poisoned", "flags", "size", "vm")

    def __init__(self, vm: VM, size: int, flags: int = 0) -> None:
        if flags & ~3:
            raise KvmError(
                Errno.EINVAL,
                f"flags {flags:#x} has unknown bits; use MMAP (1) and INIT_SHARED (2)",
            )
        if size <= 0 or size & PAGE_MASK:
            raise KvmError(
                Errno.EINVAL, f"a guest_memfd has a positive number of whole pages, not {size:#x}"
            )
        self.vm = vm
        self.size = size
        self.flags = GuestMemfdFlags(flags)
        self._pages: dict[int, PA] = {}
        self._poisoned: set[int] = set()
        self._bindings: list[MemorySlot] = []

    @property
    def is_accessible(self) -> bool:
        """Whether user space can map the file and touch its pages."""
        return self.flags == GuestMemfdFlags.MMAP | GuestMemfdFlags.INIT_SHARED

    # --- what the hypervisor does --------------------------------------------------------

    def overlaps(self, pgoff: int, npages: int) -> bool:
        """Whether a slot is bound to part of a range of pages."""
        return any(
            slot.gmem_pgoff < pgoff + npages and pgoff < slot.gmem_pgoff + slot.npages
            for slot in self._bindings
        )

    def bind(self, slot: MemorySlot) -> None:
        """Let a slot have its range of the file (``kvm_gmem_bind``)."""
        self._bindings.append(slot)

    def unbind(self, slot: MemorySlot) -> None:
        """Give a deleted slot's range free."""
        self._bindings.remove(slot)

    def page_at(self, pgoff: int) -> PA | None:
        """Return a page if it has come into being."""
        return self._pages.get(pgoff)

    def get_pfn(self, pgoff: int) -> PA | Errno:
        """Return a page, bringing it into being (``kvm_gmem_get_pfn``).

        Returns
        -------
        PA or Errno
            EHWPOISON for a page whose memory has failed; ENOMEM without memory.
        """
        if pgoff in self._poisoned:
            return Errno.EHWPOISON
        page = self._pages.get(pgoff)
        if page is None:
            page = self.vm.host.frames.allocate()
            if page is None:
                return Errno.ENOMEM
            self._pages[pgoff] = page
        return page

    # --- what user space does ------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """Read through a mapping of the file; untouched pages read as zeros.

        Raises
        ------
        KvmError
            ENODEV if the file cannot be mapped, EFAULT where the access would end in SIGBUS.
        """
        parts = []
        for pgoff, at, length in self._accessed(offset, size):
            page = self._pages.get(pgoff)
            memory = self.vm.machine.memory
            parts.append(bytes(length) if page is None else memory.read(PA(page + at), length))
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Write through a mapping of the file.

        Raises
        ------
        KvmError
            As for :meth:`read`; ENOMEM if memory has run out.
        """
        done = 0
        for pgoff, at, length in self._accessed(offset, len(data)):
            page = self.get_pfn(pgoff)
            if isinstance(page, Errno):
                raise KvmError(page, f"there is no page for offset {pgoff << PAGE_SHIFT:#x}")
            self.vm.machine.memory.write(PA(page + at), data[done : done + length])
            done += length

    def allocate(self, offset: int, size: int) -> None:
        """Bring pages into being (fallocate(2)).

        Raises
        ------
        KvmError
            EINVAL for a range that is not whole pages, or not in the file; ENOMEM.
        """
        self._check_pages(offset, size)
        if offset + size > self.size:
            raise KvmError(
                Errno.EINVAL,
                f"{offset + size:#x} is beyond the end of the guest_memfd, {self.size:#x}",
            )
        for pgoff in range(offset >> PAGE_SHIFT, (offset + size) >> PAGE_SHIFT):
            page = self.get_pfn(pgoff)
            if page is Errno.ENOMEM:
                raise KvmError(page, f"no memory left for offset {pgoff << PAGE_SHIFT:#x}")

    def punch_hole(self, offset: int, size: int) -> None:
        """Give pages back, and take them from the guest (FALLOC_FL_PUNCH_HOLE).

        The range may reach beyond the end of the file.

        Raises
        ------
        KvmError
            EINVAL for a range that is not whole pages.
        """
        self._check_pages(offset, size)
        first, end = offset >> PAGE_SHIFT, (offset + size) >> PAGE_SHIFT
        self._invalidate(first, end)
        for pgoff in [pgoff for pgoff in self._pages if first <= pgoff < end]:
            self.vm.host.frames.free(self._pages.pop(pgoff))
            self._poisoned.discard(pgoff)

    def poison(self, offset: int) -> None:
        """Have the memory of a page fail: nobody gets it from now on (memory_failure)."""
        pgoff = offset >> PAGE_SHIFT
        self._poisoned.add(pgoff)
        self._invalidate(pgoff, pgoff + 1)

    def _invalidate(self, first: int, end: int) -> None:
        """Take a range of pages from the guest, and from faults that have looked one up."""
        for slot in self._bindings:
            start = max(first, slot.gmem_pgoff)
            stop = min(end, slot.gmem_pgoff + slot.npages)
            if start < stop:
                gfn = slot.base_gfn + start - slot.gmem_pgoff
                self.vm.pgt.unmap(IPA(gfn << PAGE_SHIFT), stop - start << PAGE_SHIFT)
        self.vm.notifier.seq += 1

    def _check_pages(self, offset: int, size: int) -> None:
        if offset < 0 or size <= 0 or (offset | size) & PAGE_MASK:
            raise KvmError(
                Errno.EINVAL, f"offset {offset:#x} and size {size:#x} are not whole pages"
            )

    def _accessed(self, offset: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Cut an access by user space at page boundaries, if it is possible at all."""
        if not self.flags & GuestMemfdFlags.MMAP:
            raise KvmError(
                Errno.ENODEV, "the guest_memfd cannot be mapped; create it with the flag MMAP (1)"
            )
        if not self.flags & GuestMemfdFlags.INIT_SHARED:
            raise KvmError(
                Errno.EFAULT,
                "SIGBUS: the pages are private; create the guest_memfd with INIT_SHARED (2)",
            )
        end = offset + size
        if offset < 0 or end > self.size:
            raise KvmError(
                Errno.EFAULT,
                f"SIGBUS: offset {offset:#x} to {end - 1:#x} is not all in the guest_memfd of "
                f"{self.size:#x} bytes",
            )
        while offset < end:
            length = min(end - offset, PAGE_SIZE - (offset & PAGE_MASK))
            yield offset >> PAGE_SHIFT, offset & PAGE_MASK, length
            offset += length


def require_guest_memfd(vm: VM, call: str) -> None:
    """Refuse a call that came with guest_memfd, where the VM's profile has none.

    Raises
    ------
    KvmError
        EINVAL, which arm64 gives for an ioctl that it does not know.
    """
    if not vm.profile.guest_memfd:
        raise KvmError(
            Errno.EINVAL,
            f"KVM of {vm.profile.name} has no {call}; use profile 2026, or plain slots",
        )


def check_binding(vm: VM, region: MemoryRegion) -> None:
    """Check that a slot can be bound to its guest_memfd (``kvm_gmem_bind``).

    Raises
    ------
    KvmError
        EBADF without a file; EINVAL for one of another VM, or a range that is misaligned,
        beyond the end, or bound already.
    """
    assert isinstance(region, MemoryRegion2)
    gmem, offset = region.guest_memfd, region.guest_memfd_offset
    if gmem is None:
        raise KvmError(Errno.EBADF, "GUEST_MEMFD is set and guest_memfd is None; create one first")
    if gmem.vm is not vm:
        raise KvmError(Errno.EINVAL, "the guest_memfd belongs to another VM")
    if offset & PAGE_MASK or offset < 0 or offset + region.memory_size > gmem.size:
        raise KvmError(
            Errno.EINVAL,
            f"guest_memfd_offset {offset:#x} with memory_size {region.memory_size:#x} is not "
            f"whole pages within the guest_memfd of {gmem.size:#x} bytes",
        )
    if gmem.overlaps(offset >> PAGE_SHIFT, region.memory_size >> PAGE_SHIFT):
        raise KvmError(
            Errno.EINVAL,
            f"part of the guest_memfd from {offset:#x} on is bound to another slot; "
            "choose another offset",
        )


def gmem_abort(vcpu: VCPU, fault: FaultInfo, ipa: IPA, slot: MemorySlot) -> Exit | None:
    """Map the page of a guest_memfd behind ``ipa``: one page, and all that it may be used for.

    Returns
    -------
    Exit or None
        :class:`~hyp.exits.MemoryFault` if there is no page, ``Error`` without memory for
        tables; ``None`` to enter the guest again.
    """
    vm = vcpu.vm
    assert slot.gmem is not None
    page_ipa = IPA(ipa & ~PAGE_MASK)
    exit_: Exit | None = None
    error, resolution = Errno.ENOMEM, Resolution.FAILED
    if fault.fault is PERMISSION or not vcpu.memcache.topup(vm.geometry.cache_min_pages):
        seq = vm.notifier.seq
        page = slot.gmem.get_pfn((ipa >> PAGE_SHIFT) - slot.base_gfn + slot.gmem_pgoff)
        if isinstance(page, Errno):
            exit_ = MemoryFault(0, page_ipa, PAGE_SIZE, page)
        elif vm.notifier.retry(seq):
            resolution = Resolution.RETRIED
        else:
            error, resolution = _map(vcpu, fault, page_ipa, page)
    if resolution is Resolution.FAILED and exit_ is None:
        exit_ = Error(error, f"cannot map ipa {page_ipa:#x} at stage 2")
    vm.stats.aborts[fault.ec, fault.fsc, resolution] += 1
    return exit_


def _map(vcpu: VCPU, fault: FaultInfo, ipa: IPA, page: PA) -> tuple[Errno, Resolution]:
    """Install a page, or add the right to execute it."""
    vm = vcpu.vm
    prot = Prot.R | Prot.W
    if vm.pgt.cmo.executable(is_exec=fault.is_exec):
        prot |= Prot.X
    if fault.fault is PERMISSION:
        error, resolution = vm.pgt.relax_perms(ipa, prot), Resolution.RELAXED
    else:
        error, resolution = vm.pgt.map(ipa, PAGE_SIZE, page, prot, vcpu.memcache), Resolution.MAPPED
    if error is Errno.EAGAIN:
        return error, Resolution.RETRIED
    if error:
        return error, Resolution.FAILED
    if resolution is Resolution.MAPPED:
        vm.stats.pages_mapped[PAGE_SIZE] += 1
    return error, resolution
