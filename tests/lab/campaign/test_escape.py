from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import PA, VA
from emu.arch.descriptors import Stage2Leaf
from lab.campaign.escape import EscapeWatch
from lab.campaign.frames import frame_at, frames_of_slots
from lab.commands.run import configuration
from lab.faults.fault import Fault, Injection, Status
from lab.faults.injector import Injector
from lab.faults.planned import PlannedFault
from lab.faults.triggers.retired import Retired
from lab.loader import load
from lab.target import open_target
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.campaign.trace import Trace
    from lab.faults.target import Target

    Start = Callable[..., Vmm]
    Record = Callable[[str], tuple[Vmm, Trace]]


@pytest.mark.parametrize("guest", ["hello", "remap", "huge", "smp_lock"])
def test_a_guest_without_faults_stays_in_its_slots(guest: str, start: Start) -> None:
    vmm, plain = start(guest), start(guest)
    with EscapeWatch(vmm.vm) as watch:
        vmm.run_to_end()
        watch.look_at_tlbs()
    plain.run_to_end()
    assert watch.found == []
    assert vmm.retired == plain.retired
    assert vmm.vm.stats == plain.vm.stats
    memory, same = vmm.machine.memory, plain.machine.memory
    assert memory.view(memory.base, memory.size) == same.view(same.base, same.size)


def test_frames_are_those_that_the_host_has_given(start: Start) -> None:
    vmm = start("first_touch")
    vmm.run_to_end()
    frames = frames_of_slots(vmm.vm)
    assert frames
    assert all(frame_at(vmm.vm, ipa) == frame for frame, ipa in frames.items())
    assert frame_at(vmm.vm, 0x3000_0000) is None
    assert not set(vmm.vm.pgt.pages.counts) & set(frames)


@pytest.mark.parametrize("backing", ["gmem", "thp", "2M"])
def test_every_kind_of_backing_has_its_frames(backing: str) -> None:
    with open_target("first_touch") as target:
        config = configuration(target, ("--backing", backing))
        vmm = Vmm(config, load(target.image, config.memory, config.flash))
    with EscapeWatch(vmm.vm) as watch:
        end, _ = vmm.run_to_end()
    assert end.reason.is_normal
    assert watch.found == []
    frames = frames_of_slots(vmm.vm)
    assert frames
    assert all(frame_at(vmm.vm, ipa) == frame for frame, ipa in frames.items())


def first_walk_of_a_data_page(trace: Trace) -> tuple[int, int, int]:
    """Return an IPA, its level-3 descriptor, and when it is mapped for the first time."""
    for page, frame in sorted(trace.pages.items()):
        place = trace.descriptor_of(page << 12, 3)
        if frame in trace.born and place is not None:
            return page << 12, place, trace.born[frame]
    raise AssertionError("the guest touches no new page")


class _Redirect(Fault):
    """A stage-2 descriptor gets another output address, and the TLBs forget the old one."""

    def __init__(self, descriptor: int, page: Callable[[Target], int]) -> None:
        self._descriptor, self._page = descriptor, page

    def inject(self, target: Target) -> Injection:
        """Do it."""
        memory = target.memory
        old = memory.read_u64(PA(self._descriptor))
        mask = Stage2Leaf.OA.in_place
        memory.write_u64(PA(self._descriptor), old & ~mask | self._page(target) & mask)
        for pe in target.vm.machine.pes:
            pe.mmu.tlb.stage2.clear()
            pe.mmu.tlb.contexts.clear()
            pe.controls_changed()
        return Injection(Status.INJECTED, "redirected")


def run_redirected(
    start: Start, record: Record, page: Callable[[Target], int]
) -> tuple[Vmm, EscapeWatch]:
    _, trace = record("first_touch")
    _, place, time = first_walk_of_a_data_page(trace)
    vmm = start("first_touch")
    fault = PlannedFault(Retired(count=time + 1), _Redirect(place, page))
    # The hypervisor may trip over what was destroyed.
    with EscapeWatch(vmm.vm) as watch, Injector(vmm.vm, [fault]), suppress(Exception):
        vmm.run_to_end()
    return vmm, watch


def test_a_translation_to_a_stage2_table_is_an_escape(start: Start, record: Record) -> None:
    vmm, watch = run_redirected(start, record, lambda target: int(target.vm.pgt.pgd or 0))
    assert [escape.pa for escape in watch.found] == [vmm.vm.pgt.pgd]
    assert "reaches PA" in str(watch.found[0])
    assert watch.found[0].whose == "which is a stage-2 table"


def test_a_translation_to_a_frame_of_nobody_is_an_escape(start: Start, record: Record) -> None:
    vmm, watch = run_redirected(
        start, record, lambda target: target.memory.base + target.memory.size - 0x1000
    )
    memory = vmm.machine.memory
    assert [escape.pa for escape in watch.found] == [memory.base + memory.size - 0x1000]
    assert watch.found[0].whose == "which is in no slot of the VM"


def test_a_translation_to_another_page_of_the_vm_is_none(start: Start, record: Record) -> None:
    _, watch = run_redirected(start, record, lambda target: min(frames_of_slots(target.vm)))
    assert watch.found == []


def test_what_was_found_can_be_forgotten(start: Start, record: Record) -> None:
    _, watch = run_redirected(start, record, lambda target: int(target.vm.pgt.pgd or 0))
    watch.clear()
    assert watch.found == []


def test_an_entry_that_changes_in_the_tlb_counts_at_once(start: Start) -> None:
    vmm = start("hello")
    with EscapeWatch(vmm.vm) as watch:
        vmm.run_to_end()
        assert watch.found == []
        mmu = vmm.pe.mmu
        page, entry = next(iter(mmu.pages.items() or mmu.global_pages.items()))
        pages = mmu.pages if page in mmu.pages else mmu.global_pages
        outside = PA(int(vmm.vm.pgt.pgd or 0))
        pages[page] = entry._replace(page=outside, allowed=(0, 0, 0))
        mmu.entries_changed()
        assert watch.found == []
        pages[page] = entry._replace(page=outside)
        mmu.entries_changed()
    assert [escape.pa for escape in watch.found] == [outside]
    assert mmu.on_change is None


def test_a_walk_of_stage_1_through_a_frame_of_nobody_is_an_escape(start: Start) -> None:
    vmm = start("hello")
    vmm.run_to_end()
    with EscapeWatch(vmm.vm) as watch:
        on_table = vmm.pe.mmu.on_table
        assert on_table is not None
        on_table(PA(vmm.machine.memory.base + vmm.machine.memory.size - 8))
        on_table(PA(min(frames_of_slots(vmm.vm)) + 16))
    assert [escape.how for escape in watch.found] == ["a walk of stage 1"]
    assert vmm.pe.mmu.on_table is None


def test_who_listens_to_a_tlb_already_goes_on_listening(start: Start) -> None:
    vmm = start("hello")
    heard: list[VA] = []
    vmm.pe.mmu.on_fill = lambda va, _entry: heard.append(va)
    with EscapeWatch(vmm.vm):
        vmm.run_to_end()
    assert heard
    assert vmm.pe.mmu.on_fill is not None
