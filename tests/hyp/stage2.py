"""A stage-2 page table by itself, on memory that checks break-before-make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from emu.arch.address import IPA, PA
from hyp.cpufeature import HostFeatures
from hyp.frames import FrameAllocator
from hyp.icache import CacheMaintenance
from hyp.memcache import MemoryCache
from hyp.percpu import CurrentCpu
from hyp.pgtable import Stage2PageTable
from hyp.pte import pte_table, pte_to_phys
from hyp.stats import Stats
from hyp.tablepages import TablePages
from hyp.tlb import Stage2Tlb
from hyp.vtcr import Stage2Geometry
from tests.hyp.fake_machine import OLD_CPU, RAM_PA, FakePE
from tests.hyp.watched_memory import WatchedMemory

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.cpu.pe import ProcessingElement
    from hyp.errors import Errno
    from hyp.pte import Prot

OUTPUT = PA(0x10_0000_0000)
"""Where mappings point: any address will do, nothing is read there."""


class WatchingPE(FakePE):
    """Tells the memory about TLB invalidation."""

    def tlbi(self, operation: Any, argument: int = 0) -> None:  # noqa: ANN401
        super().tlbi(operation, argument)
        assert isinstance(self.memory, WatchedMemory)
        self.memory.invalidated()


@dataclass
class Stage2:
    """A page table and what it stands on."""

    memory: WatchedMemory
    pe: WatchingPE
    stats: Stats
    frames: FrameAllocator
    pages: TablePages
    pgt: Stage2PageTable
    memcache: MemoryCache

    def map(self, addr: int, size: int, phys: int, prot: Prot) -> Errno:
        """Map with enough spare pages."""
        self.memcache.topup(self.pgt.geometry.cache_min_pages)
        return self.pgt.map(IPA(addr), size, PA(phys), prot, self.memcache)


def make_stage2(
    features: CpuFeatures = OLD_CPU, *, ia_bits: int = 40, memory_size: int = 8 << 20
) -> Stage2:
    """Return an empty page table."""
    memory = WatchedMemory(RAM_PA, memory_size)
    pe = WatchingPE(memory, features, 0)
    host = HostFeatures.of(cast("ProcessingElement", pe))
    cpu = CurrentCpu(cast("ProcessingElement", pe))
    stats = Stats()
    frames = FrameAllocator(memory)
    pages = TablePages(frames, stats)
    pgt = Stage2PageTable(
        memory,
        Stage2Geometry.of(ia_bits),
        pages,
        tlb=Stage2Tlb(cpu, host, stats),
        cmo=CacheMaintenance(cpu, host, stats),
        features=host,
    )
    memory.tables = pages.counts
    return Stage2(memory, pe, stats, frames, pages, pgt, MemoryCache(frames))


def entry_address(s2: Stage2, addr: int, level: int) -> PA:
    """Return where the entry of ``addr`` at ``level`` lies."""
    assert s2.pgt.pgd is not None
    at = s2.pgt.geometry.start_level
    ptep = PA(s2.pgt.pgd + (addr >> 39 - 9 * at) * 8)
    while at < level:
        pte = s2.memory.read_u64(ptep)
        assert pte_table(pte, at)
        at += 1
        ptep = PA(pte_to_phys(pte) + (addr >> 39 - 9 * at & 511) * 8)
    return ptep
