"""A slot that comes and goes beside running vCPUs, as in memslot_modification_stress_test."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA
from hyp.host import SIZE_2M, SIZE_4K
from hyp.memslots import MemoryRegion
from tests.hyp.selftests.guest import (
    BACKINGS,
    CODE,
    DATA,
    DATA_SLOT,
    TABLES,
    TOUCH,
    SelftestGuest,
    touch,
)

SIZE = 2 * SIZE_2M
ROUNDS = 10
DUMMY_SLOT = 7
PLACES = {
    "below the data": DATA - SIZE_4K,
    "above the data": DATA + SIZE,
    "below the code": CODE - SIZE_4K,
    "above the tables": TABLES + 32 * SIZE_4K,
    "first page": 0,
    "last page": (1 << 40) - SIZE_4K,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("backing", ["anonymous", "anonymous_hugetlb_2mb"])
@pytest.mark.kvm_row(35)
def test_vcpus_notice_nothing_of_a_slot_that_is_not_theirs(backing: str, place: str) -> None:
    guest = SelftestGuest(vcpus=2)
    guest.add_slot(DATA_SLOT, DATA, SIZE, backing=BACKINGS[backing])
    guest.load(*TOUCH, blocks=[DATA, DATA + SIZE_2M])
    step = BACKINGS[backing].page_size * (1 if backing != "anonymous" else 16)
    pages = SIZE_2M // step

    def touch_all(value: int) -> None:
        for vcpu in guest.vcpus:
            touch(guest, vcpu, DATA + SIZE_2M * vcpu.index, pages, step, write=value)

    touch_all(0)
    assert len([f for f in guest.faults() if f.where.startswith("data")]) == 2 * pages
    hva = guest.vm.host.mmap(SIZE_4K, private=True)
    windows = 0

    def in_the_window() -> None:
        nonlocal windows
        windows += 1
        touch_all(windows)

    guest.vm.synchronize_srcu = in_the_window
    generation = guest.vm.memslots.generation
    for _ in range(ROUNDS):
        for size in (SIZE_4K, 0):
            region = MemoryRegion(DUMMY_SLOT, 0, IPA(PLACES[place]), size, hva)
            guest.vm.set_user_memory_region(region)
            touch_all(1)
    assert guest.faults() == []
    # One window for the new slot; two for the one that goes, which is first made invalid.
    assert windows == guest.vm.memslots.generation - generation == 3 * ROUNDS
    assert {exit_ for exit_, count in guest.vm.stats.exits.items() if count} == {"MMIO"}
