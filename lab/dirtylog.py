"""User space's side of dirty logging: collect the log again and again, and copy by it.

This is what live migration does to memory. All of it is copied once; from then on only
what the log names is copied again. If the log loses no page, the copy is equal in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import IPA, PAGE_SIZE
from hyp.dirty import DirtyBitmap, dirty_pages
from hyp.dirty_log import ManualProtect
from hyp.dirty_ring import ENTRY_SIZE, RingReader
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import Cap
from lab.config import DirtyProtect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hyp.dirty_ring import DirtyRing
    from hyp.memslots import MemorySlot
    from hyp.vm import VM
    from lab.config import RunConfig

_PROTECT = {
    DirtyProtect.AUTO: 0,
    DirtyProtect.MANUAL: ManualProtect.ENABLE,
    DirtyProtect.INITIALLY_SET: ManualProtect.ENABLE | ManualProtect.INITIALLY_SET,
}

_UNTOUCHED = bytes(PAGE_SIZE)

Page = tuple[int, int]
"""A slot's number, and the number of a page in it."""


class Round(NamedTuple):
    """One collection of the log."""

    instructions: int
    """How many had retired."""
    pages: int
    """How many pages it named."""


class Harvest(NamedTuple):
    """What came of collecting the log during a run."""

    rounds: tuple[Round, ...]
    lost: tuple[IPA, ...]
    """Pages whose copy, made by the log alone, differs from the guest's memory."""


def enable_dirty_log(vm: VM, config: RunConfig) -> None:
    """Choose the form of the dirty log, before there are slots."""
    vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, _PROTECT[config.dirty_protect])
    if config.eager_split:
        vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, config.eager_split)
    if config.dirty_ring:
        vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, config.dirty_ring * ENTRY_SIZE)
        vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)


class DirtyTracker:
    """Starts the log, collects it when that is due, and says what it held.

    Parameters
    ----------
    vm : VM
        The VM, with its slots.
    config : RunConfig
        Which slots are logged, how, and when.
    rings : Sequence[DirtyRing or None]
        The rings of the vCPUs, if the VM logs in rings.
    retired : Callable[[], int]
        The instructions retired so far.

    Attributes
    ----------
    due : int or None
        The number of retired instructions at which :meth:`act` is to be called.
    rounds : list[Round]
        The collections so far.
    """

    def __init__(
        self,
        vm: VM,
        config: RunConfig,
        rings: Sequence[DirtyRing | None],
        *,
        retired: Callable[[], int],
    ) -> None:
        self._vm, self._config, self._retired = vm, config, retired
        self._readers = [RingReader(ring) for ring in rings if ring is not None]
        self._slots = [slot.id for slot in config.all_slots if slot.log_dirty]
        self._seen: set[Page] = set()
        self._copy: dict[Page, bytes] = {}
        self._started = False
        self.rounds: list[Round] = []
        self.due: int | None = config.dirty_after or None

    @property
    def _protect(self) -> DirtyProtect:
        return self._config.dirty_protect

    def act(self) -> None:
        """Do what is due."""
        if self._started:
            self.collect()
        else:
            for slot in map(self._slot, self._slots):
                flags = slot.flags | MemoryRegionFlags.LOG_DIRTY_PAGES
                self._vm.set_user_memory_region(
                    MemoryRegion(slot.id, flags, slot.base_ipa, slot.size, slot.userspace_addr)
                )
            self.start()
        self._plan()

    def start(self) -> None:
        """Make the first copy; from now on the slots are logged."""
        self._started = True
        # Where all pages start dirty, the first collection copies them.
        if self._config.harvest_every and self._protect is not DirtyProtect.INITIALLY_SET:
            self._take_over(
                (slot.id, page)
                for slot in map(self._slot, self._slots)
                for page in range(slot.npages)
            )
        self._plan()

    def collect(self) -> None:
        """Take what the log holds; the next write to each of these pages is seen again."""
        self._collect(rearm=True)

    def finish(self) -> Harvest | None:
        """Collect a last time, and compare the copy with memory if there is one."""
        if self._started:
            self._collect(rearm=False)
        if not self._config.harvest_every:
            return None
        lost = [
            IPA(slot.base_ipa + page * PAGE_SIZE)
            for slot in map(self._slot, self._slots)
            for page in range(slot.npages)
            if self._started
            and self._read(slot, page) != self._copy.get((slot.id, page), _UNTOUCHED)
        ]
        return Harvest(tuple(self.rounds), tuple(lost))

    def bitmap(self, slot_id: int) -> bytes:
        """Return all pages of a slot that were ever collected, as KVM_GET_DIRTY_LOG would."""
        bitmap = DirtyBitmap(self._slot(slot_id).npages)
        for of, page in self._seen:
            if of == slot_id:
                bitmap.set(page)
        return bitmap.copy()

    def _plan(self) -> None:
        every = self._config.harvest_every
        self.due = self._retired() + every if every else None

    def _collect(self, *, rearm: bool) -> None:
        pages = self._from_rings()
        # Beside rings, bitmaps have what devices wrote while no vCPU ran, or a ring was full.
        named = set(pages)
        pages += (page for page in self._from_bitmaps(rearm=rearm) if page not in named)
        self.rounds.append(Round(self._retired(), len(pages)))
        self._seen.update(pages)
        # They are protected by now: what is written from here on is in the next round.
        if self._config.harvest_every:
            self._take_over(pages)

    def _from_rings(self) -> list[Page]:
        pages = [page for reader in self._readers for page in reader.harvest()]
        if self._readers:
            self._vm.reset_dirty_rings()
        return pages

    def _from_bitmaps(self, *, rearm: bool) -> list[Page]:
        pages: list[Page] = []
        for slot_id in self._slots:
            bitmap = self._vm.get_dirty_log(slot_id)
            if rearm and self._protect is not DirtyProtect.AUTO:
                self._vm.clear_dirty_log(slot_id, 0, self._slot(slot_id).npages, bitmap)
            pages += ((slot_id, page) for page in dirty_pages(bitmap))
        return pages

    def _take_over(self, pages: Iterable[Page]) -> None:
        for slot_id, page in pages:
            contents = self._read(self._slot(slot_id), page)
            if contents != _UNTOUCHED or (slot_id, page) in self._copy:
                self._copy[slot_id, page] = contents

    def _read(self, slot: MemorySlot, page: int) -> bytes:
        return self._vm.host.read(HVA(slot.userspace_addr + page * PAGE_SIZE), PAGE_SIZE)

    def _slot(self, slot_id: int) -> MemorySlot:
        slot = self._vm.memslots.get(slot_id)
        assert slot is not None, "slots stay as long as the VM"
        return slot
