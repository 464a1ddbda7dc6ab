"""Idle page tracking, as in the kernel's access_tracking_perf_test.

Marking a page idle clears its access flag. The kernel's page_idle flushes no TLB, so a page
whose translation a TLB holds stays idle though it is used; the TLB of this machine holds all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.registers.virtualization import VTCR_EL2
from hyp.events import KvmAccessFault
from hyp.host import HVA, SIZE_2M, SIZE_4K
from tests.hyp.selftests.guest import (
    ATOMIC_CPU,
    BACKINGS,
    DATA,
    DATA_SLOT,
    TOUCH,
    Fault,
    SelftestGuest,
    touch,
)

if TYPE_CHECKING:
    from hyp.events import Event

VCPUS = 2
UNITS = 4
"""Pages or blocks of each vCPU."""


class Tracking:
    """A guest whose vCPUs touch memory of their own, or all the same."""

    def __init__(self, backing: str, *, overlap: bool, hardware: bool) -> None:
        self.unit = BACKINGS[backing].granule
        self.stride = 0 if overlap else UNITS * self.unit
        self.total = UNITS * (1 if overlap else VCPUS)
        features = ATOMIC_CPU if hardware else CORTEX_A72
        self.guest = guest = SelftestGuest(features=features, vcpus=VCPUS, memory=48 << 20)
        size = self.total * self.unit
        guest.add_slot(DATA_SLOT, DATA, size, backing=BACKINGS[backing])
        blocks = range(DATA, DATA + size, SIZE_2M)
        guest.load(*TOUCH, blocks=blocks)
        self.young_events: list[int] = []
        guest.vm.events.subscribe(self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, KvmAccessFault):
            self.young_events.append((event.ipa - DATA) // self.unit)

    def access(self, *, write: bool) -> list[Fault]:
        for vcpu in self.guest.vcpus:
            first = DATA + self.stride * vcpu.index
            touch(self.guest, vcpu, first, UNITS, self.unit, write=1 if write else None)
        return [fault for fault in self.guest.faults() if fault.where.startswith("data")]

    def _units(self) -> list[HVA]:
        return [HVA(self.guest.hva(DATA + self.unit * i)) for i in range(self.total)]

    def idle(self) -> int:
        """Return how many pages have not been used since they were marked."""
        return sum(not self.guest.vm.notifier.test_young(hva) for hva in self._units())

    def mark_idle(self, *, flush: bool) -> int:
        """Mark all pages; return how many were in use."""
        notifier = self.guest.vm.notifier
        clear = notifier.clear_flush_young if flush else notifier.clear_young
        return sum(clear(hva, HVA(hva + SIZE_4K)) for hva in self._units())


@pytest.mark.parametrize("write", [True, False], ids=["writing", "reading"])
@pytest.mark.parametrize("overlap", [False, True], ids=["partitioned", "overlapping"])
@pytest.mark.parametrize("backing", ["anonymous", "anonymous_thp", "anonymous_hugetlb_2mb"])
@pytest.mark.kvm_row(42)
def test_each_idle_page_faults_once_for_its_access_flag(
    backing: str, *, overlap: bool, write: bool
) -> None:
    run = Tracking(backing, overlap=overlap, hardware=False)
    assert len(run.access(write=True)) == run.total
    assert run.access(write=True) == run.access(write=False) == []
    for _ in range(2):
        assert run.idle() == 0
        assert run.mark_idle(flush=True) == run.total
        assert run.idle() == run.total
        tables = run.guest.vm.stats.table_pages
        faults = run.access(write=write)
        code = 0x0B if run.unit == SIZE_4K else 0x0A
        kind = "write" if write else "read"
        pages = [unit * run.unit // SIZE_4K for unit in range(run.total)]
        assert faults == [Fault(kind, f"data {page}", code) for page in pages]
        assert run.young_events == list(range(run.total))
        run.young_events.clear()
        assert run.idle() == 0
        assert run.guest.vm.stats.table_pages == tables


@pytest.mark.kvm_row(42)
def test_pages_that_a_tlb_holds_stay_idle() -> None:
    run = Tracking("anonymous", overlap=False, hardware=False)
    run.access(write=True)
    assert run.mark_idle(flush=False) == run.total
    assert run.access(write=True) == []
    assert run.idle() == run.total
    assert run.mark_idle(flush=False) == 0


@pytest.mark.kvm_row(42)
def test_hardware_that_sets_access_flags_takes_no_fault() -> None:
    run = Tracking("anonymous", overlap=False, hardware=True)
    assert run.guest.vm.vtcr.HA == 1
    assert isinstance(run.guest.vm.vtcr, VTCR_EL2)
    run.access(write=True)
    assert run.mark_idle(flush=True) == run.total
    assert run.access(write=False) == []
    assert run.idle() == 0
