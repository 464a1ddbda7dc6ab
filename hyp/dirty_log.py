"""Dirty logging of a VM: who marks pages, and the ioctls that collect the marks.

A slot with LOG_DIRTY_PAGES is mapped read-only, page by page, so that the first
write to each page faults and marks it (virt/kvm/kvm_main.c, arch/arm64/kvm/mmu.c).
Collecting protects the pages again.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PAGE_SHIFT
from hyp.dirty import WORD_BITS, DirtyBitmap
from hyp.dirty_ring import DirtyRing, check_ring_size
from hyp.eager_split import EagerSplit
from hyp.errors import Errno, KvmError
from hyp.memslots import MemoryRegionFlags
from hyp.steps import Step
from hyp.wrprotect import wrprotect_words

if TYPE_CHECKING:
    from hyp.dirty import DirtyWords
    from hyp.memslots import MemoryRegion, MemorySlot
    from hyp.vcpu import VCPU
    from hyp.vm import VM


class ManualProtect(IntFlag):
    """The argument of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2."""

    ENABLE = 1
    """KVM_GET_DIRTY_LOG only copies; KVM_CLEAR_DIRTY_LOG clears and protects."""
    INITIALLY_SET = 2
    """All pages start dirty, and nothing is protected until it is cleared."""


class DirtyLog:
    """The dirty logging of one VM.

    Parameters
    ----------
    vm
        The VM.

    Attributes
    ----------
    manual_protect
        What KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 was set to.
    ring_size
        The size in bytes of each vCPU's dirty ring; 0 without rings.
    ring_with_bitmap
        Whether slots have a bitmap beside the rings, for writers that are no vCPU.
    split
        Eager splitting of blocks.
    """

    __slots__ = ("_vm", "manual_protect", "ring_size", "ring_with_bitmap", "split")

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self.manual_protect = ManualProtect(0)
        self.ring_size = 0
        self.ring_with_bitmap = False
        self.split = EagerSplit(vm)

    # --- capabilities --------------------------------------------------------------------

    def enable_manual_protect(self, value: int) -> None:
        """Set KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.

        Raises
        ------
        KvmError
            EINVAL for a value other than 0, ENABLE, or both flags.
        """
        if value not in (0, 1, 3):
            raise KvmError(
                Errno.EINVAL,
                f"manual protection {value:#x} does not exist; use ENABLE (1), or "
                "ENABLE | INITIALLY_SET (3), or 0",
            )
        self.manual_protect = ManualProtect(value)

    def enable_ring(self, size: int) -> None:
        """Give each vCPU to come a dirty ring (KVM_CAP_DIRTY_LOG_RING_ACQ_REL).

        Raises
        ------
        KvmError
            EINVAL for a size that is not possible, a second call, or once there are
            vCPUs; E2BIG for more than 65536 entries.
        """
        check_ring_size(size)
        if self.ring_size:
            raise KvmError(
                Errno.EINVAL, f"the dirty rings have {self.ring_size:#x} bytes and keep them"
            )
        if self._vm.vcpus:
            raise KvmError(
                Errno.EINVAL,
                f"{len(self._vm.vcpus)} vCPUs exist without a dirty ring; "
                "enable the capability before create_vcpu",
            )
        self.ring_size = size

    def enable_ring_with_bitmap(self) -> None:
        """Give slots a bitmap beside the rings (KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP).

        Raises
        ------
        KvmError
            EINVAL without rings, or once there are memory slots.
        """
        if not self.ring_size:
            raise KvmError(
                Errno.EINVAL, "there is no dirty ring; enable DIRTY_LOG_RING_ACQ_REL first"
            )
        if len(self._vm.memslots):
            raise KvmError(
                Errno.EINVAL,
                f"{len(self._vm.memslots)} memory slots exist; enable the capability before them",
            )
        self.ring_with_bitmap = True

    @property
    def uses_bitmap(self) -> bool:
        """Whether slots that log get a bitmap (``kvm_use_dirty_bitmap``)."""
        return not self.ring_size or self.ring_with_bitmap

    @property
    def initially_set(self) -> bool:
        """Whether new bitmaps are all ones (``kvm_dirty_log_manual_protect_and_init_set``)."""
        return bool(self.manual_protect & ManualProtect.INITIALLY_SET)

    def new_ring(self) -> DirtyRing | None:
        """Return the ring of a new vCPU."""
        return DirtyRing(self.ring_size) if self.ring_size else None

    # --- a slot changes ------------------------------------------------------------------

    def bitmap_for(self, region: MemoryRegion, old: MemorySlot | None) -> DirtyBitmap | None:
        """Return the bitmap of a slot to be: the old one goes on if pages stay logged."""
        if not region.flags & MemoryRegionFlags.LOG_DIRTY_PAGES:
            return None
        if old is not None and old.dirty_bitmap is not None:
            return old.dirty_bitmap
        if not self.uses_bitmap:
            return None
        bitmap = DirtyBitmap(region.memory_size >> PAGE_SHIFT)
        if self.initially_set:
            bitmap.set_all()
        return bitmap

    def commit(self, slot: MemorySlot | None) -> None:
        """Act on a slot that is in place, or deleted (``kvm_arch_commit_memory_region``)."""
        if slot is None or not slot.logs_dirty:
            self.split.free_cache()
            return
        if self.initially_set:
            # Protected and split bit by bit, as user space clears it.
            return
        self._vm.pgt.wrprotect(slot.base_ipa, slot.size)
        self._flush(slot)
        self.split.split_range(slot.base_ipa, slot.size)

    # --- marks ---------------------------------------------------------------------------

    def mark_page_dirty_in_slot(self, slot: MemorySlot, gfn: int, vcpu: VCPU | None) -> None:
        """Mark a page that was written.

        Parameters
        ----------
        slot, gfn
            The page.
        vcpu
            The vCPU that runs; ``None`` for a writer on behalf of user space.
        """
        if not slot.logs_dirty:
            return
        if vcpu is not None and vcpu.dirty_ring is not None:
            vcpu.dirty_ring.push(slot.id, gfn - slot.base_gfn)
        elif slot.dirty_bitmap is not None:
            slot.dirty_bitmap.set(gfn - slot.base_gfn)

    # --- ioctls --------------------------------------------------------------------------

    def get(self, slot_id: int) -> bytes:
        """Serve KVM_GET_DIRTY_LOG; see :meth:`hyp.vm.VM.get_dirty_log`."""
        self._require_bitmaps()
        slot, bitmap = self._logged_slot(slot_id)
        copy = bitmap.copy()
        if not self.manual_protect:
            self._rearm(slot, bitmap.take())
        return copy

    def clear(self, slot_id: int, first_page: int, num_pages: int, bitmap: bytes) -> None:
        """Serve KVM_CLEAR_DIRTY_LOG; see :meth:`hyp.vm.VM.clear_dirty_log`."""
        self._require_bitmaps()
        if first_page % WORD_BITS:
            raise KvmError(
                Errno.EINVAL, f"first_page {first_page} is not a multiple of {WORD_BITS}"
            )
        slot, log = self._logged_slot(slot_id)
        left = slot.npages - first_page
        if first_page < 0 or not 0 <= num_pages <= left:
            raise KvmError(
                Errno.EINVAL,
                f"pages {first_page} to {first_page + num_pages - 1} are not all in slot "
                f"{slot_id}, which has {slot.npages}",
            )
        if num_pages < left and num_pages % WORD_BITS:
            raise KvmError(
                Errno.EINVAL,
                f"num_pages {num_pages} is neither a multiple of {WORD_BITS} nor the rest of "
                f"the slot ({left})",
            )
        size = 8 * -(-num_pages // WORD_BITS)
        if len(bitmap) < size:
            raise KvmError(
                Errno.EFAULT,
                f"the bitmap has {len(bitmap)} bytes; {num_pages} pages need {size}, whole words",
            )
        self._rearm(slot, log.clear(first_page, bitmap[:size]))

    def reset_rings(self) -> int:
        """Serve KVM_RESET_DIRTY_RINGS; see :meth:`hyp.vm.VM.reset_dirty_rings`."""
        if not self.ring_size:
            raise KvmError(
                Errno.EINVAL, "there is no dirty ring; enable DIRTY_LOG_RING_ACQ_REL first"
            )
        count = 0
        for vcpu in self._vm.vcpus.values():
            assert vcpu.dirty_ring is not None, "rings come before vCPUs"
            before = vcpu.dirty_ring.used
            for slot_id, offset, mask in vcpu.dirty_ring.reset():
                self._reset_dirty_gfn(slot_id, offset, mask)
            count += before - vcpu.dirty_ring.used
        if count:
            self._vm.pgt.tlb.flush_vmid()
        return count

    def _reset_dirty_gfn(self, slot_id: int, offset: int, mask: int) -> None:
        """Protect what a ring gave back, unless the slot has gone or shrunk meanwhile."""
        slot = self._vm.memslots.get(slot_id)
        last = offset + mask.bit_length()
        if slot is None or last > slot.npages:
            return
        first_bit = (mask & -mask).bit_length() - 1
        start, size = self._range(slot, offset + first_bit, last - offset - first_bit)
        self._vm.pgt.wrprotect(start, size)
        if self.initially_set:
            self.split.split_range(start, size)

    def _require_bitmaps(self) -> None:
        if not self.uses_bitmap:
            raise KvmError(
                Errno.ENXIO,
                "this VM logs in dirty rings; harvest them, or enable DIRTY_LOG_RING_WITH_BITMAP",
            )

    def _logged_slot(self, slot_id: int) -> tuple[MemorySlot, DirtyBitmap]:
        slot = self._vm.memslots.by_id(slot_id)
        if slot is None or slot.dirty_bitmap is None:
            raise KvmError(
                Errno.ENOENT,
                f"slot {slot_id} has no dirty bitmap; set LOG_DIRTY_PAGES on it first",
            )
        return slot, slot.dirty_bitmap

    def _rearm(self, slot: MemorySlot, words: DirtyWords) -> None:
        """Have the next write to these pages fault (``enable_log_dirty_pt_masked``)."""
        if not words:
            return
        pgt, memory = self._vm.pgt, self._vm.machine.memory
        self._vm.steps.do(Step.WRPROTECT, wrprotect_words, pgt, memory, slot.base_gfn, words)
        if self.initially_set and self.split.chunk_size:
            for first, count in words.ranges():
                self.split.split_range(*self._range(slot, first, count))
        self._flush(slot)

    @staticmethod
    def _range(slot: MemorySlot, first_page: int, count: int) -> tuple[IPA, int]:
        return IPA((slot.base_gfn + first_page) << PAGE_SHIFT), count << PAGE_SHIFT

    def _flush(self, slot: MemorySlot) -> None:
        self._vm.pgt.tlb.flush_vmid_range(slot.base_ipa, slot.size)
