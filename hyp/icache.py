"""Cache maintenance for memory that a guest is about to use, and how its rules changed.

Instruction caches do not follow stores. Somebody else may have executed a physical page
before: the host, another VM, or this one before its page was swapped out. So KVM
invalidates before the guest can fetch from a page. What has to be invalidated depends on
how the cache finds its lines; when it is done, on the kernel's age.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import DC, IC
from emu.arch.registers.identification import IcachePolicy
from hyp.event_stream import Events
from hyp.events import CacheMaintenanceOp
from hyp.steps import Step, Steps

if TYPE_CHECKING:
    from emu.arch.address import PA
    from hyp.cpufeature import HostFeatures
    from hyp.percpu import CurrentCpu
    from hyp.stats import Stats

MAX_DVM_OPS: Final = 512
"""Beyond this many operations by line, the whole cache is invalidated at once."""


class Reach(Enum):
    """How much of an instruction cache goes when one page is to be fetched afresh."""

    NOTHING = "nothing"
    PAGE = "the page"
    ALL = "all"


COHERENT_ICACHE_GUEST_PAGE: Final = {
    IcachePolicy.PIPT: Reach.PAGE,
    IcachePolicy.VIPT: Reach.ALL,
    IcachePolicy.AIVIVT: Reach.NOTHING,
    IcachePolicy.VPIPT: Reach.ALL,
}
"""2012. Any VIPT cache may hold the page under an alias. AIVIVT lines carry ASID and VMID,
so that nobody else's can be hit. VPIPT was not known, and is taken for VIPT."""

INVALIDATE_ICACHE_GUEST_PAGE: Final = {
    IcachePolicy.PIPT: Reach.PAGE,
    IcachePolicy.VIPT: Reach.ALL,
    IcachePolicy.AIVIVT: Reach.ALL,
    IcachePolicy.VPIPT: Reach.ALL,
}
"""Since 2017. What is not PIPT counts as aliasing; in a VPIPT cache an operation by address
misses the lines of another VMID."""


@dataclass(frozen=True, slots=True)
class CacheRules:
    """What a kernel of some time does about caches.

    Parameters
    ----------
    reach
        What it invalidates, by policy of the cache.
    lazy_exec
        A page becomes executable when it is fetched from; before v4.16, every page was
        executable from its first mapping on.
    dic
        It knows CTR_EL0.DIC (v4.17).
    clean
        It cleans data to the point of coherency where a page is mapped (v4.16).
    in_walk
        Maintenance is done between break and make (v5.14), and only for what really is
        mapped; earlier, by the fault handler, ahead of the walk.
    dvm_limit
        Many operations by line are replaced by one for all (v6.7).
    vpipt
        Invalidation by IPA takes the instruction cache along where its lines are tagged by
        VMID (v4.12 to v6.7).
    """

    reach: dict[IcachePolicy, Reach]
    lazy_exec: bool = True
    dic: bool = True
    clean: bool = True
    in_walk: bool = True
    dvm_limit: bool = False
    vpipt: bool = False


RULES: Final = {
    2012: CacheRules(
        COHERENT_ICACHE_GUEST_PAGE, lazy_exec=False, dic=False, clean=False, in_walk=False
    ),
    2018: CacheRules(INVALIDATE_ICACHE_GUEST_PAGE, in_walk=False, vpipt=True),
    2021: CacheRules(INVALIDATE_ICACHE_GUEST_PAGE, vpipt=True),
    2026: CacheRules(INVALIDATE_ICACHE_GUEST_PAGE, dvm_limit=True),
}
"""By the year of the kernel."""


class CacheMaintenance:
    """The maintenance that the fault handler and page-table code ask for (``mm_ops``).

    Parameters
    ----------
    cpu
        The PE that issues the operations.
    features
        The size of a line, and what the hardware keeps coherent by itself.
    stats
        Counts the operations by page or block, not by line.
    steps
        How they are done.

    Attributes
    ----------
    events
        Each operation, as a :class:`hyp.events.CacheMaintenanceOp`. It is a stream of its
        own: KVM has no tracepoint for it.
    rules
        The rules that apply.
    """

    __slots__ = ("_cpu", "_features", "_stats", "_steps", "events", "rules")

    def __init__(
        self, cpu: CurrentCpu, features: HostFeatures, stats: Stats, steps: Steps | None = None
    ) -> None:
        self._cpu = cpu
        self._steps = Steps() if steps is None else steps
        self._features = features
        self._stats = stats
        self.events = Events()
        self.rules = RULES[2026]

    def executable(self, *, is_exec: bool) -> bool:
        """Return whether a page is to be mapped executable.

        Parameters
        ----------
        is_exec
            Whether the guest is fetching from it.
        """
        return is_exec or not self.rules.lazy_exec or self._coherent

    def before_map(self, pa: PA, size: int, *, is_exec: bool, is_permission: bool) -> None:
        """Do what the fault handler did before maintenance moved into the walk.

        Parameters
        ----------
        pa, size
            What is about to be mapped; whether it will be is not known yet.
        is_exec
            Whether the guest is fetching from it.
        is_permission
            Whether it is mapped already.
        """
        rules = self.rules
        if rules.in_walk:
            return
        if rules.clean and not is_permission:
            self.dcache_clean_inval_poc(pa, size)
        if is_exec or not rules.lazy_exec:
            self.icache_inval_pou(pa, size)

    @property
    def _coherent(self) -> bool:
        """Whether fetches see stores by themselves, as far as the rules know."""
        return self.rules.dic and self._features.dic

    def icache_inval_pou(self, pa: PA, size: int) -> None:
        """Make instruction fetch see what memory holds (``invalidate_icache_guest_page``)."""
        if self._steps.deviating:
            self._steps.do(Step.ICACHE_INVAL, self._icache_inval_pou, pa, size)
        else:
            self._icache_inval_pou(pa, size)

    def _icache_inval_pou(self, pa: PA, size: int) -> None:
        if self._coherent:
            return
        reach = self.rules.reach[self._features.icache_policy]
        if reach is Reach.NOTHING:
            return
        self._stats.icache_invalidations += 1
        limit = MAX_DVM_OPS * self._features.icache_line
        if reach is Reach.ALL or (self.rules.dvm_limit and size > limit):
            self._ic_all()
        else:
            self._cpu.pe.ic(IC.IVAU, pa, size)
            self._record(IC.IVAU, pa, size)

    def icache_inval_all_pou(self) -> None:
        """Invalidate all instruction caches."""
        if self._coherent:
            return
        self._stats.icache_invalidations += 1
        self._ic_all()

    def after_tlbi_by_ipa(self) -> None:
        """Take VPIPT lines along: a page may be remapped without the VMID being retired."""
        self._ic_vpipt()

    def forget_vmids(self) -> None:
        """Take VPIPT lines along when VMIDs get new owners."""
        self._ic_vpipt()

    def _ic_vpipt(self) -> None:
        if self.rules.vpipt and self._features.icache_policy is IcachePolicy.VPIPT:
            self._stats.icache_invalidations += 1
            self._ic_all()

    def _ic_all(self) -> None:
        self._cpu.pe.ic(IC.IALLUIS)
        self._record(IC.IALLUIS, None, 0)

    def dcache_clean_inval_poc(self, pa: PA, size: int) -> None:
        """Make memory hold what the caches hold (``clean_dcache_guest_page``).

        A guest that runs with its caches off reads memory past them. With
        FEAT_S2FWB it cannot.
        """
        if self._steps.deviating:
            self._steps.do(Step.DCACHE_CLEAN, self._dcache_clean_inval_poc, pa, size)
        else:
            self._dcache_clean_inval_poc(pa, size)

    def _dcache_clean_inval_poc(self, pa: PA, size: int) -> None:
        if self._features.fwb:
            return
        self._stats.dcache_cleans += 1
        self._cpu.pe.dc(DC.CIVAC, pa, size)
        self._record(DC.CIVAC, pa, size)

    def _record(self, operation: DC | IC, pa: PA | None, size: int) -> None:
        emit = self.events.emit
        if emit is not None:
            pe = self._cpu.pe
            emit(CacheMaintenanceOp(pe.index, pe.retired, operation.name, pa, size))
