"""Cache maintenance by policy of the instruction cache and by the rules of a kernel's year."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import pytest

from emu.arch.address import IPA, PA
from emu.arch.esr.fsc import FaultType
from emu.arch.registers.identification import CTR_EL0, IcachePolicy
from hyp.cpufeature import HostFeatures
from hyp.errors import Errno
from hyp.events import CacheMaintenanceOp
from hyp.host import SIZE_2M, SIZE_4K
from hyp.icache import RULES, CacheMaintenance
from hyp.percpu import CurrentCpu
from hyp.pte import PTE_LOCKED, Prot, pte_executable
from hyp.stats import Stats
from tests.hyp.fake_machine import (
    DIC_CPU,
    NEW_CPU,
    OLD_CPU,
    RAM,
    FakeMachine,
    FakePE,
    Guest,
    fetch,
    load,
    make_guest,
    store,
)
from tests.hyp.stage2 import OUTPUT, entry_address, make_stage2

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.cpu.pe import ProcessingElement

PAGE: Final = ("IVAU", PA(0x1000), SIZE_4K)
ALL: Final = ("IALLUIS", None, 1)


def with_policy(policy: IcachePolicy, features: CpuFeatures = OLD_CPU) -> CpuFeatures:
    return features.replace(features.read(CTR_EL0).replace(L1Ip=policy))


def make_cmo(features: CpuFeatures, year: int = 2026) -> tuple[FakePE, CacheMaintenance, Stats]:
    pe = FakeMachine(features=features).pes[0]
    real = cast("ProcessingElement", pe)
    stats = Stats()
    cmo = CacheMaintenance(CurrentCpu(real), HostFeatures.of(real), stats)
    cmo.rules = RULES[year]
    return pe, cmo, stats


# --- what is invalidated -----------------------------------------------------------------


@pytest.mark.kvm_row(4, 5)
@pytest.mark.parametrize(
    ("policy", "in_2012", "since_2017"),
    [
        (IcachePolicy.PIPT, [PAGE], [PAGE]),
        (IcachePolicy.VIPT, [ALL], [ALL]),
        (IcachePolicy.AIVIVT, [], [ALL]),
        (IcachePolicy.VPIPT, [ALL], [ALL]),
    ],
)
def test_reach_depends_on_how_the_cache_finds_its_lines(
    policy: IcachePolicy, in_2012: list[object], since_2017: list[object]
) -> None:
    for year, expected in ((2012, in_2012), (2018, since_2017), (2021, since_2017)):
        pe, cmo, stats = make_cmo(with_policy(policy), year)
        cmo.icache_inval_pou(PA(0x1000), SIZE_4K)
        assert pe.log == expected, year
        assert stats.icache_invalidations == len(expected)


@pytest.mark.parametrize(("year", "operation"), [(2021, "IVAU"), (2026, "IALLUIS")])
def test_a_block_is_invalidated_whole_since_operations_by_line_are_limited(
    year: int, operation: str
) -> None:
    pe, cmo, _ = make_cmo(OLD_CPU, year)
    cmo.icache_inval_pou(PA(SIZE_2M), SIZE_2M)
    assert pe.names() == [operation]


def test_invalidation_of_everything() -> None:
    pe, cmo, stats = make_cmo(OLD_CPU)
    cmo.icache_inval_all_pou()
    assert pe.log == [ALL]
    assert stats.icache_invalidations == 1


@pytest.mark.kvm_row(5)
def test_coherent_icache_needs_nothing_once_the_kernel_knows_of_it() -> None:
    for year in (2018, 2021, 2026):
        pe, cmo, stats = make_cmo(DIC_CPU, year)
        cmo.icache_inval_pou(PA(0x1000), SIZE_4K)
        cmo.icache_inval_all_pou()
        assert pe.log == []
        assert stats.icache_invalidations == 0
    pe, cmo, _ = make_cmo(DIC_CPU, 2012)
    cmo.icache_inval_pou(PA(0x1000), SIZE_4K)
    assert pe.log == [PAGE]


@pytest.mark.parametrize(("features", "times"), [(OLD_CPU, 1), (NEW_CPU, 0)])
@pytest.mark.kvm_row(52)
def test_data_is_cleaned_unless_write_back_is_forced(features: CpuFeatures, times: int) -> None:
    pe, cmo, stats = make_cmo(features)
    cmo.dcache_clean_inval_poc(PA(0x1000), SIZE_4K)
    assert pe.names() == ["CIVAC"] * times
    assert stats.dcache_cleans == times


# --- when --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("year", "is_exec", "is_permission", "operations"),
    [
        (2012, False, False, ["IVAU"]),
        (2012, True, False, ["IVAU"]),
        (2012, False, True, ["IVAU"]),
        (2018, False, False, ["CIVAC"]),
        (2018, True, False, ["CIVAC", "IVAU"]),
        (2018, True, True, ["IVAU"]),
        (2018, False, True, []),
        (2021, True, False, []),
        (2026, True, False, []),
    ],
)
def test_what_the_fault_handler_does_ahead_of_the_walk(
    year: int, is_exec: bool, is_permission: bool, operations: list[str]
) -> None:
    pe, cmo, _ = make_cmo(OLD_CPU, year)
    cmo.before_map(PA(0x1000), SIZE_4K, is_exec=is_exec, is_permission=is_permission)
    assert pe.names() == operations


@pytest.mark.parametrize("year", RULES)
def test_the_walk_maintains_caches_only_by_rules_that_place_it_there(year: int) -> None:
    s2 = make_stage2(OLD_CPU)
    s2.pgt.use_cache_rules(RULES[year])
    assert s2.map(0x4000_0000, SIZE_4K, OUTPUT, Prot.R | Prot.X) is Errno.OK
    s2.map(0x4000_1000, SIZE_4K, OUTPUT, Prot.R)
    s2.pe.log.clear()
    s2.pgt.relax_perms(IPA(0x4000_1000), Prot.R | Prot.X)
    in_walk = year >= 2021
    assert s2.pe.names() == ["IVAU"] * in_walk + ["IPAS2E1", "VMALLE1"]
    assert s2.stats.dcache_cleans == 2 * in_walk


@pytest.mark.parametrize(("year", "taken"), [(2012, 0), (2018, 1), (2021, 1), (2026, 0)])
@pytest.mark.parametrize("policy", [IcachePolicy.VPIPT, IcachePolicy.PIPT])
def test_vpipt_lines_go_with_the_tlb_entries_while_that_is_supported(
    policy: IcachePolicy, year: int, taken: int
) -> None:
    s2 = make_stage2(with_policy(policy))
    s2.pgt.use_cache_rules(RULES[year])
    s2.map(0x4000_0000, SIZE_4K, OUTPUT, Prot.R)
    s2.pe.log.clear()
    s2.pgt.unmap(IPA(0x4000_0000), SIZE_4K)
    expected = taken if policy is IcachePolicy.VPIPT else 0
    assert s2.pe.names().count("IALLUIS") == 3 * expected, "page and two tables"


# --- seen from the guest's faults --------------------------------------------------------


def guest_of(year: int, features: CpuFeatures = OLD_CPU) -> Guest:
    guest = make_guest(features)
    guest.vm.pgt.use_cache_rules(RULES[year])
    return guest


@pytest.mark.kvm_row(4)
def test_in_2012_every_map_is_executable_and_invalidates() -> None:
    guest = guest_of(2012)
    for page in range(5):
        guest.run(store(RAM + page * SIZE_4K) if page % 2 else load(RAM + page * SIZE_4K))
        assert pte_executable(guest.vm.pgt.get_leaf(IPA(RAM + page * SIZE_4K)).pte)
    assert guest.vm.stats.icache_invalidations == guest.vm.stats.pages_mapped[SIZE_4K] == 5
    assert guest.vm.stats.dcache_cleans == 0


@pytest.mark.kvm_row(5)
@pytest.mark.parametrize("year", [2018, 2021, 2026])
def test_since_2017_only_the_first_fetch_invalidates(year: int) -> None:
    guest = guest_of(year)
    guest.run(load(RAM))
    assert not pte_executable(guest.vm.pgt.get_leaf(RAM).pte)
    assert guest.vm.stats.icache_invalidations == 0
    guest.pe.stage1 = lambda _va: RAM
    guest.run(fetch(RAM, FaultType.PERMISSION))
    assert pte_executable(guest.vm.pgt.get_leaf(RAM).pte)
    assert guest.vm.stats.icache_invalidations == 1
    assert guest.vm.stats.dcache_cleans == 1


@pytest.mark.parametrize("year", [2018, 2021, 2026])
def test_all_of_a_transparent_huge_page_is_maintained(year: int) -> None:
    guest = guest_of(year)
    slot = IPA(0x8000_0000)
    hva = guest.vm.host.mmap(SIZE_2M, private=True, thp=True)
    guest.add_slot(1, slot, SIZE_2M, hva=hva)
    guest.vm.host.write(hva, b"x")
    seen: list[object] = []
    guest.vm.pgt.cmo.events.subscribe(seen.append)
    guest.run(load(slot + 0x12_3000))
    pte, level = guest.vm.pgt.get_leaf(slot)
    assert level == 2
    pa, time = PA(pte & 0xFFFF_FFFF_F000), guest.pe.retired - 1000
    assert seen == [CacheMaintenanceOp(0, time, "CIVAC", pa, SIZE_2M)]


# --- traced ------------------------------------------------------------------------------


def test_each_operation_is_an_event_with_its_page() -> None:
    guest = guest_of(2026)
    seen: list[object] = []
    guest.vm.pgt.cmo.events.subscribe(seen.append)
    guest.run(fetch(RAM))
    pa = PA(guest.vm.pgt.get_leaf(RAM).pte & 0xFFFF_FFFF_F000)
    time = guest.pe.retired - 1000
    assert seen == [
        CacheMaintenanceOp(0, time, "CIVAC", pa, SIZE_4K),
        CacheMaintenanceOp(0, time, "IVAU", pa, SIZE_4K),
    ]
    guest.vm.pgt.cmo.icache_inval_all_pou()
    assert [str(event) for event in seen[1:]] == [
        f"cache_maintenance_op: IVAU pa {pa:#x}, size 0x1000",
        "cache_maintenance_op: IALLUIS all",
    ]


@pytest.mark.kvm_row(10)
def test_maintenance_happens_while_the_entry_is_locked() -> None:
    s2 = make_stage2(OLD_CPU)
    s2.map(0x4000_0000, SIZE_4K, OUTPUT, Prot.R | Prot.X)
    ptep = entry_address(s2, 0x4000_0000, 3)
    entries: list[int] = []
    s2.pgt.cmo.events.subscribe(lambda _: entries.append(s2.memory.read_u64(ptep)))
    s2.map(0x4000_0000, SIZE_4K, OUTPUT + SIZE_4K, Prot.R | Prot.X)
    assert entries == [PTE_LOCKED, PTE_LOCKED]
