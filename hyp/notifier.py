"""MMU notifiers, KVM's side (virt/kvm/kvm_main.c: ``kvm_mmu_notifier_ops``).

A fault handler samples ``seq``, looks a host page up, and installs it only if
``retry`` says that the host has not changed the range in between. Everything that
the host takes away is unmapped from stage 2 before it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA, PAGE_SHIFT, PAGE_SIZE
from hyp.events import KvmAgeHva, KvmSetSpteHva, KvmTestAgeHva, KvmUnmapHvaRange
from hyp.pte import Prot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.arch.address import PA
    from hyp.events import Event
    from hyp.host import HVA
    from hyp.vm import VM


class KvmMmuNotifier:
    """The notifier of one VM.

    Parameters
    ----------
    vm
        Whose stage 2 follows the host's tables.

    Attributes
    ----------
    seq
        ``mmu_invalidate_seq``: how many invalidations have ended.
    in_progress
        ``mmu_invalidate_in_progress``: how many are under way in the VM's slots.
    active
        ``mn_active_invalidate_count``: how many are under way anywhere. A memory slot
        is not exchanged until there is none.
    range_start, range_end
        The pages (gfn, end exclusive) that the invalidations under way concern.
    """

    __slots__ = (
        "__weakref__",
        "_open",
        "_vm",
        "active",
        "in_progress",
        "range_end",
        "range_start",
        "seq",
    )

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self._open: list[tuple[int, int]] = []
        self.seq = 0
        self.in_progress = 0
        self.active = 0
        self.range_start = self.range_end = 0

    # --- the fault handler's questions ---------------------------------------------------

    def retry(self, seq: int) -> bool:
        """Return whether what was looked up after ``seq`` may be stale (``mmu_invalidate_retry``).

        Parameters
        ----------
        seq
            ``self.seq``, as it was before the look-up.
        """
        return self.in_progress != 0 or self.seq != seq

    def retry_gfn(self, seq: int, gfn: int) -> bool:
        """As ``retry``, but another page's invalidation does not count while it is under way."""
        if self.in_progress and self.range_start <= gfn < self.range_end:
            return True
        return self.seq != seq

    # --- the host's calls ----------------------------------------------------------------

    def invalidate_range_start(self, start: HVA, end: HVA) -> None:
        """Unmap a range that is about to change, and let no fault map it again."""
        self._emit(KvmUnmapHvaRange(-1, 0, start, end))
        self.active += 1
        found = list(self._gfn_ranges(start, end))
        if not found:
            return
        if not self.in_progress:
            self.range_start, self.range_end = found[0]
        self.in_progress += 1
        self._open.append((start, end))
        for first, last in found:
            self.range_start = min(self.range_start, first)
            self.range_end = max(self.range_end, last)
            self._vm.pgt.unmap(IPA(first << PAGE_SHIFT), (last - first) << PAGE_SHIFT)

    def invalidate_range_end(self, start: HVA, end: HVA) -> None:
        """Let faults map the range again; those that looked it up before try again."""
        # What began in a slot ends, whether or not the slot is still there.
        if (start, end) in self._open:
            self._open.remove((start, end))
            self.seq += 1
            self.in_progress -= 1
        self.active -= 1

    def change_pte(self, hva: HVA, pa: PA) -> None:
        """Map a page that was copied for a write at once, read-only (``kvm_set_spte_gfn``).

        That saved a fault of the next reader until v6.10. There is no spare page for a table:
        if the invalidation took the last page out of one, or took a block, nothing is mapped.
        """
        if not self._vm.profile.change_pte or not self.in_progress:
            return
        self._emit(KvmSetSpteHva(-1, 0, hva))
        pgt = self._vm.pgt
        # Before v4.16 a page that is not executable is a fault that nobody handles.
        prot = Prot.R if pgt.cmo.rules.lazy_exec else Prot.R | Prot.X
        for first, _ in self._gfn_ranges(hva, hva + 1):
            pgt.cmo.before_map(pa, PAGE_SIZE, is_exec=False, is_permission=False)
            pgt.map(IPA(first << PAGE_SHIFT), PAGE_SIZE, pa, prot, None)

    def clear_young(self, start: HVA, end: HVA) -> bool:
        """Clear access flags; a TLB may keep a page that then looks unused (``kvm_age_gfn``)."""
        self._emit(KvmAgeHva(-1, 0, start, end))
        return self._age(start, end, mkold=True)

    def clear_flush_young(self, start: HVA, end: HVA) -> bool:
        """Clear access flags and flush the TLB, so that the next use is seen."""
        young = self.clear_young(start, end)
        if young:
            self._vm.pgt.tlb.flush_vmid()
        return young

    def test_young(self, hva: HVA) -> bool:
        """Return whether the page has its access flag set (``kvm_test_age_gfn``)."""
        self._emit(KvmTestAgeHva(-1, 0, hva))
        return self._age(hva, hva + 1, mkold=False)

    def _age(self, start: int, end: int, *, mkold: bool) -> bool:
        young = False
        for first, last in self._gfn_ranges(start, end):
            ipa, size = IPA(first << PAGE_SHIFT), (last - first) << PAGE_SHIFT
            young |= self._vm.pgt.test_clear_young(ipa, size, mkold)
        return young

    def _gfn_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where the slots have a part of a range: first page, and one past the last."""
        for slot in self._vm.memslots:
            low = max(start, slot.userspace_addr) - slot.userspace_addr
            high = min(end, slot.userspace_addr + slot.size) - slot.userspace_addr
            if low < high:
                yield (
                    slot.base_gfn + (low >> PAGE_SHIFT),
                    slot.base_gfn + (high - 1 >> PAGE_SHIFT) + 1,
                )

    def _emit(self, event: Event) -> None:
        emit = self._vm.events.emit
        if emit is not None:
            emit(event)
