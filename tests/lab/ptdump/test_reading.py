"""Reading a VM's tables: nothing is missed, and nobody notices."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA, PAGE_SIZE
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.pte import PTE_LOCKED, Prot
from lab.errors import UserError
from lab.ptdump import Extent, Table, read_dump
from lab.ptdump.decode import Kind, attributes

if TYPE_CHECKING:
    from hyp.events import Event
    from tests.lab.ptdump.conftest import Tables


def test_runs_hold_every_descriptor_and_leave_no_address_out(mixed: Tables) -> None:
    dump = read_dump(mixed.vm)
    at = 0
    for run in dump.runs:
        assert run.ipa == at
        at = run.end
        for ipa, pte in run.entries():
            assert mixed.vm.pgt.get_leaf(ipa) == (pte, run.level)
    assert at == 1 << 40


def test_runs_end_with_their_table_even_if_tables_touch(tables: Tables) -> None:
    tables.map(0x4020_0000, 0x1000, 0x9_0000_1000, Prot.R)
    tables.map(0x401F_F000, 0x1000, 0x9_0000_0000, Prot.R)
    dump = read_dump(tables.vm)
    first, second = (table for table in dump.tables if table.level == 3)
    assert first.pa + PAGE_SIZE == second.pa
    assert [(run.ipa, run.length) for run in dump.leaves()] == [(0x401F_F000, 1), (0x4020_0000, 1)]


def test_walk_order_has_each_table_ahead_of_what_it_holds(mixed: Tables) -> None:
    dump = read_dump(mixed.vm)
    order = list(dump.in_order())
    assert [node for node in order if isinstance(node, Table)] == list(dump.tables)
    assert [node for node in order if not isinstance(node, Table)] == list(dump.runs)
    assert [(node.level, node.ipa) for node in order if isinstance(node, Table)] == [
        (1, 0), (2, 0x4000_0000), (3, 0x4000_0000),
    ]  # fmt: skip
    assert order.index(dump.tables[1]) == 2
    assert order.index(dump.tables[2]) == 3


def test_nobody_notices(mixed: Tables) -> None:
    vm = mixed.vm
    heard: list[Event] = []
    operations: list[str] = []
    vm.events.subscribe(heard.append)
    vm.pgt.descriptors.observe(lambda operation, _: operations.append(operation.value))
    stats = copy.deepcopy(vm.stats)
    memory = vm.machine.memory.read(vm.machine.memory.base, 1 << 20)
    read_dump(vm)
    assert vm.machine.memory.read(vm.machine.memory.base, 1 << 20) == memory
    assert (heard, operations, vm.stats) == ([], [], stats)


def test_entries_are_decoded(mixed: Tables) -> None:
    dump = read_dump(mixed.vm)
    found = {int(run.ipa): attributes(run, fwb=dump.fwb) for run in dump.runs}
    device = found[0x4000_4000]
    assert (device.kind, device.prot, device.memory) == (Kind.PAGE, "rw-", "Device-nGnRE")
    assert found[0x4000_5000].kind is Kind.LOCKED
    assert found[0x4000_6000].annotation == "guest poisoned 0xc0"
    assert not found[0x4000_7000].af
    assert found[0x4000_8000].prot == "rwp"
    assert found[0x4000_9000].kind is Kind.RESERVED
    assert found[0x4020_0000].kind is Kind.BLOCK
    assert mixed.vm.pgt.get_leaf(IPA(0x4000_5000)).pte == PTE_LOCKED


def test_slots_come_with_what_their_log_holds(tables: Tables) -> None:
    vm = tables.vm
    host = vm.host.mmap(0x10000, PAGE_SIZE)
    log = MemoryRegionFlags.LOG_DIRTY_PAGES
    vm.set_user_memory_region(MemoryRegion(1, log, IPA(0x4000_0000), 0x8000, host))
    readonly = MemoryRegion(
        2, MemoryRegionFlags.READONLY, IPA(0x5000_0000), 0x8000, HVA(host + 0x8000)
    )
    vm.set_user_memory_region(readonly)
    slot = vm.memslots.by_id(1)
    assert slot is not None
    for gfn in (0x40000, 0x40001, 0x40005):
        vm.dirty_log.mark_page_dirty_in_slot(slot, gfn, None)
    first, second = read_dump(vm).slots
    assert first.dirty == (
        Extent(IPA(0x4000_0000), 0x2000),
        Extent(IPA(0x4000_5000), 0x1000),
    )
    assert second.dirty is None
    assert (first.read_only, second.read_only) == (False, True)
    assert slot.dirty_bitmap is not None
    assert slot.dirty_bitmap.test(0)


def test_destroyed_vm_is_refused(tables: Tables) -> None:
    tables.vm.destroy()
    with pytest.raises(UserError, match="no stage-2 tables any more"):
        read_dump(tables.vm)
