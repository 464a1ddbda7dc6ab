"""A migration: memory copied once when logging starts, and from then on only what the log names.

What the VMM changes itself it knows without a log, and so does it know that a slot without
logging shows the same page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.dirty import dirty_pages
from hyp.dirty_ring import RingReader
from hyp.errors import KvmError
from hyp.host import HVA
from tests.hyp.invariants.model import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vm import VM
    from tests.hyp.invariants.model import Slot


def page_of(vm: VM, slot: Slot, page: int) -> bytes | None:
    """Return a page of a slot as the VMM reads it; ``None`` if it cannot."""
    try:
        return vm.host.read(HVA(slot.area.hva(slot.first + page)), PAGE)
    except KvmError:
        return None


class Sender:
    """Copies the logged slots of a VM.

    Parameters
    ----------
    vm
        The VM. Its vCPUs exist.
    """

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        self.copies: dict[int, dict[int, bytes | None]] = {}
        self.readers = [
            RingReader(vcpu.dirty_ring) for vcpu in vm.vcpus.values() if vcpu.dirty_ring is not None
        ]
        self.harvested: dict[int, set[int]] = {}

    def start(self, slot: Slot) -> None:
        """Send all of a slot."""
        self.harvested[slot.number] = set()
        copy = self.copies[slot.number] = {}
        for page in range(slot.npages):
            data = page_of(self.vm, slot, page)
            if data is None or any(data):
                copy[page] = data

    def take(self, slots: dict[int, Slot], between: Callable[[], None]) -> dict[int, set[int]]:
        """Collect all logs, and send what they name.

        Parameters
        ----------
        slots
            The logged slots.
        between
            Called when the logs are copied, but not all of them reset.

        Returns
        -------
        dict
            The pages that the logs named, by slot.
        """
        vm, log = self.vm, self.vm.dirty_log
        for reader in self.readers:
            for number, page in reader.harvest():
                self.harvested[number].add(page)
        bitmaps = {n: vm.get_dirty_log(n) for n in slots} if log.uses_bitmap else {}
        between()
        if self.readers:
            vm.reset_dirty_rings()
        for number, bitmap in bitmaps.items():
            if log.manual_protect:
                vm.clear_dirty_log(number, 0, slots[number].npages, bitmap)
            self.harvested[number] |= set(dirty_pages(bitmap))
        named = {number: self.harvested[number] for number in slots}
        self.harvested = {number: set() for number in slots}
        for number, pages in named.items():
            for page in pages:
                self.copies[number][page] = page_of(vm, slots[number], page)
        return named

    def resend(self, slot: Slot, page: int) -> None:
        """Send a page that the VMM has changed itself."""
        if slot.number in self.copies:
            self.copies[slot.number][page] = page_of(self.vm, slot, page)

    def stop(self, slot: Slot) -> dict[int, bytes | None]:
        """Return the copy of a slot that is logged no longer."""
        self.harvested.pop(slot.number)
        return self.copies.pop(slot.number)
