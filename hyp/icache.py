"""Cache maintenance for memory that a guest is about to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import DC, IC

if TYPE_CHECKING:
    from emu.arch.address import PA
    from hyp.cpufeature import HostFeatures
    from hyp.percpu import CurrentCpu
    from hyp.stats import Stats

MAX_DVM_OPS: Final = 512
"""Beyond this many operations by line, the whole cache is invalidated at once."""


class CacheMaintenance:
    """The maintenance that page-table code asks for (``mm_ops``).

    Parameters
    ----------
    cpu
        The PE that issues the operations.
    features
        The size of a line, and what the hardware keeps coherent by itself.
    stats
        Counts the operations by page or block, not by line.
    """

    __slots__ = ("_cpu", "_features", "_stats")

    def __init__(self, cpu: CurrentCpu, features: HostFeatures, stats: Stats) -> None:
        self._cpu = cpu
        self._features = features
        self._stats = stats

    def icache_inval_pou(self, pa: PA, size: int) -> None:
        """Make instruction fetch see what memory holds (``invalidate_icache_guest_page``)."""
        if self._features.dic:
            return
        self._stats.icache_invalidations += 1
        if self._features.icache_aliasing or size > MAX_DVM_OPS * self._features.icache_line:
            self._cpu.pe.ic(IC.IALLUIS)
        else:
            self._cpu.pe.ic(IC.IVAU, pa, size)

    def icache_inval_all_pou(self) -> None:
        """Invalidate all instruction caches."""
        if self._features.dic:
            return
        self._stats.icache_invalidations += 1
        self._cpu.pe.ic(IC.IALLUIS)

    def dcache_clean_inval_poc(self, pa: PA, size: int) -> None:
        """Make memory hold what the caches hold (``clean_dcache_guest_page``).

        A guest that runs with its caches off reads memory past them. With
        FEAT_S2FWB it cannot.
        """
        if self._features.fwb:
            return
        self._stats.dcache_cleans += 1
        self._cpu.pe.dc(DC.CIVAC, pa, size)
