"""Collecting the dirty log of a large guest: KVM_GET_DIRTY_LOG of a slot of 64 GiB, 1 % dirty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.rows import Row, Unit
from bench.timing import best_of, clock
from emu.arch.address import IPA, PA, PAGE_SHIFT, PAGE_SIZE
from emu.machine import Machine
from hyp.capabilities import Cap
from hyp.dirty_log import ManualProtect
from hyp.host import HVA, SIZE_2M
from hyp.memcache import MemoryCache
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.pte import Prot
from hyp.vm import VM

if TYPE_CHECKING:
    from bench.timing import Scale

BASE: Final = IPA(0x4000_0000)
SLOT_SIZE: Final = 64 << 30
EVERY: Final = 100
"""One page of so many is dirty: no two of them in one word of the bitmap."""
TABLE_SHARE: Final = 512
"""Memory for the tables: one for each 2 MiB, most of them with five dirty pages."""
LIMIT: Final = 0.05


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    size = scale.of(SLOT_SIZE // SIZE_2M) * SIZE_2M
    automatic, manual = Logged(size, ManualProtect(0)), Logged(size, ManualProtect.ENABLE)
    get, copy, clear = best_of(
        scale.rounds, automatic.harvest, manual.harvest, lambda: manual.harvest(clear=True)
    )
    return [
        Row("get 64 GiB, 1 % dirty", get, Unit.SECONDS, limit=LIMIT),
        Row("the same, manual: get", copy, Unit.SECONDS, limit=LIMIT),
        Row("the same, manual: clear", clear, Unit.SECONDS, limit=LIMIT),
    ]


class Logged:
    """A VM with a large slot that logs, and a guest that has written to part of its pages."""

    def __init__(self, size: int, protect: ManualProtect) -> None:
        self.vm = VM(Machine(size // TABLE_SHARE + (4 << 20)))
        self.vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, int(protect))
        # Nothing touches the memory itself, so there is none.
        self.vm.set_user_memory_region(
            MemoryRegion(0, MemoryRegionFlags.LOG_DIRTY_PAGES, BASE, size, HVA(1 << 32))
        )
        self.npages = size >> PAGE_SHIFT
        memcache = MemoryCache(self.vm.host.frames)
        for page in range(0, self.npages, EVERY):
            memcache.topup(self.vm.geometry.cache_min_pages)
            ipa = IPA(BASE + (page << PAGE_SHIFT))
            self.vm.pgt.map(ipa, PAGE_SIZE, PA(BASE), Prot.R | Prot.W, memcache)
        memory = self.vm.machine.memory
        self._written = memory.read(memory.base, memory.size)
        """Memory with the tables as they are once the guest has written."""

    def harvest(self, *, clear: bool = False) -> float:
        """Have the guest write, then collect; return the seconds of the collection."""
        vm = self.vm
        vm.machine.memory.write(vm.machine.memory.base, self._written)
        slot = vm.memslots.get(0)
        assert slot is not None
        for page in range(0, self.npages, EVERY):
            vm.dirty_log.mark_page_dirty_in_slot(slot, slot.base_gfn + page, None)
        bitmap = vm.get_dirty_log(0) if clear else b""
        started = clock()
        if clear:
            vm.clear_dirty_log(0, 0, self.npages, bitmap)
        else:
            vm.get_dirty_log(0)
        return clock() - started
