"""Guests with stage 1 on, whose table walks go through stage 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

UNTOUCHED, SIZE = 0x4100_0000, 0x0100_0000
HOLE = 0x0B20_0000
PAGE = 0x1000
LOAD, STORE, FETCH, EMPTY = 0x8000_0000, 0x8020_0000, 0x8040_0000, 0xC000_0000


def test_every_untouched_table_faults_before_the_page_it_leads_to(
    boot: Callable[..., Run], segments: Callable[[str], list[tuple[int, int]]]
) -> None:
    run = boot("nested_walk")
    data = segments("nested_walk")[2][0]
    root, level2, load, store, fetch = (data + n * PAGE for n in range(5))
    walks = [abort for abort in run.aborts() if "walk" in abort]
    assert walks == [
        f"fetch walk translation L3 {root:#x}",
        f"read walk translation L3 {level2:#x}",
        f"read walk translation L3 {load:#x}",
        f"read walk translation L3 {store:#x}",
        f"fetch walk translation L3 {fetch:#x}",
        f"read walk translation L3 {UNTOUCHED + 0x10_0000:#x}",
    ]
    assert run.aborts(UNTOUCHED, 0x10_0000) == [
        f"read translation L2 {UNTOUCHED:#x}",
        f"write translation L3 {UNTOUCHED + 0x1_0000:#x}",
    ]


def test_far_is_the_address_of_the_access_on_every_step_of_a_walk(boot: Callable[..., Run]) -> None:
    faults = boot("nested_walk").faults()
    by_address = {
        va: [fault for fault in faults if fault["hxfar"] == va]
        for va in (LOAD, STORE, FETCH, EMPTY)
    }
    assert [len(found) for found in by_address.values()] == [3, 2, 2, 1]
    for found in by_address.values():
        assert len({fault["vcpu_pc"] for fault in found}) == 1
    assert by_address[FETCH][0]["vcpu_pc"] == FETCH


def test_the_root_faults_at_the_instruction_that_follows_the_write_to_sctlr(
    boot: Callable[..., Run],
) -> None:
    run = boot("nested_walk")
    (first, *_) = [fault for fault in run.faults() if fault["hsr"] >> 7 & 1]
    assert first["hxfar"] == first["vcpu_pc"]


def test_a_walk_through_a_hole_is_handed_to_the_guest_without_an_exit(
    boot: Callable[..., Run],
) -> None:
    run = boot("holes")
    assert run.aborts(HOLE, 0x20_0000) == [
        f"read translation L1 {HOLE:#x}",
        f"write translation L1 {HOLE:#x}",
        f"read translation L1 {HOLE:#x}",
        f"fetch translation L1 {HOLE:#x}",
        f"maintenance translation L1 {HOLE:#x}",
        f"maintenance translation L1 {HOLE + PAGE:#x}",
        f"maintenance translation L1 {HOLE + 2 * PAGE:#x}",
        f"read walk translation L1 {HOLE:#x}",
        f"read walk translation L1 {HOLE:#x}",
        f"fetch walk translation L1 {HOLE:#x}",
    ]
    assert run.mmio(HOLE, 0x20_0000) == [
        ("read", 4, 4, 0),
        ("write", 8, 8, (1 << 64) - 1),
        ("read", 8, 8, 0),
    ]
    assert run.exits() == ["MMIO"] * 4 + ["SYSTEM_EVENT"]


def test_remapping_at_stage_1_is_none_of_the_hypervisors_business(boot: Callable[..., Run]) -> None:
    aborts = boot("remap").aborts(UNTOUCHED, SIZE)
    pages, tables = UNTOUCHED + 0x10_0000, UNTOUCHED
    assert aborts == [
        f"write translation L2 {pages:#x}",
        *(f"write translation L3 {pages + n * PAGE:#x}" for n in range(1, 4)),
        *(f"write translation L3 {tables + n * PAGE:#x}" for n in range(3)),
    ]


def test_exceptions_of_el0_stay_between_el0_and_el1(
    boot: Callable[..., Run], segments: Callable[[str], list[tuple[int, int]]]
) -> None:
    run = boot("el0")
    assert set(run.outcome["traps"]) <= {"IABT_LOW", "DABT_LOW", "HVC64", "SYS64"}
    assert run.aborts(UNTOUCHED, SIZE) == [
        f"write translation L2 {UNTOUCHED:#x}",
        f"write translation L3 {UNTOUCHED + PAGE:#x}",
        f"write translation L3 {UNTOUCHED + 2 * PAGE:#x}",
        f"write translation L3 {UNTOUCHED + 0x10_0000:#x}",
    ]
    stack = run.faults(UNTOUCHED + 0x10_0000, PAGE)[0]
    assert (stack["vcpu_pc"], stack["hxfar"]) == (0x8000_0000, 0x8001_0FF0)
    code, size = segments("el0")[0]
    assert [fault["hxfar"] for fault in run.faults(code, size)][-1] == 0x8000_0000


def test_writes_to_translation_registers_trap_until_the_caches_are_on(
    boot: Callable[..., Run],
) -> None:
    run = boot("self_modify")
    accesses = run.named("kvm_sys_access")
    writes = [event["reg"] for event in accesses if event["is_write"]]
    assert writes == ["MAIR_EL1", "TCR_EL1", "TTBR0_EL1", "SCTLR_EL1"]
    assert [event["reg"] for event in accesses if not event["is_write"]] == ["CTR_EL0"] * 16
    toggles = run.named("kvm_toggle_cache")
    assert [(event["was"], event["now"]) for event in toggles] == [(False, False)] * 3 + [
        (False, True)
    ]
