"""Slots that are added, moved and deleted, as in the kernel's set_memory_region_test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emu.arch.address import IPA
from emu.machine import Machine
from hyp.capabilities import Cap
from hyp.errors import Errno, KvmError
from hyp.exits import InternalError, InternalErrorCode, Mmio
from hyp.host import HVA, SIZE_2M, SIZE_4K, TASK_SIZE
from hyp.memslots import MemoryRegion
from hyp.vm import VM
from tests.hyp.selftests.guest import (
    BACKINGS,
    CODE_SLOT,
    DATA,
    DATA_SLOT,
    LOG,
    READONLY,
    TOUCH,
    Fault,
    SelftestGuest,
    touch,
)

MMIO_VALUE = 0xBEEF
THP = BACKINGS["anonymous_thp"]


def test_as_many_slots_as_the_capability_says_and_no_more() -> None:
    vm = VM(Machine(4 << 20))
    count = vm.check_extension(Cap.NR_MEMSLOTS)
    hva = vm.host.mmap((count + 1) * SIZE_2M, private=True)

    def add(number: int) -> None:
        at = number * SIZE_2M
        vm.set_user_memory_region(MemoryRegion(number, 0, IPA(at), SIZE_2M, HVA(hva + at)))

    for number in range(count):
        add(number)
    with pytest.raises(KvmError) as caught:
        add(count)
    assert caught.value.errno is Errno.EINVAL
    assert sum(1 for _ in vm.memslots) == count


def test_guest_without_slots_makes_no_progress() -> None:
    vm = VM(Machine(4 << 20))
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    exit_ = vcpu.run(100)
    assert isinstance(exit_, InternalError)
    assert exit_.suberror is InternalErrorCode.NO_PROGRESS
    assert vcpu.pe.retired == 0


REFUSALS: dict[str, tuple[dict[str, Any], Errno]] = {
    "unknown flag": ({"flags": 1 << 3}, Errno.EINVAL),
    "a flag of the hypervisor": ({"flags": 1 << 16}, Errno.EINVAL),
    "guest_memfd without its call": ({"flags": 4}, Errno.EINVAL),
    "address inside a page": ({"guest_phys_addr": DATA + 0x800}, Errno.EINVAL),
    "size inside a page": ({"memory_size": SIZE_2M - 0x800}, Errno.EINVAL),
    "host address inside a page": ({"userspace_addr": 0x7F00_0000_0800}, Errno.EINVAL),
    "host address beyond user space": ({"userspace_addr": TASK_SIZE - SIZE_4K}, Errno.EINVAL),
    "wrap around": ({"slot": 8, "guest_phys_addr": (1 << 64) - SIZE_4K}, Errno.EINVAL),
    "another size": ({"memory_size": SIZE_4K}, Errno.EINVAL),
    "another host address": ({"userspace_addr": 0x7E00_0000_0000}, Errno.EINVAL),
    "read-only from now on": ({"flags": READONLY}, Errno.EINVAL),
    "slot number too high": ({"slot": 1 << 15}, Errno.EINVAL),
    "delete what is not there": ({"slot": 8, "memory_size": 0}, Errno.EINVAL),
    "its own range again": ({"slot": 8}, Errno.EEXIST),
    "last page of another": (
        {"slot": 8, "guest_phys_addr": DATA + SIZE_2M - SIZE_4K},
        Errno.EEXIST,
    ),
    "move onto the code": ({"guest_phys_addr": 0x4000_0000}, Errno.EEXIST),
    "beyond the guest's addresses": ({"slot": 8, "guest_phys_addr": 1 << 40}, Errno.EFAULT),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.kvm_row(35)
def test_impossible_request_is_refused_and_the_guest_runs_on(name: str) -> None:
    changes, errno = REFUSALS[name]
    guest = SelftestGuest()
    guest.add_slot(DATA_SLOT, DATA, SIZE_2M, backing=THP)
    guest.load(*TOUCH, blocks=[DATA])
    touch(guest, guest.vcpu, DATA, 1, write=7)
    guest.faults()
    generation = guest.vm.memslots.generation
    with pytest.raises(KvmError) as caught:
        guest.vm.set_user_memory_region(replace(guest.regions[DATA_SLOT], **changes))
    assert caught.value.errno is errno
    assert guest.vm.memslots.generation == generation
    touch(guest, guest.vcpu, DATA, 1)
    assert guest.x(guest.vcpu, 4) == 7
    assert guest.faults() == []


# --- a slot that is in use --------------------------------------------------------------------


class Spinning:
    """A guest that reads DATA over and over, and runs whenever the slots change under it."""

    def __init__(self) -> None:
        self.guest = guest = SelftestGuest()
        guest.add_slot(DATA_SLOT, DATA, SIZE_2M, backing=THP)
        guest.load(*TOUCH, pages=[DATA, DATA + SIZE_4K])
        touch(guest, guest.vcpu, DATA, 1)
        self.windows: list[int] = []
        guest.vm.synchronize_srcu = lambda: self.windows.append(self.read())

    def read(self) -> int:
        """Let the guest read once, and answer what becomes MMIO."""
        guest, vcpu = self.guest, self.guest.vcpu
        guest.set_x(vcpu, x1=DATA, x2=SIZE_4K, x3=1, x21=0x4000_0000)
        exit_ = vcpu.run(1000)
        if isinstance(exit_, Mmio) and exit_.phys_addr == DATA:
            assert exit_ == Mmio(DATA, bytes(8), 8, False)
            vcpu.set_mmio_data(MMIO_VALUE.to_bytes(8, "little"))
            guest.sync()
        return guest.x(vcpu, 4)

    @property
    def hva(self) -> HVA:
        """Where the slot's memory is."""
        return self.guest.regions[DATA_SLOT].userspace_addr

    def forget(self, *, mapped: bool) -> None:
        """Leave the slot's memory mapped, or not: the host moves it to another frame."""
        if not mapped:
            self.guest.vm.host.migrate(self.hva)

    def change(self, **changes: Any) -> list[int]:  # noqa: ANN401  # fields of a region
        """Change the slot, and return what the guest read meanwhile."""
        region = replace(self.guest.regions[DATA_SLOT], **changes)
        self.guest.vm.set_user_memory_region(region)
        if region.memory_size:
            self.guest.regions[DATA_SLOT] = region
        windows, self.windows = self.windows, []
        return windows


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.kvm_row(35, 36)
def test_slot_in_use_is_moved_away_and_back(*, mapped: bool) -> None:
    spinning = Spinning()
    guest, hva = spinning.guest, spinning.hva
    guest.vm.host.write(hva, (4).to_bytes(8, "little"))
    guest.vm.host.write(HVA(hva + SIZE_4K), (1).to_bytes(8, "little"))
    assert spinning.read() == 4
    assert guest.vm.pgt.get_leaf(DATA).level == 2
    # While the slot is invalid, what is mapped is still its page; nothing new is mapped. Then
    # the second page is at DATA.
    spinning.forget(mapped=mapped)
    away = [4 if mapped else MMIO_VALUE, 1]
    assert spinning.change(guest_phys_addr=IPA(DATA - SIZE_4K)) == away
    guest.vm.host.write(hva, (2).to_bytes(8, "little"))
    assert spinning.read() == 1
    assert guest.vm.pgt.get_leaf(DATA).level == 3, "host and guest address are not congruent"
    guest.vm.host.write(hva, (3).to_bytes(8, "little"))
    spinning.forget(mapped=mapped)
    assert spinning.change(guest_phys_addr=DATA) == [1 if mapped else MMIO_VALUE, 3]
    assert spinning.read() == 3
    assert guest.vm.pgt.get_leaf(DATA).level == 2


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.kvm_row(35, 36)
def test_slot_in_use_is_deleted_and_made_again(*, mapped: bool) -> None:
    spinning = Spinning()
    guest = spinning.guest
    guest.vm.host.write(spinning.hva, (5).to_bytes(8, "little"))
    assert spinning.read() == 5
    spinning.forget(mapped=mapped)
    assert spinning.change(memory_size=0) == [5 if mapped else MMIO_VALUE, MMIO_VALUE]
    assert spinning.read() == spinning.read() == MMIO_VALUE
    guest.faults()
    fresh = guest.vm.host.mmap(SIZE_2M, private=True, thp=True)
    assert spinning.change(userspace_addr=fresh) == [0]
    assert guest.faults() == [Fault("read", "data 0", 0x05)]
    assert spinning.read() == 0
    assert guest.faults() == []


@pytest.mark.kvm_row(29, 35)
def test_guest_whose_code_is_deleted_makes_no_progress() -> None:
    guest = Spinning().guest
    guest.vm.synchronize_srcu = None
    guest.vm.set_user_memory_region(replace(guest.regions[CODE_SLOT], memory_size=0))
    exit_ = guest.vcpu.run(1000)
    assert isinstance(exit_, InternalError)
    assert exit_.suberror is InternalErrorCode.NO_PROGRESS


@pytest.mark.kvm_row(15, 35)
def test_logging_of_a_slot_in_use_has_one_window_and_no_mmio() -> None:
    spinning = Spinning()
    spinning.guest.vm.host.write(spinning.hva, (9).to_bytes(8, "little"))
    assert spinning.change(flags=LOG) == [9]
    assert spinning.change(flags=0) == [9]
