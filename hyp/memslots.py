"""Memory slots: which guest physical pages are backed by which host addresses."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Self

from emu.arch.address import IPA, PAGE_SHIFT
from hyp.errors import Errno, KvmError
from hyp.host import HVA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyp.dirty import DirtyBitmap
    from hyp.gmem import GuestMemfd

KVM_MEM_SLOTS_NUM = 32767
"""How many slots a VM can have; slot numbers are below this."""

KVM_MEM_MAX_NR_PAGES = (1 << 31) - 1
"""The largest slot, in pages."""


class MemoryRegionFlags(IntFlag):
    """The KVM_MEM_* flags."""

    LOG_DIRTY_PAGES = 1
    READONLY = 2
    GUEST_MEMFD = 4
    INVALID = 1 << 16
    """KVM_MEMSLOT_INVALID: the slot is being deleted or moved. Not for user space."""


GEN_UPDATE_IN_PROGRESS = 1 << 63
"""KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS: what was looked up may not be cached."""


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """``struct kvm_userspace_memory_region``: what user space asks for.

    Parameters
    ----------
    slot
        The number of the slot.
    flags
        A combination of ``MemoryRegionFlags``.
    guest_phys_addr, memory_size
        The range of guest physical memory; size 0 deletes the slot.
    userspace_addr
        Where the range starts in the VMM process.
    """

    slot: int
    flags: int
    guest_phys_addr: IPA
    memory_size: int
    userspace_addr: HVA


@dataclass(frozen=True, slots=True)
class MemoryRegion2(MemoryRegion):
    """``struct kvm_userspace_memory_region2``: with memory from a guest_memfd.

    Parameters
    ----------
    guest_memfd, guest_memfd_offset
        With the flag GUEST_MEMFD, the file that holds the slot's pages, and where in it.
    """

    guest_memfd: GuestMemfd | None = None
    guest_memfd_offset: int = 0


class MemorySlot:
    """``struct kvm_memory_slot``: one slot as the fault handler uses it.

    A slot is not changed once installed, its bitmap excepted; an update
    installs another slot.

    Attributes
    ----------
    gmem, gmem_pgoff
        The guest_memfd with the slot's pages, and the first of them there.
    readonly, logs_dirty
        The flags of these meanings.
    """

    __slots__ = (
        "base_gfn",
        "dirty_bitmap",
        "end_gfn",
        "flags",
        "gmem",
        "gmem_pgoff",
        "id",
        "logging",
        "logs_dirty",
        "npages",
        "readonly",
        "userspace_addr",
    )

    def __init__(
        self,
        *,
        slot_id: int,
        base_gfn: int,
        npages: int,
        userspace_addr: HVA,
        flags: MemoryRegionFlags,
        dirty_bitmap: DirtyBitmap | None,
        gmem: GuestMemfd | None = None,
        gmem_pgoff: int = 0,
    ) -> None:
        self.id = slot_id
        self.base_gfn = base_gfn
        self.npages = npages
        self.end_gfn = base_gfn + npages
        self.userspace_addr = userspace_addr
        self.flags = flags
        self.dirty_bitmap = dirty_bitmap
        self.gmem = gmem
        self.gmem_pgoff = gmem_pgoff
        self.readonly = bool(flags & MemoryRegionFlags.READONLY)
        self.logs_dirty = bool(flags & MemoryRegionFlags.LOG_DIRTY_PAGES)
        self.logging: bool = dirty_bitmap is not None and not self.readonly
        """``memslot_is_logging``: a bitmap exists and the slot can be written."""

    @classmethod
    def of(cls, region: MemoryRegion, dirty_bitmap: DirtyBitmap | None) -> Self:
        """Return the slot for a request."""
        gmem = region.guest_memfd if isinstance(region, MemoryRegion2) else None
        offset = region.guest_memfd_offset if isinstance(region, MemoryRegion2) else 0
        return cls(
            slot_id=region.slot,
            base_gfn=region.guest_phys_addr >> PAGE_SHIFT,
            npages=region.memory_size >> PAGE_SHIFT,
            userspace_addr=region.userspace_addr,
            flags=MemoryRegionFlags(region.flags),
            dirty_bitmap=dirty_bitmap,
            gmem=gmem,
            gmem_pgoff=offset >> PAGE_SHIFT,
        )

    def invalid(self) -> MemorySlot:
        """Return a copy whose memory must not be used any more."""
        return MemorySlot(
            slot_id=self.id,
            base_gfn=self.base_gfn,
            npages=self.npages,
            userspace_addr=self.userspace_addr,
            flags=self.flags | MemoryRegionFlags.INVALID,
            dirty_bitmap=self.dirty_bitmap,
            gmem=self.gmem,
            gmem_pgoff=self.gmem_pgoff,
        )

    @property
    def base_ipa(self) -> IPA:
        """The first address of the slot."""
        return IPA(self.base_gfn << PAGE_SHIFT)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.npages << PAGE_SHIFT

    def hva_of(self, gfn: int) -> HVA:
        """Return where the VMM process sees the page ``gfn`` of this slot."""
        return HVA(self.userspace_addr + ((gfn - self.base_gfn) << PAGE_SHIFT))

    def __repr__(self) -> str:
        return (
            f"MemorySlot({self.id}: ipa {self.base_ipa:#x} size {self.size:#x} "
            f"hva {self.userspace_addr:#x} {self.flags!r})"
        )


class MemSlots:
    """The slots of a VM: by number, and by page through bisection.

    Attributes
    ----------
    generation
        Changes with every change of the slots. What was derived from a lookup is
        good as long as the generation is the same and GEN_UPDATE_IN_PROGRESS was clear.
    """

    __slots__ = ("_base_gfns", "_by_gfn", "_by_id", "_last_used", "generation")

    def __init__(self) -> None:
        self.generation = 0
        self._by_id: dict[int, MemorySlot] = {}
        self._by_gfn: list[MemorySlot] = []
        self._base_gfns: list[int] = []
        self._last_used: MemorySlot | None = None

    def __iter__(self) -> Iterator[MemorySlot]:
        """Yield the slots whose memory can be used, by ascending address."""
        return iter(self._by_gfn)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, slot_id: int) -> MemorySlot | None:
        """Return the slot with this number, invalid or not (``id_to_memslot``)."""
        return self._by_id.get(slot_id)

    def by_id(self, slot_id: int) -> MemorySlot | None:
        """Return the slot with this number, or ``None``, once the number itself is checked.

        Raises
        ------
        KvmError
            EINVAL for a number that no slot can have.
        """
        if not 0 <= slot_id < KVM_MEM_SLOTS_NUM:
            raise KvmError(
                Errno.EINVAL,
                f"slot {slot_id} does not exist; slots are 0 to {KVM_MEM_SLOTS_NUM - 1}",
            )
        return self._by_id.get(slot_id)

    def find(self, gfn: int) -> MemorySlot | None:
        """Return the slot whose memory backs the page ``gfn``.

        ``None`` where ``gfn_to_hva`` gives an error address: outside all slots, and in
        one that is being deleted or moved.
        """
        slot = self._last_used
        if slot is not None and slot.base_gfn <= gfn < slot.end_gfn:
            return slot
        index = bisect_right(self._base_gfns, gfn) - 1
        if index < 0:
            return None
        slot = self._by_gfn[index]
        if gfn >= slot.end_gfn:
            return None
        self._last_used = slot
        return slot

    def overlapping(self, base_gfn: int, npages: int, except_id: int) -> MemorySlot | None:
        """Return a slot other than ``except_id`` that shares a page with the range."""
        end_gfn = base_gfn + npages
        first = max(bisect_right(self._base_gfns, base_gfn) - 1, 0)
        last = bisect_left(self._base_gfns, end_gfn)
        for slot in self._by_gfn[first:last]:
            if slot.id != except_id and slot.base_gfn < end_gfn and base_gfn < slot.end_gfn:
                return slot
        return None

    def install(self, slot: MemorySlot) -> None:
        """Put a slot in, in place of the one with the same number.

        An invalid slot is there by its number and backs no page.
        """
        self.remove(slot.id)
        self._by_id[slot.id] = slot
        if slot.flags & MemoryRegionFlags.INVALID:
            return
        index = bisect_left(self._base_gfns, slot.base_gfn)
        self._by_gfn.insert(index, slot)
        self._base_gfns.insert(index, slot.base_gfn)

    def remove(self, slot_id: int) -> None:
        """Take the slot with this number out, if there is one."""
        slot = self._by_id.pop(slot_id, None)
        self._last_used = None
        if slot is None or slot.flags & MemoryRegionFlags.INVALID:
            return
        index = bisect_left(self._base_gfns, slot.base_gfn)
        del self._by_gfn[index], self._base_gfns[index]
