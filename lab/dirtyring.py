"""User space's side of a dirty ring: harvest it when it is full, and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.dirty import DirtyBitmap
from hyp.dirty_ring import RingReader

if TYPE_CHECKING:
    from hyp.dirty_ring import DirtyRing
    from hyp.vm import VM


class RingCollector:
    """Collects the pages that a vCPU's ring names.

    Parameters
    ----------
    vm : VM
        The VM.
    ring : DirtyRing
        The ring of its vCPU.
    """

    def __init__(self, vm: VM, ring: DirtyRing) -> None:
        self._vm = vm
        self._reader = RingReader(ring)
        self._pages: set[tuple[int, int]] = set()

    def collect(self) -> None:
        """Empty the ring, so that the vCPU can run on."""
        self._pages.update(self._reader.harvest())
        self._vm.reset_dirty_rings()

    def bitmap(self, slot: int, npages: int) -> bytes:
        """Return all pages of a slot that the ring ever held, as KVM_GET_DIRTY_LOG would."""
        self.collect()
        bitmap = DirtyBitmap(npages)
        for of, page in self._pages:
            if of == slot:
                bitmap.set(page)
        return bitmap.copy()
