"""When a fault needs spare tables: the entry that it met against what is to be mapped."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, PA
from emu.arch.esr.fsc import FaultType
from hyp.errors import Errno
from hyp.events import Event, MemcacheTopup, Stage2Install
from hyp.exits import Error
from hyp.host import SIZE_2M, SIZE_4K
from hyp.profiles import PROFILES
from tests.hyp.fake_machine import RAM, Guest, Trap, fetch, load, make_guest, store

PERMISSION = FaultType.PERMISSION
LOG = 1


def watched(profile: str, page_size: int = SIZE_4K, flags: int = 0) -> tuple[Guest, list[Event]]:
    """Return a guest with an empty cache, and the events of its tables."""
    guest = make_guest(profile=profile, page_size=page_size)
    if flags:
        guest.set_flags(flags)
    seen: list[Event] = []
    guest.vm.mmu_events.subscribe(seen.append)
    return guest, seen


def run(guest: Guest, seen: list[Event], *traps: Trap) -> tuple[int, list[int]]:
    """Run with an empty cache; return how many pages it was given, and the tables used."""
    guest.vcpu.memcache.free()
    seen.clear()
    guest.run(*traps)
    added = sum(event.pages for event in seen if isinstance(event, MemcacheTopup))
    return added, [event.tables for event in seen if isinstance(event, Stage2Install)]


def table_image(guest: Guest) -> list[bytes]:
    return [
        guest.machine.memory.read(PA(page), SIZE_4K) for page in sorted(guest.vm.pgt.pages.counts)
    ]


NEWEST = [name for name in PROFILES if name not in ("2012", "2021-granule")]


@pytest.mark.kvm_row(49)
@pytest.mark.parametrize("profile", ["2021", "2021-granule", "2026"])
def test_granule_equal_to_the_mapping_uses_no_table(profile: str) -> None:
    guest, seen = watched(profile)
    run(guest, seen, load(RAM, level=1))
    added, tables = run(guest, seen, load(RAM + SIZE_4K, level=3))
    assert tables == [0]
    assert (added == 0) == (profile == "2021-granule"), "only that rule knows beforehand"
    added, tables = run(guest, seen, fetch(RAM, PERMISSION))
    assert (added, tables) == (0, [0])


@pytest.mark.kvm_row(49)
@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize(("level", "tables"), [(1, 2), (2, 1)])
def test_granule_above_the_mapping_uses_a_table_for_each_level(
    profile: str, level: int, tables: int
) -> None:
    guest, seen = watched(profile)
    if level == 2:
        guest.run(load(RAM + SIZE_2M, level=1))
    added, used = run(guest, seen, load(RAM, level=level))
    assert used == [tables]
    assert added >= tables


@pytest.mark.parametrize("profile", NEWEST)
def test_granule_below_the_mapping_uses_no_table_and_frees_one(profile: str) -> None:
    guest, seen = watched(profile, SIZE_2M, LOG)
    run(guest, seen, store(RAM, level=1))
    guest.set_flags(0)
    before = guest.vm.stats.table_pages
    _, used = run(guest, seen, load(RAM + SIZE_4K, level=3))
    assert used == [0]
    assert guest.vm.stats.table_pages == before - 1
    assert guest.vm.pgt.get_leaf(RAM).level == 2


@pytest.mark.parametrize("profile", [*NEWEST, "2021-granule"])
def test_write_that_splits_a_block_for_the_log_uses_one_table(profile: str) -> None:
    guest, seen = watched(profile, SIZE_2M)
    run(guest, seen, store(RAM, level=1))
    guest.set_flags(LOG)
    added, used = run(guest, seen, store(RAM, PERMISSION, level=2))
    assert used == [1]
    assert added > 0
    assert guest.vm.pgt.get_leaf(RAM).level == 3


@pytest.mark.kvm_row(49)
@pytest.mark.parametrize(
    ("profile", "expected"),
    [("2018", True), ("2021", True), ("2021-granule", False), ("2026", True)],
)
def test_write_to_a_logged_page_tops_up_though_no_table_is_missing(
    profile: str, expected: bool
) -> None:
    guest, seen = watched(profile, flags=LOG)
    guest.run(load(RAM, level=1))
    added, used = run(guest, seen, store(RAM, PERMISSION))
    assert (bool(added), used) == (expected, [0])


@pytest.mark.kvm_row(49)
@pytest.mark.parametrize(
    ("profile", "expected"),
    [("2018", True), ("2021", False), ("2021-granule", False), ("2026", True)],
)
def test_fetch_from_a_logged_page_tops_up_by_the_profiles_rule(
    profile: str, expected: bool
) -> None:
    guest, seen = watched(profile, flags=LOG)
    guest.run(load(RAM, level=1))
    added, used = run(guest, seen, fetch(RAM, PERMISSION))
    assert (bool(added), used) == (expected, [0])


@pytest.mark.kvm_row(49)
@pytest.mark.parametrize(
    ("profile", "expected"),
    [("2018", True), ("2021", False), ("2021-granule", False), ("2026", False)],
)
def test_permission_fault_without_log_tops_up_only_in_2018(profile: str, expected: bool) -> None:
    guest, seen = watched(profile)
    guest.run(load(RAM, level=1))
    added, _ = run(guest, seen, fetch(RAM, PERMISSION))
    assert bool(added) == expected


@pytest.mark.parametrize("profile", list(PROFILES))
def test_without_memory_for_tables_nothing_changes(profile: str) -> None:
    guest, seen = watched(profile)
    guest.vm.host.write(guest.hva, bytes(2 * SIZE_2M))
    guest.run(store(RAM, level=1))
    guest.vcpu.memcache.free()
    frames = guest.vm.host.frames
    while frames.allocate() is not None:
        pass
    before = table_image(guest), guest.vm.stats.table_pages
    seen.clear()
    exit_ = guest.run(store(RAM + SIZE_2M, level=2))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOMEM
    assert (table_image(guest), guest.vm.stats.table_pages) == before
    assert seen == []
    assert guest.vcpu.pc == 0


def test_without_memory_a_fault_that_misses_no_table_succeeds_by_granule() -> None:
    guest, seen = watched("2021-granule")
    guest.vm.host.write(guest.hva, bytes(2 * SIZE_4K))
    guest.run(store(RAM, level=1))
    guest.vcpu.memcache.free()
    while guest.vm.host.frames.allocate() is not None:
        pass
    _, used = run(guest, seen, store(RAM + SIZE_4K, level=3))
    assert used == [0]


def test_events_of_tables_read_as_lines() -> None:
    guest, seen = watched("2026")
    guest.run(load(RAM, level=1))
    assert [str(event) for event in seen] == [
        "memcache_topup: 40 pages, now 40",
        (
            "stage2_install: ipa 0x40000000, granule 0x40000000, size 0x1000, "
            "prot <Prot.W|R: 6>, mapped, 2 tables, OK"
        ),
    ]
    assert guest.vm.pgt.get_leaf(IPA(RAM)).level == 3
