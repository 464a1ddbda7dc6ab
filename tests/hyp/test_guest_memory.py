"""Guest memory as devices see it: slots, pages, refusals, and marks in the dirty log."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA, PA
from emu.machine import Machine
from hyp import one_reg
from hyp.dirty import dirty_pages
from hyp.dirty_ring import RingReader
from hyp.errors import Errno
from hyp.exits import DirtyRingFull
from hyp.gmem import GuestMemfdFlags
from hyp.guest_memory import kvm_get_running_vcpu, kvm_read_guest, kvm_write_guest
from hyp.host import HVA, SIZE_2M, SIZE_4K, HostProt
from hyp.memslots import MemoryRegion, MemoryRegion2, MemoryRegionFlags
from hyp.vm import VM, Cap
from tests.emu.cpu import a64
from tests.hyp.fake_machine import HOLE, RAM, Guest, load, make_guest, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU

LOG, READONLY = MemoryRegionFlags.LOG_DIRTY_PAGES, MemoryRegionFlags.READONLY
SIZE = 8 << 20
SECOND = IPA(RAM + SIZE)
"""Right behind RAM; slot 1 where a test makes one."""

PAGE = bytes(range(256)) * 16


def dirty(vm: VM, slot: int = 0) -> list[int]:
    return list(dirty_pages(vm.get_dirty_log(slot)))


# --- pages and slots ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 8, SIZE_4K, SIZE_4K + 1, 3 * SIZE_4K])
@pytest.mark.parametrize("offset", [0, 1, SIZE_4K - 1, SIZE_4K - 8])
def test_what_is_written_is_read_back_whatever_pages_it_covers(offset: int, size: int) -> None:
    guest = make_guest()
    data = (PAGE * 4)[:size]
    assert kvm_write_guest(guest.vm, IPA(RAM + offset), data) is Errno.OK
    assert kvm_read_guest(guest.vm, IPA(RAM + offset), size) == data
    assert guest.vm.host.read(HVA(guest.hva + offset), size) == data


def test_memory_that_nobody_touched_reads_as_zeros_and_stays_untouched() -> None:
    guest = make_guest()
    assert kvm_read_guest(guest.vm, RAM, 2 * SIZE_4K) == bytes(2 * SIZE_4K)
    assert guest.vm.host.user_mapping_size(guest.hva) is None


def test_a_range_may_cover_two_slots() -> None:
    guest = make_guest()
    hva = guest.add_slot(1, SECOND, SIZE_4K)
    assert guest.vm.write_guest(IPA(SECOND - 4), b"leftmore") is Errno.OK
    assert guest.vm.host.read(hva, 4) == b"more"
    assert guest.vm.read_guest(IPA(SECOND - 4), 8) == b"leftmore"


def test_holes_are_refused_and_what_lies_before_them_is_written() -> None:
    guest = make_guest()
    assert kvm_write_guest(guest.vm, IPA(SECOND - 2), b"abcd") is Errno.EFAULT
    assert kvm_read_guest(guest.vm, IPA(SECOND - 2), 4) is Errno.EFAULT
    assert kvm_read_guest(guest.vm, IPA(SECOND - 2), 2) == b"ab"
    assert kvm_read_guest(guest.vm, HOLE, 1) is Errno.EFAULT


@pytest.mark.parametrize("ipa", [(1 << 64) - 4, (1 << 64) - 1, 1 << 63, 1 << 40])
def test_no_address_raises(ipa: int) -> None:
    guest = make_guest()
    assert kvm_write_guest(guest.vm, IPA(ipa), b"12345678") is Errno.EFAULT
    assert kvm_read_guest(guest.vm, IPA(ipa), 8) is Errno.EFAULT


def test_a_slot_that_goes_takes_its_memory_away() -> None:
    guest = make_guest()
    guest.add_slot(1, SECOND, SIZE_4K)
    guest.vm.set_user_memory_region(MemoryRegion(1, 0, SECOND, 0, HVA(0)))
    assert kvm_write_guest(guest.vm, SECOND, b"x") is Errno.EFAULT


def test_a_read_only_slot_is_read_and_not_written() -> None:
    guest = make_guest()
    hva = guest.add_slot(1, SECOND, SIZE_4K, READONLY | LOG)
    guest.vm.host.write(hva, b"rom")
    assert kvm_write_guest(guest.vm, SECOND, b"ram") is Errno.EFAULT
    assert kvm_read_guest(guest.vm, SECOND, 3) == b"rom"
    assert dirty(guest.vm, 1) == []


def test_the_guest_sees_a_write_to_a_page_that_it_maps_as_zeros() -> None:
    guest = make_guest()
    area = guest.vm.host.mmap(SIZE_4K, private=True)
    guest.add_slot(1, SECOND, SIZE_4K, hva=area)
    guest.run(load(SECOND))
    before = guest.vm.pgt.get_leaf(SECOND).pte
    assert kvm_write_guest(guest.vm, SECOND, b"new") is Errno.OK
    assert guest.vm.pgt.get_leaf(SECOND).pte != before
    guest.run(load(SECOND))
    leaf = PA(guest.vm.pgt.get_leaf(SECOND).pte & 0xFFFF_FFFF_F000)
    assert guest.machine.memory.read(leaf, 3) == b"new"


# --- the VMM process ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prot", "may_read", "may_write"),
    [
        (HostProt.NONE, False, False),
        (HostProt.READ, True, False),
        (HostProt.READ | HostProt.WRITE, True, True),
    ],
)
def test_the_protection_of_the_area_counts(prot: HostProt, may_read: bool, may_write: bool) -> None:
    guest = make_guest()
    guest.vm.host.mprotect(guest.hva, SIZE_4K, prot)
    assert (kvm_read_guest(guest.vm, RAM, 4) is not Errno.EFAULT) is may_read
    assert (kvm_write_guest(guest.vm, RAM, b"data") is Errno.OK) is may_write


def test_a_slot_over_no_area_is_refused() -> None:
    guest = make_guest(flags=LOG)
    guest.vm.host.munmap(guest.hva, SIZE)
    assert kvm_read_guest(guest.vm, RAM, 4) is Errno.EFAULT
    assert kvm_write_guest(guest.vm, RAM, b"data") is Errno.EFAULT
    assert dirty(guest.vm) == []


def test_failed_memory_is_refused() -> None:
    guest = make_guest()
    guest.vm.write_guest(RAM, b"data")
    guest.vm.host.hwpoison(guest.hva)
    assert kvm_read_guest(guest.vm, RAM, 4) is Errno.EFAULT
    assert kvm_write_guest(guest.vm, RAM, b"data") is Errno.EFAULT


def test_a_page_that_user_space_does_not_supply_is_refused() -> None:
    guest = make_guest()
    guest.vm.host.userfault_register(guest.hva, SIZE, lambda _message: None)
    assert kvm_write_guest(guest.vm, RAM, b"data") is Errno.EFAULT


def test_without_memory_a_write_is_refused() -> None:
    guest = make_guest(size=SIZE_2M, memory_size=4 << 20)
    while guest.vm.host.frames.allocate() is not None:
        pass
    assert kvm_write_guest(guest.vm, RAM, b"data") is Errno.EFAULT
    assert kvm_read_guest(guest.vm, RAM, 4) == bytes(4)


@pytest.mark.parametrize(("pa", "is_ram"), [(0x8_0000_0000, True), (0x900_0000, False)])
def test_raw_frames_are_accessed_where_they_are_memory(pa: int, is_ram: bool) -> None:
    guest = make_guest()
    hva = guest.vm.host.mmap_pfn(PA(pa + (60 << 20)), SIZE_4K)
    guest.add_slot(1, SECOND, SIZE_4K, hva=hva)
    expected = Errno.OK if is_ram else Errno.EFAULT
    assert kvm_write_guest(guest.vm, SECOND, b"data") is expected
    assert (kvm_read_guest(guest.vm, SECOND, 4) == b"data") is is_ram


# --- guest_memfd -------------------------------------------------------------------------------

SHARED = GuestMemfdFlags.MMAP | GuestMemfdFlags.INIT_SHARED


@pytest.mark.parametrize(("flags", "accessible"), [(SHARED, True), (GuestMemfdFlags.MMAP, False)])
def test_a_guest_memfd_is_accessed_if_user_space_may(flags: int, accessible: bool) -> None:
    guest = make_guest()
    gmem = guest.vm.create_guest_memfd(4 * SIZE_4K, flags)
    guest.vm.set_user_memory_region2(
        MemoryRegion2(1, MemoryRegionFlags.GUEST_MEMFD, SECOND, 2 * SIZE_4K, HVA(0), gmem, SIZE_4K)
    )
    at = IPA(SECOND + SIZE_4K - 2)
    assert (kvm_write_guest(guest.vm, at, b"data") is Errno.OK) is accessible
    read = kvm_read_guest(guest.vm, at, 4)
    assert read == (b"data" if accessible else Errno.EFAULT)
    if accessible:
        assert gmem.read(2 * SIZE_4K - 2, 4) == b"data"


# --- the dirty log -----------------------------------------------------------------------------


def test_every_page_of_a_write_is_marked_and_no_other() -> None:
    guest = make_guest(flags=LOG)
    guest.vm.write_guest(IPA(RAM + 2 * SIZE_4K - 1), bytes(SIZE_4K + 2))
    guest.vm.write_guest(IPA(RAM + 9 * SIZE_4K), b"x")
    guest.vm.write_guest(IPA(RAM + 12 * SIZE_4K), b"")
    guest.vm.read_guest(IPA(RAM + 20 * SIZE_4K), 4)
    assert dirty(guest.vm) == [1, 2, 3, 9]


def test_a_slot_that_is_not_logged_is_not_marked() -> None:
    guest = make_guest()
    guest.vm.write_guest(RAM, b"x")
    guest.set_flags(LOG)
    assert dirty(guest.vm) == []


def test_a_collected_page_is_marked_again_by_the_next_write() -> None:
    guest = make_guest(flags=LOG)
    for _ in range(2):
        guest.vm.write_guest(RAM, b"x")
        assert dirty(guest.vm) == [0]


def write(guest: Guest, ipa: IPA, data: bytes) -> Callable[[], None]:
    """Return a step of a run in which a device writes."""

    def step() -> None:
        assert guest.vm.write_guest(ipa, data) is Errno.OK

    return step


def ring_guest(*, bitmap: bool = True, logged: bool = True) -> tuple[Guest, VCPU, RingReader]:
    """Return a guest whose vCPU has a dirty ring of 256 entries."""
    guest = make_guest()
    vm = guest.machine.vm()
    vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, 4096)
    if bitmap:
        vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    hva = vm.host.mmap(SIZE)
    vm.set_user_memory_region(MemoryRegion(0, LOG if logged else 0, RAM, SIZE, hva))
    assert vcpu.dirty_ring is not None
    return Guest(guest.machine, vm, vcpu, hva), vcpu, RingReader(vcpu.dirty_ring)


def test_while_a_vcpu_runs_its_ring_takes_the_marks() -> None:
    guest, _, reader = ring_guest()
    guest.run(write(guest, IPA(RAM + SIZE_4K - 1), b"xy"))
    assert reader.harvest() == [(0, 0), (0, 1)]
    assert dirty(guest.vm) == []


def test_a_write_of_user_space_is_marked_in_the_bitmap_beside_the_rings() -> None:
    guest, _, reader = ring_guest()
    guest.run(load(RAM))
    guest.vm.write_guest(IPA(RAM + SIZE_4K), b"x")
    assert reader.harvest() == []
    assert dirty(guest.vm) == [1]


def test_beyond_the_soft_limit_the_bitmap_takes_the_marks() -> None:
    guest, vcpu, reader = ring_guest()
    assert vcpu.dirty_ring is not None
    pages = 400
    guest.run(write(guest, RAM, bytes(pages * SIZE_4K)))
    assert vcpu.dirty_ring.used == vcpu.dirty_ring.soft_limit == 192
    assert [page for _, page in reader.harvest()] == list(range(192))
    assert dirty(guest.vm) == list(range(192, pages))


def test_a_mark_that_no_place_can_take_refuses_the_write() -> None:
    guest, _, reader = ring_guest(bitmap=False)
    assert kvm_write_guest(guest.vm, RAM, b"x") is Errno.ENXIO
    assert kvm_read_guest(guest.vm, RAM, 1) == b"\0"
    answers: list[Errno] = []
    guest.run(lambda: answers.append(guest.vm.write_guest(RAM, bytes(193 * SIZE_4K))))
    assert answers == [Errno.ENXIO]
    assert len(reader.harvest()) == 192


def test_with_rings_alone_a_slot_that_is_not_logged_is_written() -> None:
    guest, _, _ = ring_guest(bitmap=False, logged=False)
    assert kvm_write_guest(guest.vm, RAM, b"x") is Errno.OK


def test_the_running_vcpu_is_known_while_it_runs_to_its_own_vm_only() -> None:
    guest, vcpu, _ = ring_guest()
    other = guest.machine.vm()
    seen: list[VCPU | None] = []
    guest.run(lambda: seen.extend([kvm_get_running_vcpu(guest.vm), kvm_get_running_vcpu(other)]))
    assert seen == [vcpu, None]
    assert kvm_get_running_vcpu(guest.vm) is None


def test_the_guests_own_faults_find_room_in_a_ring_that_a_device_filled() -> None:
    guest, vcpu, _ = ring_guest()
    assert vcpu.dirty_ring is not None
    exit_ = guest.run(
        write(guest, IPA(RAM + SIZE_2M), bytes(300 * SIZE_4K)), store(RAM), store(RAM + SIZE_4K)
    )
    assert isinstance(exit_, DirtyRingFull)
    assert vcpu.dirty_ring.used == 193


# --- code --------------------------------------------------------------------------------------


def test_code_that_a_device_writes_runs_once_the_guest_has_done_its_maintenance() -> None:
    machine = Machine(32 << 20)
    vm = VM(machine)
    hva = vm.host.mmap(SIZE)
    vm.set_user_memory_region(MemoryRegion(0, 0, RAM, SIZE, hva))
    function = IPA(RAM + 0x1000)
    device = _Rewriter(vm, function, a64.movz(5, 2))
    vm.register_device(HOLE, 0x1000, device)
    blr_x3, ret, mov_x6_x5, ic_ivau_x3 = 0xD63F_0060, 0xD65F_03C0, 0xAA05_03E6, 0xD50B_7523
    program = [
        blr_x3,
        mov_x6_x5,
        a64.str_(0, 2),  # the device writes
        ic_ivau_x3,
        a64.ISB,
        blr_x3,
        *[a64.movz(0, 0x8400, 16), a64.movk(0, 8), a64.hvc(0)],
    ]
    vm.write_guest(RAM, struct.pack(f"<{len(program)}I", *program))
    vm.write_guest(function, struct.pack("<2I", a64.movz(5, 1), ret))
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    vcpu.set_one_reg(one_reg.PC, RAM)
    vcpu.set_one_reg(one_reg.core_x(2), HOLE)
    vcpu.set_one_reg(one_reg.core_x(3), function)
    vcpu.run(1000)
    assert vcpu.get_one_reg(one_reg.core_x(6)) == 1
    assert vcpu.get_one_reg(one_reg.core_x(5)) == 2


class _Rewriter:
    """A device that writes one instruction into guest memory whenever it is written."""

    def __init__(self, vm: VM, at: IPA, word: int) -> None:
        self._vm, self._at, self._word = vm, at, word

    def read(self, offset: int, length: int) -> int:
        del offset, length
        return 0

    def write(self, offset: int, length: int, value: int) -> None:
        del offset, length, value
        self._vm.write_guest(self._at, self._word.to_bytes(4, "little"))
