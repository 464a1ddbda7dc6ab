"""Changing slots while the guest runs: the invalid window, generations, refused moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA, PA, PAGE_SHIFT
from emu.arch.esr.fsc import FaultType
from emu.arch.registers.identification import CTR_EL0
from hyp.dirty import dirty_pages
from hyp.errors import Errno, KvmError
from hyp.exits import Mmio
from hyp.host import HVA, SIZE_4K, PfnMemory
from hyp.memslots import GEN_UPDATE_IN_PROGRESS, MemoryRegion, MemoryRegionFlags
from hyp.pte import pte_valid
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU, RAM, Guest, fetch, load, make_guest, store
from tests.hyp.observable import changes, refusal, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures

READONLY, LOG = MemoryRegionFlags.READONLY, MemoryRegionFlags.LOG_DIRTY_PAGES
INVALID = MemoryRegionFlags.INVALID
SIZE = 4 * SIZE_4K
COHERENT_CPU = NEW_CPU.replace(NEW_CPU.read(CTR_EL0).replace(DIC=1))
BASE, ELSEWHERE = 0x8000_0000, 0x9000_0000


@pytest.fixture
def guest() -> Guest:
    guest = make_guest(pe_count=2, memory_size=16 << 20)
    guest.add_slot(1, BASE, SIZE)
    guest.vm.create_vcpu(1).init()
    return guest


def hva(guest: Guest) -> HVA:
    slot = guest.vm.memslots.get(1)
    assert slot is not None
    return slot.userspace_addr


LATE_REFUSAL_CHANGES = (
    "Guest.machine.memory",
    "Guest.vm.memslots.generation",
    "Guest.vm.memslots._last_used",
    "Guest.vm.memslots._by_gfn",
    "Guest.vm.memslots._by_id",
    "Guest.vm.stats.tlb_flushes",
    "Guest.vm.stats.table_pages",
    "Guest.vm.stats.dcache_cleans",
    "Guest.vm.pgt.pages.counts",
    "Guest.vm.host.frames.allocated",
    "Guest.vm.host.frames._used",
    "Guest.vcpu.pe.log",
)
"""What a move that is refused late has done: the pages are unmapped, their tables are free."""


def delete(guest: Guest, slot: int = 1) -> None:
    guest.vm.set_user_memory_region(MemoryRegion(slot, 0, IPA(0), 0, HVA(0)))


def move(guest: Guest, to: int = ELSEWHERE, flags: int = 0) -> None:
    guest.add_slot(1, to, SIZE, flags, hva=hva(guest))


def create(guest: Guest) -> None:
    guest.add_slot(2, ELSEWHERE, SIZE)


def is_mapped(guest: Guest, ipa: int) -> bool:
    return pte_valid(guest.vm.pgt.get_leaf(IPA(ipa)).pte)


@pytest.mark.kvm_row(36)
def test_move_has_a_window_in_which_the_slot_is_invalid_and_then_one_with_the_new_slot(
    guest: Guest,
) -> None:
    guest.run(load(BASE))
    seen: list[object] = []

    def look() -> None:
        slot = guest.vm.memslots.get(1)
        assert slot is not None
        found = [guest.vm.memslots.find(ipa >> PAGE_SHIFT) for ipa in (BASE, ELSEWHERE)]
        invalid = bool(slot.flags & INVALID)
        seen.append((invalid, slot.base_ipa, *(s is not None for s in found)))
        seen.append(is_mapped(guest, BASE))

    guest.vm.synchronize_srcu = look
    move(guest)
    assert seen == [(True, BASE, False, False), True, (False, ELSEWHERE, False, True), False]


@pytest.mark.kvm_row(36)
@pytest.mark.parametrize("operation", [delete, move])
def test_access_in_the_window_is_mmio_and_never_a_stale_page(
    guest: Guest, operation: Callable[[Guest], None]
) -> None:
    exits = []
    windows = 0

    def other_vcpu() -> None:
        nonlocal windows
        windows += 1
        if windows == 1:
            guest.machine.pes[1].guest.append(store(BASE + 8))
            exits.append(guest.vm.vcpus[1].run(10))

    guest.vm.synchronize_srcu = other_vcpu
    operation(guest)
    assert exits == [Mmio(IPA(BASE + 8), bytes(8), 8, True)]
    assert windows == 2
    assert not is_mapped(guest, BASE)


@pytest.mark.kvm_row(36)
def test_fetch_in_the_window_is_an_abort_of_the_guest(guest: Guest) -> None:
    pcs: list[int] = []

    def other_vcpu() -> None:
        if not pcs:
            guest.machine.pes[1].guest.append(fetch(BASE))
            guest.vm.vcpus[1].run(10)
            pcs.append(int(guest.vm.vcpus[1].pc))

    guest.vm.synchronize_srcu = other_vcpu
    delete(guest)
    assert pcs == [0x200], "the vector of a synchronous exception from EL1"


@pytest.mark.parametrize(
    ("operation", "swaps"),
    [
        (delete, 2),
        (move, 2),
        (lambda guest: move(guest, BASE, LOG), 1),
        (create, 1),
        (lambda guest: move(guest, BASE), 0),
    ],
    ids=["delete", "move", "flags only", "create", "nothing"],
)
@pytest.mark.kvm_row(35)
def test_generation_advances_with_each_swap(
    guest: Guest, operation: Callable[[Guest], None], swaps: int
) -> None:
    before = guest.vm.memslots.generation
    during = []
    guest.vm.synchronize_srcu = lambda: during.append(guest.vm.memslots.generation)
    operation(guest)
    assert guest.vm.memslots.generation == before + swaps
    assert during == [before + n | GEN_UPDATE_IN_PROGRESS for n in range(swaps)]


@pytest.mark.kvm_row(35)
def test_refused_move_keeps_the_slot_but_its_pages_fault_in_again(guest: Guest) -> None:
    guest.run(load(BASE))
    slot, before = guest.vm.memslots.get(1), guest.vm.memslots.generation
    everything = snapshot(guest)
    with pytest.raises(KvmError) as caught:
        move(guest, 1 << 40)
    assert caught.value.errno is Errno.EFAULT
    changed = changes(everything, snapshot(guest))
    assert [path for path in changed if not path.startswith(LATE_REFUSAL_CHANGES)] == []
    assert guest.vm.memslots.get(1) is slot
    assert guest.vm.memslots.find(BASE >> PAGE_SHIFT) is slot
    assert guest.vm.memslots.generation == before + 2
    assert not is_mapped(guest, BASE)
    guest.run(load(BASE))
    assert is_mapped(guest, BASE)


@pytest.mark.kvm_row(35)
def test_refusal_before_the_window_leaves_mappings_and_generation(guest: Guest) -> None:
    guest.run(load(BASE))
    assert refusal(lambda: move(guest, RAM), guest).errno is Errno.EEXIST
    assert is_mapped(guest, BASE)


@pytest.mark.kvm_row(35)
def test_move_may_change_the_flags_as_well(guest: Guest) -> None:
    guest.run(store(BASE))
    guest.add_slot(1, ELSEWHERE, SIZE, LOG, hva=hva(guest))
    guest.run(load(ELSEWHERE), store(ELSEWHERE + SIZE_4K))
    assert list(dirty_pages(guest.vm.get_dirty_log(1))) == [1]


@pytest.mark.kvm_row(35)
def test_flag_of_the_hypervisor_is_not_for_user_space(guest: Guest) -> None:
    region = MemoryRegion(2, INVALID, IPA(ELSEWHERE), SIZE, guest.vm.host.mmap(SIZE))
    for call in (
        lambda: guest.vm.set_user_memory_region(region),
        lambda: guest.vm.set_user_memory_region(replace(region, flags=INVALID | LOG)),
    ):
        error = refusal(call, guest)
        assert error.errno is Errno.EINVAL
        assert "flags" in error.message


@pytest.mark.kvm_row(35)
def test_every_slot_number_can_be_used_and_one_more_is_refused() -> None:
    guest = make_guest()
    numbers = [1, 2, 32766]
    for number in numbers:
        guest.add_slot(number, BASE + number * SIZE_4K, SIZE_4K)
    for number in (32767, 0xFFFF, 1 << 16):
        with pytest.raises(KvmError) as caught:
            guest.add_slot(number, ELSEWHERE, SIZE_4K)
        assert caught.value.errno is Errno.EINVAL
    assert len(guest.vm.memslots) == 1 + len(numbers)


@pytest.mark.kvm_row(35)
@pytest.mark.parametrize("where", [0, RAM - SIZE_4K, BASE + SIZE, (1 << 40) - SIZE_4K])
def test_slots_that_come_and_go_do_not_disturb_running_vcpus(guest: Guest, where: int) -> None:
    pages = range(0, 4 * SIZE_4K, SIZE_4K)
    guest.run(*(store(RAM + page) for page in pages))
    leaves = [guest.vm.pgt.get_leaf(IPA(RAM + page)) for page in pages]
    before = len(guest.events)
    for _ in range(5):
        guest.add_slot(9, where, SIZE_4K)
        delete(guest, 9)
    assert [guest.vm.pgt.get_leaf(IPA(RAM + page)) for page in pages] == leaves
    assert len(guest.events) == before
    assert guest.vm.memslots.find(where >> PAGE_SHIFT) is None


@pytest.mark.kvm_row(34)
@pytest.mark.parametrize("flags", [READONLY, READONLY | LOG])
def test_write_to_a_read_only_slot_exits_each_time_and_marks_nothing(
    guest: Guest, flags: MemoryRegionFlags
) -> None:
    guest.add_slot(2, ELSEWHERE, SIZE, flags)
    guest.run(load(ELSEWHERE))
    for fault in (FaultType.PERMISSION, FaultType.PERMISSION):
        exit_ = guest.run(store(ELSEWHERE, fault))
        assert exit_ == Mmio(IPA(ELSEWHERE), bytes(8), 8, True)
    assert is_mapped(guest, ELSEWHERE)
    if flags & LOG:
        assert not any(guest.vm.get_dirty_log(2))


@pytest.mark.kvm_row(35)
def test_slots_do_not_change_while_the_host_invalidates_pages(guest: Guest) -> None:
    guest.run(load(BASE))
    address = hva(guest)
    with guest.vm.host.notifiers.invalidate(address, HVA(address + SIZE_4K)):
        fresh = guest.vm.host.mmap(SIZE)
        for change in (
            lambda: delete(guest),
            lambda: move(guest),
            lambda: guest.add_slot(2, ELSEWHERE, SIZE, hva=fresh),
        ):
            error = refusal(change, guest)
            assert error.errno is Errno.EBUSY
            assert "1 invalidations" in error.message
    delete(guest)


# --- areas of raw frames ---------------------------------------------------------------------


@pytest.mark.kvm_row(37)
def test_raw_frames_cannot_be_logged_from_the_start_nor_later(guest: Guest) -> None:
    frames = guest.vm.host.mmap_pfn(PA(0x900_0000), SIZE)
    for _ in range(2):
        error = refusal(lambda: guest.add_slot(2, ELSEWHERE, SIZE, LOG, hva=frames), guest)
        assert error.errno is Errno.EINVAL
        assert "cannot be logged" in error.message
        guest.add_slot(2, ELSEWHERE, SIZE, hva=frames)


@pytest.mark.kvm_row(37)
def test_one_raw_page_in_a_slot_is_enough_and_one_beside_it_is_not(guest: Guest) -> None:
    frames = guest.vm.host.mmap_pfn(PA(0x900_0000), SIZE_4K)
    with pytest.raises(KvmError, match="cannot be logged"):
        guest.add_slot(2, ELSEWHERE, SIZE, LOG, hva=HVA(frames - SIZE_4K))
    guest.add_slot(2, ELSEWHERE, SIZE, LOG, hva=HVA(frames + SIZE_4K))


@pytest.mark.parametrize(
    ("features", "accepted"), [(OLD_CPU, False), (NEW_CPU, False), (COHERENT_CPU, True)]
)
def test_cacheable_raw_frames_need_coherent_caches(features: CpuFeatures, accepted: bool) -> None:
    guest = make_guest(features)
    frames = guest.vm.host.mmap_pfn(PA(0x900_0000), SIZE, memory=PfnMemory.CACHEABLE)
    if accepted:
        guest.add_slot(2, ELSEWHERE, SIZE, hva=frames)
        return
    error = refusal(lambda: guest.add_slot(2, ELSEWHERE, SIZE, hva=frames), guest)
    assert error.errno is Errno.EINVAL
    assert "FEAT_S2FWB" in error.message
