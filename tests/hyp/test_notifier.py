"""MMU notifiers: stage 2 follows the host's tables."""

from __future__ import annotations

import gc

import pytest

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultType
from hyp.events import KvmAgeHva, KvmTestAgeHva, KvmUnmapHvaRange
from hyp.exits import Intr
from hyp.host import HVA, SIZE_2M, SIZE_4K, HostMemory, HostPfn
from hyp.pte import PTE_AF, Prot, pte_prot, pte_to_phys, pte_valid
from hyp.stats import Resolution
from tests.hyp.fake_machine import RAM, RAM_SIZE, FakeMachine, Guest, load, make_guest, store


@pytest.fixture
def guest() -> Guest:
    return make_guest()


def is_mapped(guest: Guest, ipa: int) -> bool:
    return pte_valid(guest.vm.pgt.get_leaf(IPA(ipa)).pte)


def page(guest: Guest, number: int) -> HVA:
    return HVA(guest.hva + number * SIZE_4K)


def resolutions(guest: Guest) -> list[Resolution]:
    return [key[2] for key in guest.vm.stats.aborts]


def test_start_unmaps_the_range_and_nothing_else(guest: Guest) -> None:
    guest.run(*(store(RAM + n * SIZE_4K) for n in range(4)))
    notifier = guest.vm.notifier
    notifier.invalidate_range_start(page(guest, 1), page(guest, 3))
    assert [is_mapped(guest, RAM + n * SIZE_4K) for n in range(4)] == [True, False, False, True]
    assert (notifier.in_progress, notifier.active, notifier.seq) == (1, 1, 0)
    notifier.invalidate_range_end(page(guest, 1), page(guest, 3))
    assert (notifier.in_progress, notifier.active, notifier.seq) == (0, 0, 1)


def test_range_outside_the_slots_is_only_counted_as_active(guest: Guest) -> None:
    notifier = guest.vm.notifier
    notifier.invalidate_range_start(HVA(0x1000), HVA(0x2000))
    assert (notifier.in_progress, notifier.active) == (0, 1)
    notifier.invalidate_range_end(HVA(0x1000), HVA(0x2000))
    assert (notifier.active, notifier.seq) == (0, 0)


@pytest.mark.kvm_row(50)
def test_page_inside_a_block_takes_the_whole_block_away() -> None:
    guest = make_guest(page_size=SIZE_2M)
    guest.run(store(RAM))
    guest.vm.notifier.invalidate_range_start(page(guest, 3), page(guest, 4))
    assert not is_mapped(guest, RAM)


@pytest.mark.kvm_row(44)
def test_nothing_is_mapped_while_an_invalidation_is_under_way(guest: Guest) -> None:
    notifier = guest.vm.notifier
    seq = notifier.seq
    notifier.invalidate_range_start(page(guest, 0), page(guest, 1))
    assert notifier.seq == seq
    assert isinstance(guest.run(store(RAM)), Intr)
    assert not is_mapped(guest, RAM)
    assert resolutions(guest) == [Resolution.RETRIED]
    notifier.invalidate_range_end(page(guest, 0), page(guest, 1))
    guest.run(store(RAM))
    assert is_mapped(guest, RAM)


@pytest.mark.kvm_row(44)
def test_only_pages_of_the_range_wait_by_gfn(guest: Guest) -> None:
    notifier = guest.vm.notifier
    seq, gfn = notifier.seq, RAM >> 12
    assert not notifier.retry_gfn(seq, gfn + 2)
    notifier.invalidate_range_start(page(guest, 2), page(guest, 3))
    notifier.invalidate_range_start(page(guest, 5), page(guest, 6))
    waiting = [n for n in range(8) if notifier.retry_gfn(seq, gfn + n)]
    assert waiting == [2, 3, 4, 5], "the range only grows while any is under way"
    notifier.invalidate_range_end(page(guest, 2), page(guest, 3))
    notifier.invalidate_range_end(page(guest, 5), page(guest, 6))
    assert notifier.retry_gfn(seq, gfn), "what was looked up before is stale anywhere"
    notifier.invalidate_range_start(page(guest, 7), page(guest, 8))
    assert (notifier.range_start, notifier.range_end) == (gfn + 7, gfn + 8)


@pytest.mark.kvm_row(22, 43)
def test_page_that_moves_between_lookup_and_lock_is_not_mapped_nor_dirty(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.set_flags(1)
    host = guest.vm.host
    host.write(guest.hva, b"contents")
    faultin = HostMemory.faultin_pfn
    calls: list[HostPfn] = []

    def moved_behind(self: HostMemory, *args: object, **options: object) -> object:
        found = faultin(self, *args, **options)  # type: ignore[arg-type]  # passed through
        assert isinstance(found, HostPfn)
        if not calls:
            self.migrate(guest.hva)
        calls.append(found)
        return found

    monkeypatch.setattr(HostMemory, "faultin_pfn", moved_behind)
    guest.run(store(RAM))
    assert not is_mapped(guest, RAM)
    assert guest.vm.get_dirty_log(0) == bytes(256)
    guest.run(store(RAM))
    first, second = calls
    assert pte_to_phys(guest.vm.pgt.get_leaf(RAM).pte) == second.pa != first.pa
    assert guest.machine.memory.read(second.pa, 8) == b"contents"


@pytest.mark.parametrize(
    ("profile", "neighbour", "mapped"),
    [("2018", True, True), ("6.1", True, True), ("6.1", False, False), ("2026", True, False)],
)
def test_page_that_is_copied_for_a_write_is_mapped_at_once_if_its_table_is_there(
    profile: str, neighbour: bool, mapped: bool
) -> None:
    guest = make_guest(profile=profile)
    slot = IPA(0x8000_0000)
    hva = guest.vm.host.mmap(2 * SIZE_4K, private=True)
    guest.add_slot(1, slot, 2 * SIZE_4K, hva=hva)
    guest.run(load(slot))
    if neighbour:
        guest.run(store(slot + SIZE_4K))
    guest.run(store(slot, FaultType.PERMISSION))
    assert ("kvm_set_spte_hva" in guest.event_names()) == (profile != "2026")
    leaf = guest.vm.pgt.get_leaf(slot).pte
    assert pte_valid(leaf) == mapped
    if mapped:
        assert pte_prot(leaf) == Prot.R
        guest.run(store(slot, FaultType.PERMISSION))
    else:
        guest.run(store(slot))
    assert pte_prot(guest.vm.pgt.get_leaf(slot).pte) == Prot.R | Prot.W


@pytest.mark.parametrize(
    ("profile", "prot", "cleans"), [("2012", Prot.R | Prot.X, 0), ("2018", Prot.R, 1)]
)
def test_page_that_is_mapped_as_it_is_copied_obeys_the_cache_rules_of_its_time(
    profile: str, prot: Prot, cleans: int
) -> None:
    guest = make_guest(profile=profile)
    slot = IPA(0x8000_0000)
    hva = guest.vm.host.mmap(2 * SIZE_4K, private=True)
    guest.add_slot(1, slot, 2 * SIZE_4K, hva=hva)
    guest.run(load(slot))
    guest.run(store(slot + SIZE_4K))
    before = guest.vm.stats.dcache_cleans
    guest.vm.host.write(hva, b"copied")
    assert pte_prot(guest.vm.pgt.get_leaf(slot).pte) == prot
    unmapped = 1  # what is taken away is cleaned in every profile
    assert guest.vm.stats.dcache_cleans - before == unmapped + cleans


@pytest.mark.parametrize(("profile", "level"), [("2018", 3), ("6.1", 3), ("2026", 2)])
def test_huge_page_of_zeros_that_is_written(profile: str, level: int) -> None:
    guest = make_guest(profile=profile)
    slot = IPA(0x8000_0000)
    hva = guest.vm.host.mmap(SIZE_2M, private=True, thp=True)
    guest.add_slot(1, slot, SIZE_2M, hva=hva)
    guest.run(load(slot))
    assert guest.vm.pgt.get_leaf(slot).level == 2
    guest.run(store(slot, FaultType.PERMISSION, level=2))
    assert not is_mapped(guest, slot)
    guest.run(store(slot))
    assert guest.vm.pgt.get_leaf(slot).level == level


@pytest.mark.kvm_row(42)
def test_ageing_clears_the_access_flag_and_the_next_access_sets_it(guest: Guest) -> None:
    guest.run(store(RAM))
    leaf = guest.vm.pgt.get_leaf(RAM).pte
    assert guest.vm.notifier.test_young(guest.hva)
    assert guest.vm.host.age(guest.hva, SIZE_4K)
    assert guest.vm.pgt.get_leaf(RAM).pte == leaf & ~PTE_AF
    assert not guest.vm.notifier.test_young(guest.hva)
    assert not guest.vm.host.age(guest.hva, SIZE_4K)
    guest.run(load(RAM, FaultType.ACCESS_FLAG))
    assert guest.vm.pgt.get_leaf(RAM).pte == leaf
    assert "kvm_access_fault" in guest.event_names()


def test_ageing_alone_leaves_the_tlb_and_with_flush_does_not(guest: Guest) -> None:
    guest.run(store(RAM))
    guest.pe.log.clear()
    assert guest.vm.notifier.clear_young(guest.hva, page(guest, 1))
    assert guest.pe.log == []
    guest.run(load(RAM, FaultType.ACCESS_FLAG))
    assert guest.vm.notifier.clear_flush_young(guest.hva, page(guest, 1))
    assert guest.pe.names() == ["VMALLS12E1IS"]


def test_the_hosts_calls_are_traced(guest: Guest) -> None:
    guest.vm.host.discard(guest.hva, SIZE_4K)
    guest.vm.host.age(guest.hva, SIZE_4K)
    guest.vm.notifier.test_young(guest.hva)
    kinds = [type(event) for event in guest.events]
    assert kinds == [KvmUnmapHvaRange, KvmAgeHva, KvmTestAgeHva]
    assert [event.text() for event in guest.events] == [
        "mmu notifier unmap range: 0x007f0000000000 -- 0x007f0000001000",
        "mmu notifier age hva: 0x007f0000000000 -- 0x007f0000001000",
        "mmu notifier test age hva: 0x007f0000000000",
    ]


def test_two_slots_on_one_area_are_both_told(guest: Guest) -> None:
    guest.add_slot(1, 0x8000_0000, SIZE_4K, hva=page(guest, 2))
    guest.run(store(0x8000_0000), store(RAM + 2 * SIZE_4K))
    guest.vm.host.munmap(page(guest, 2), SIZE_4K)
    assert not is_mapped(guest, 0x8000_0000)
    assert not is_mapped(guest, RAM + 2 * SIZE_4K)


def test_destroyed_vm_is_not_told_any_more(guest: Guest) -> None:
    guest.vm.destroy()
    guest.vm.host.munmap(guest.hva, SIZE_4K)
    assert guest.vm.notifier.seq == 0


def test_the_host_keeps_no_vm_alive() -> None:
    host = make_guest().vm.host
    gc.collect()
    assert list(host.notifiers) == []


def test_vms_that_share_the_host_are_all_told() -> None:
    machine = FakeMachine(RAM_SIZE, 2)
    first, second = machine.vm(), machine.vm()
    hva = first.host.mmap(SIZE_4K)
    first.host.discard(hva, SIZE_4K)
    assert (first.notifier.active, second.notifier.active) == (0, 0)
    assert list(first.host.notifiers) == [first.notifier, second.notifier]
