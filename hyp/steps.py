"""The named steps of abort handling, dirty logging and cache maintenance.

While an experiment wants one of them done wrong, they are called through here, and one is left out,
done twice, or done too late: bugs that kernels have had.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class Step(StrEnum):
    """What can go wrong."""

    TOPUP = "topup"
    """Making sure of spare pages for tables (``kvm_mmu_topup_memory_cache``)."""
    INVALIDATE_RETRY = "invalidate-retry"
    """Asking whether the host has changed the page meanwhile (``mmu_invalidate_retry``)."""
    DCACHE_CLEAN = "dcache-clean"
    """Cleaning a page that is about to be mapped (``clean_dcache_guest_page``)."""
    ICACHE_INVAL = "icache-inval"
    """Invalidating a page that is about to be executed (``invalidate_icache_guest_page``)."""
    INSTALL = "install"
    """Mapping the page, or adding rights to its entry (``kvm_s2_fault_map``)."""
    TLB_FLUSH_IPA = "tlb-flush-ipa"
    """Invalidating what was broken (``__kvm_tlb_flush_vmid_ipa``)."""
    TLB_FLUSH_IPA_NSH = "tlb-flush-ipa-nsh"
    """Invalidating what got more rights (``__kvm_tlb_flush_vmid_ipa_nsh``)."""
    TLB_FLUSH_RANGE = "tlb-flush-range"
    """Invalidating a range: a table's, or one that is logged (``kvm_tlb_flush_vmid_range``)."""
    MAKE_PTE = "make-pte"
    """Giving an entry that was broken its new value (``stage2_make_pte``)."""
    MARK_PAGE_DIRTY = "mark-page-dirty"
    """Marking a page that was written (``mark_page_dirty_in_slot``)."""
    WRPROTECT = "wrprotect"
    """Taking the right to write from pages that are logged (``kvm_arch_mmu_enable_log_dirty``)."""


class Wrong(Enum):
    """How a step is not done as it should be."""

    SKIPPED = "skipped"
    DOUBLED = "doubled"
    LATE = "late"
    """After the step that follows it, or at the end of the trap's handling."""


@dataclass(slots=True)
class Deviation:
    """What is done wrong.

    Attributes
    ----------
    step, wrong
        What, and how.
    before
        How many times it is still done right.
    left
        How many times it is done wrong after those.
    """

    step: Step
    wrong: Wrong
    before: int
    left: int


class Steps:
    """How one VM's hypervisor does its steps.

    Attributes
    ----------
    deviations
        What is done wrong; change it by :meth:`deviate` and :meth:`conform`.
    late
        Steps that are still to be done.
    deviating
        Whether there is any of both. If not, steps need not be called through :meth:`do`.
    """

    __slots__ = ("deviating", "deviations", "late")

    def __init__(self) -> None:
        self.deviations: list[Deviation] = []
        self.late: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []
        self.deviating = False

    def do(self, step: Step, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Do one step.

        Returns
        -------
        R or None
            What ``call`` returns; None if it was left out, or left for later.
        """
        wrong = self._next(step)
        result: R | None = None
        if wrong is Wrong.LATE:
            self.late.append((call, args, kwargs))
            return None
        if wrong is not Wrong.SKIPPED:
            result = call(*args, **kwargs)
        if wrong is Wrong.DOUBLED:
            result = call(*args, **kwargs)
        self.settle()
        return result

    def deviate(self, deviation: Deviation) -> None:
        """Have a step done wrong."""
        self.deviations.append(deviation)
        self.deviating = True

    def conform(self, deviation: Deviation) -> None:
        """Have a step done right again."""
        self.deviations = [other for other in self.deviations if other is not deviation]
        self.deviating = bool(self.deviations or self.late)

    def conform_all(self) -> None:
        """Have all steps done right again; those that are late are not done any more."""
        self.deviations = []
        self.late = []
        self.deviating = False

    def settle(self) -> None:
        """Do what is late."""
        late, self.late = self.late, []
        for call, args, kwargs in late:
            call(*args, **kwargs)
        self.deviating = bool(self.deviations)

    def _next(self, step: Step) -> Wrong | None:
        """Return how a step that comes now is done wrong, if it is."""
        for deviation in self.deviations:
            if deviation.step is not step:
                continue
            if deviation.before:
                deviation.before -= 1
                continue
            deviation.left -= 1
            if not deviation.left:
                self.deviations.remove(deviation)
            return deviation.wrong
        return None
