"""Maintenance instructions that are dropped or doubled."""

from __future__ import annotations

import pytest

from emu.arch.a64.maintenance import DC, IC
from emu.arch.a64.tlbi import TLBI
from hyp.exits import SystemEvent
from lab.errors import UserError
from lab.faults.models.maintenance import MaintenanceDrop, MaintenanceDuplicate
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

TLBI_VMALLE1 = 0xD508_871F
DC_CVAU_X5, IC_IVAU_X5 = 0xD50B_7B25, 0xD50B_7525
BLR_X5 = 0xD63F_00A0
RET = 0xD65F_03C0
STR_W6_X5 = a64.str_(6, 5, 0, 4)


def entries(box: Box) -> set[int]:
    return {int(e.va) for e in box.pe.mmu.tlb.combined_entries()}


def test_dropped_tlbi_of_the_guest_leaves_what_it_should_have_removed() -> None:
    box = Box(NOP, a64.ldr(7, 1), TLBI_VMALLE1, NOP, TLBI_VMALLE1, NOP, *SYSTEM_OFF)
    box.run(2)
    count = box.pe.maintenance["VMALLE1"]
    assert box.changes(MaintenanceDrop(operation="VMALLE1", by="guest")) == {}
    box.run(1)
    assert box.pe.maintenance["VMALLE1"] == count + 1
    assert DATA in entries(box)
    box.run(3)
    assert DATA not in entries(box)
    assert not box.pe.disturbances
    assert isinstance(box.run(), SystemEvent)


def test_nth_is_dropped_and_those_before_it_are_not() -> None:
    box = Box(NOP)
    box.run(1)
    box.inject(MaintenanceDrop(operation="TLBI", before=2, count=2))
    removed = []
    for _ in range(5):
        box.run(1)
        removed.append(box.pe.tlbi(TLBI.VMALLE1))
        box.vcpu.pe.mmu.translate(CODE, 0, 1)  # type: ignore[arg-type]  # a VA here
    assert [bool(hits) for hits in removed] == [True, True, False, False, True]


def test_those_of_the_other_side_and_of_another_kind_are_carried_out() -> None:
    box = Box(NOP, TLBI_VMALLE1, NOP)
    box.run(1)
    box.inject(MaintenanceDrop(operation="VMALLE1", by="hypervisor"))
    box.run(1)
    assert box.pe.disturbances
    box.pe.tlbi(TLBI.ALLE1)
    assert not entries(box)
    box.run(1)
    assert box.pe.tlbi(TLBI.VMALLE1) == 0
    assert CODE in entries(box)


def test_broadcast_that_is_dropped_reaches_no_pe() -> None:
    box = Box(NOP, pes=2)
    box.run(1)
    seen: list[int] = []
    box.pe.on_tlbi = lambda done: seen.append(done.reached)
    box.inject(MaintenanceDrop(operation="VMALLE1IS"))
    for _ in range(2):
        box.pe.tlbi(TLBI.VMALLE1IS)
    assert seen == [0, 2]


def rewriting() -> Box:
    """Return a VM that calls code, rewrites and maintains it, calls it, and does so again."""
    rewrite = (STR_W6_X5, DC_CVAU_X5, IC_IVAU_X5, BLR_X5)
    program = (BLR_X5, *rewrite, a64.movz(8, 0), a64.add(8, 7, 0), *rewrite, *SYSTEM_OFF)
    box = Box(*program, x5=DATA, x6=a64.movz(7, 2))
    box.put(DATA, a64.movz(7, 1), RET)
    box.run(3)
    assert box.x(7) == 1
    return box


def test_dropped_ic_has_old_code_executed_until_the_next_one() -> None:
    box = rewriting()
    assert box.changes(MaintenanceDrop(operation="IC", by="guest")) == {}
    box.run(8)
    assert box.x(8) == 1
    assert box.read64(DATA) & 0xFFFF_FFFF == a64.movz(7, 2)
    assert isinstance(box.run(), SystemEvent)
    assert box.x(7) == 2


def test_without_the_fault_new_code_is_executed() -> None:
    box = rewriting()
    box.run(8)
    assert box.x(8) == 2


def test_caches_that_the_fault_made_see_new_pages_and_can_go_again() -> None:
    box = rewriting()
    box.inject(MaintenanceDrop(operation="IVAU", by="hypervisor"))
    assert box.pe.icache.is_cache
    assert isinstance(box.run(), SystemEvent)
    assert box.x(7) == 2
    assert box.pe.icache.copies
    box.pe.icache.follow_memory()
    assert not box.pe.icache.copies


def test_ic_of_the_hypervisor_is_dropped_line_by_line() -> None:
    box = Box(NOP)
    box.run(1)
    box.inject(MaintenanceDrop(operation="IVAU", by="hypervisor", count=3))
    before = box.pe.maintenance["IVAU"]
    box.pe.ic(IC.IVAU, box.pa(CODE), 4096)
    assert box.pe.maintenance["IVAU"] == before + 64
    assert not box.pe.disturbances


def test_dropped_dc_changes_nothing_where_data_caches_are_coherent() -> None:
    box = Box(NOP, DC_CVAU_X5, NOP, *SYSTEM_OFF, x5=CODE)
    box.run(1)
    box.inject(MaintenanceDrop(operation="CVAU"))
    box.inject(MaintenanceDrop(operation="CIVAC", before=1))
    box.run(1)
    assert [d.operations for d in box.pe.disturbances] == [{"CIVAC"}]
    box.pe.dc(DC.CIVAC, box.pa(CODE), 128)
    assert not box.pe.disturbances
    assert isinstance(box.run(), SystemEvent)


def test_doubled_tlbi_does_what_one_does() -> None:
    box = Box(NOP, TLBI_VMALLE1, NOP, *SYSTEM_OFF)
    box.run(1)
    box.inject(MaintenanceDuplicate(operation="TLBI"))
    count = box.pe.maintenance["VMALLE1"]
    box.run(1)
    assert box.pe.maintenance["VMALLE1"] == count + 1
    assert not box.pe.disturbances
    assert isinstance(box.run(), SystemEvent)


def test_fault_that_is_over_disturbs_nothing() -> None:
    box = Box(NOP)
    box.run(1)
    injection = box.inject(MaintenanceDrop(operation="TLBI", count=9))
    assert injection.detail == "the next 9 TLBI on PE 0: dropped"
    assert injection.end is not None
    injection.end()
    injection.end()
    assert box.pe.tlbi(TLBI.ALLE1) > 0


def test_barriers_have_nothing_to_wait_for_and_other_names_are_refused() -> None:
    detail = Box(NOP).refusal(MaintenanceDrop(operation="DSB"))
    assert detail.endswith("so that DSB has nothing to wait for")
    with pytest.raises(UserError) as refused:
        MaintenanceDrop(operation="VAE1SI")
    assert str(refused.value) == (
        "MaintenanceDrop: operation is TLBI, IC, DC, DSB, or one of their operations "
        "(VAE1OS, VAE1IS, VAE1?), not 'VAE1SI'"
    )
