"""Steps of the hypervisor that are done wrong."""

from __future__ import annotations

from typing import Any

import pytest

from emu.arch.address import IPA
from hyp.dirty import dirty_pages
from hyp.errors import Errno
from hyp.exits import Error, InternalError, SystemEvent
from hyp.memslots import MemoryRegionFlags
from hyp.pte import Prot
from hyp.stats import Resolution
from hyp.steps import Step
from lab.errors import UserError
from lab.faults.models.software import StepDouble, StepLate, StepSkip
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA, RAM
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

LOG = MemoryRegionFlags.LOG_DIRTY_PAGES
PAGE_OF_DATA = (DATA - RAM) >> 12
BLR_X1 = 0xD63F_0020


def started(*program: int, **options: Any) -> Box:  # noqa: ANN401  # of Box
    """Return a VM whose code is mapped."""
    box = Box(NOP, *program, *SYSTEM_OFF, **options)
    box.run(1)
    return box


def resolutions(box: Box, resolution: Resolution) -> int:
    return sum(n for (_, _, how), n in box.vm.stats.aborts.items() if how is resolution)


def dirty(box: Box) -> list[int]:
    return list(dirty_pages(box.vm.get_dirty_log(0)))


def test_injecting_changes_nothing_but_how_the_step_is_done() -> None:
    box = started()
    for fault in (StepSkip(step="install"), StepDouble(step="topup"), StepLate(step="make-pte")):
        assert box.changes(fault) == {}
        injection = box.inject(fault)
        assert injection.end is not None
        injection.end()
    assert len(box.vm.steps.deviations) == 3


def test_page_that_is_not_marked_is_missing_from_the_log_though_it_was_written() -> None:
    box = started(a64.str_(7, 1), a64.str_(7, 1, 0x1000), flags=LOG)
    box.inject(StepSkip(step="mark-page-dirty"))
    assert isinstance(box.run(), SystemEvent)
    assert box.read64(DATA) == 0x7000
    assert dirty(box) == [PAGE_OF_DATA + 1]


def test_the_nth_time_is_wrong_and_the_others_are_right() -> None:
    stores = [a64.str_(7, 1, 0x1000 * page) for page in range(5)]
    box = started(*stores, flags=LOG)
    box.inject(StepSkip(step="mark-page-dirty", before=1, count=2))
    box.run()
    assert dirty(box) == [PAGE_OF_DATA, PAGE_OF_DATA + 3, PAGE_OF_DATA + 4]
    assert not box.vm.steps.deviations


def test_page_that_is_not_protected_again_is_missing_from_the_next_log() -> None:
    box = started(a64.str_(7, 1), a64.str_(8, 1), flags=LOG)
    box.run(1)
    box.inject(StepSkip(step="wrprotect"))
    assert dirty(box) == [PAGE_OF_DATA]
    box.run()
    assert box.read64(DATA) == 0x8000
    assert dirty(box) == []


@pytest.mark.parametrize("late", [False, True])
def test_flush_that_is_not_done_after_protecting_lets_stores_pass(late: bool) -> None:
    box = started(a64.str_(7, 1), a64.str_(8, 1), flags=LOG)
    box.run(1)
    box.inject(StepLate(step="wrprotect") if late else StepSkip(step="tlb-flush-range"))
    dirty(box)
    assert not box.vm.steps.late
    leaf = box.vm.pgt.get_leaf(IPA(DATA)).pte
    assert not leaf & 1 << 7, "it is protected, only too late"
    box.run()
    seen = dirty(box)
    # Too late by one step is early enough here: nobody runs between flush and protection.
    assert seen == ([PAGE_OF_DATA] if late else [])


def test_skipped_mapping_has_the_guest_fault_once_more() -> None:
    box = started(a64.ldr(7, 1))
    before = resolutions(box, Resolution.MAPPED)
    box.inject(StepSkip(step="install"))
    box.run()
    assert resolutions(box, Resolution.MAPPED) == before + 2


def test_doubled_mapping_finds_that_it_is_there() -> None:
    box = started(a64.ldr(7, 1))
    before = resolutions(box, Resolution.RETRIED)
    box.inject(StepDouble(step="install"))
    assert isinstance(box.run(), SystemEvent)
    assert resolutions(box, Resolution.RETRIED) == before + 1


def test_entry_that_never_gets_its_value_stays_locked_and_the_guest_hangs() -> None:
    box = started(a64.ldr(7, 1))
    box.inject(StepSkip(step="make-pte"))
    assert isinstance(box.run(), InternalError)


def test_no_spare_pages_end_in_an_error_of_user_space() -> None:
    box = started(a64.ldr(7, 2), x2=RAM + 0x20_0000)
    box.vcpu.memcache.free()
    box.inject(StepSkip(step="topup", count=2))
    exit_ = box.run()
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOMEM


def executed_again(fault: StepSkip | StepLate | StepDouble | None) -> Box:
    """Return a VM that executed a page, which the host then replaced by another with new code.

    All instruction caches are caches.
    """
    box = started(BLR_X1, NOP, BLR_X1)
    box.put(DATA, a64.movz(7, 1), 0xD65F_03C0)
    box.pe.icache.use_as_cache()
    box.run(4)
    assert box.x(7) == 1
    box.put(DATA, a64.movz(7, 2), 0xD65F_03C0)
    box.vm.pgt.unmap(IPA(DATA), 0x1000)
    if fault is not None:
        box.inject(fault)
    box.run()
    return box


def test_skipped_icache_maintenance_has_stale_code_executed() -> None:
    assert executed_again(None).x(7) == 2
    assert executed_again(StepDouble(step="icache-inval")).x(7) == 2
    assert executed_again(StepSkip(step="icache-inval")).x(7) == 1


def test_late_icache_maintenance_is_after_the_entry_was_made() -> None:
    box = started(BLR_X1, NOP)
    box.put(DATA, a64.movz(7, 1), 0xD65F_03C0)
    order: list[str] = []
    box.vm.pgt.cmo.events.subscribe(lambda event: order.append(type(event).__name__))
    box.vm.pgt.descriptors.observe(lambda operation, _: order.append(operation.value))
    box.inject(StepLate(step="icache-inval"))
    box.run(2)
    assert order.index("CacheMaintenanceOp", order.index("store-release")) > 0
    assert order.index("store-release") < len(order) - order[::-1].index("CacheMaintenanceOp")
    assert box.x(7) == 1


def test_skipped_invalidation_leaves_the_entry_of_a_page_that_is_gone() -> None:
    box = started(a64.ldr(7, 1), a64.ldr(8, 1), x1=DATA)
    box.run(1)
    for fault, gone in ((StepSkip(step="tlb-flush-ipa"), False), (None, True)):
        if fault is not None:
            box.inject(fault)
        box.vm.pgt.unmap(IPA(DATA), 0x1000)
        held = {int(e.va) for e in box.pe.mmu.tlb.combined_entries()}
        assert (DATA not in held) is gone
        box.vm.pgt.map(IPA(DATA), 0x1000, box.pa(CODE), Prot.R | Prot.W, box.vcpu.memcache)


def test_steps_are_named_and_others_refused_with_similar_names() -> None:
    with pytest.raises(UserError) as refused:
        StepSkip(step="mark-dirty")
    assert str(refused.value) == (
        "StepSkip: step is a step of the hypervisor (mark-page-dirty?), not 'mark-dirty'"
    )
    for step in Step:
        assert StepLate(step=step.value).step == step
