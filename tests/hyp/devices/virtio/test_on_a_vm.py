"""virtio devices on a VM: slots, the dirty log, the io bus, and a guest that drives one."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from emu.machine import Machine
from hyp import one_reg
from hyp.devices.virtio import SIZE as TRANSPORT_SIZE
from hyp.devices.virtio import VirtioBlock, VirtioConsole, VirtioMmio, VirtioRng
from hyp.devices.virtio.image import MemoryImage
from hyp.devices.virtio.registers import Register
from hyp.dirty import dirty_pages
from hyp.dirty_ring import RingReader
from hyp.exits import DirtyRingFull, SystemEvent
from hyp.gmem import GuestMemfdFlags
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegion2, MemoryRegionFlags
from hyp.vm import VM, Cap
from tests.emu.cpu import a64
from tests.hyp.devices.virtio.copier import Copier
from tests.hyp.devices.virtio.driver import BASE, BUFFERS, MODERN, PAGE, WRITE, Driver
from tests.hyp.fake_machine import RAM, make_guest, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.devices.virtio.device import VirtioDevice
    from tests.hyp.fake_machine import Guest

LOG, READONLY = MemoryRegionFlags.LOG_DIRTY_PAGES, MemoryRegionFlags.READONLY
VIRTIO = IPA(0x0A00_0000)
SECOND = RAM + (8 << 20)
"""Right behind RAM; slot 1 where a test makes one."""


def driver_of(vm: VM, device: VirtioDevice, queues: int = 1) -> Driver:
    return Driver.of(device, MODERN, vm).begin(queues=queues)


def dirty(vm: VM, slot: int = 0) -> list[int]:
    return list(dirty_pages(vm.get_dirty_log(slot)))


def page(ipa: int) -> int:
    return (ipa - BASE) // PAGE


# --- the dirty log -----------------------------------------------------------------------------


def test_the_bitmap_names_what_the_device_wrote_and_nothing_that_it_read() -> None:
    guest = make_guest(flags=LOG)
    driver = driver_of(guest.vm, VirtioBlock(MemoryImage(b"x" * 0x4000)))
    header, data, status = BUFFERS, BUFFERS + 3 * PAGE, BUFFERS + 9 * PAGE
    driver.put(header, bytes(16))
    driver.offer(
        0,
        driver.chain(0, (header, 16, 0), (data + 0x800, 0x3000, WRITE), (status, 1, WRITE)),
    )
    dirty(guest.vm)  # forget what the driver did
    driver.notify(0)
    assert guest.vm.read_guest(IPA(data + 0x800), 0x3000) == b"x" * 0x3000
    assert dirty(guest.vm) == sorted(
        {page(driver.rings[0].used), *(page(data) + n for n in range(4)), page(status)}
    )


def test_each_use_is_marked_anew_once_the_log_was_collected() -> None:
    guest = make_guest(flags=LOG)
    driver = driver_of(guest.vm, VirtioRng())
    for _ in range(3):
        driver.offer(0, driver.chain(0, (BUFFERS, 8, WRITE)))
        dirty(guest.vm)
        driver.notify(0)
        assert dirty(guest.vm) == [page(driver.rings[0].used), page(BUFFERS)]


def ring_vm(*, bitmap: bool = True) -> tuple[Guest, RingReader]:
    """Return a guest whose vCPU has a dirty ring, with its memory logged."""
    guest = make_guest()
    vm = guest.machine.vm()
    vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, 4096)
    if bitmap:
        vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
    guest.vm, guest.vcpu = vm, vm.create_vcpu(0)
    guest.vcpu.init()
    guest.add_slot(0, RAM, 8 << 20)
    assert guest.vcpu.dirty_ring is not None
    return guest, RingReader(guest.vcpu.dirty_ring)


def step(driver: Driver, queue: int = 0) -> Callable[[], None]:
    """Return a step of a run in which the guest notifies a device."""
    return lambda: driver.notify(queue)


def test_what_a_vcpu_has_a_device_write_is_in_its_ring() -> None:
    guest, reader = ring_vm()
    driver = driver_of(guest.vm, VirtioRng())
    driver.offer(0, driver.chain(0, (BUFFERS, 2 * PAGE, WRITE)))
    guest.set_flags(LOG)
    guest.run(step(driver))
    buffer, used = page(BUFFERS), page(driver.rings[0].used)
    assert reader.harvest() == [(0, buffer), (0, buffer + 1), (0, used), (0, used)]
    assert dirty(guest.vm) == []


def test_what_user_space_has_a_device_write_is_in_the_bitmap() -> None:
    guest, reader = ring_vm()
    console = VirtioConsole(lambda _: None)
    driver = driver_of(guest.vm, console, queues=2)
    driver.offer(0, driver.chain(0, (BUFFERS, 16, WRITE)))
    guest.set_flags(LOG)
    console.receive(b"input")
    assert reader.harvest() == []
    assert dirty(guest.vm) == [page(driver.rings[0].used), page(BUFFERS)]


def test_a_request_larger_than_the_ring_loses_no_page() -> None:
    guest, reader = ring_vm()
    driver = driver_of(guest.vm, VirtioBlock(MemoryImage(b"y" * (300 * PAGE))))
    data = RAM + (2 << 20)
    driver.put(BUFFERS, bytes(16))
    driver.offer(
        0, driver.chain(0, (BUFFERS, 16, 0), (data, 300 * PAGE, WRITE), (BUFFERS + 16, 1, WRITE))
    )
    guest.set_flags(LOG)
    assert isinstance(guest.run(step(driver), store(RAM), store(RAM + PAGE)), DirtyRingFull)
    marked = {number for _, number in reader.harvest()} | set(dirty(guest.vm))
    written = {page(data) + n for n in range(300)} | {page(BUFFERS), page(driver.rings[0].used), 0}
    assert marked == written


def test_without_a_place_for_the_mark_the_device_gives_up() -> None:
    guest, _ = ring_vm(bitmap=False)
    console = VirtioConsole(lambda _: None)
    driver = driver_of(guest.vm, console, queues=2)
    driver.offer(0, driver.chain(0, (BUFFERS, 16, WRITE)))
    guest.set_flags(LOG)
    console.receive(b"input")
    assert driver.read(Register.STATUS) & 0x40
    assert driver.get(BUFFERS, 5) == bytes(5)


# --- slots -------------------------------------------------------------------------------------


def test_a_buffer_in_a_read_only_slot_is_read_and_not_written() -> None:
    guest = make_guest()
    hva = guest.add_slot(1, SECOND, PAGE, READONLY)
    guest.vm.host.write(hva, b"rom")
    device = Copier()
    driver = driver_of(guest.vm, device)
    assert driver.send(0, (SECOND, 3, 0)) == (0, 0)
    assert device.seen == [b"rom"]
    assert driver.send(0, (SECOND, 3, 0), (SECOND, 3, WRITE)) is None
    assert driver.transport.failure == f"3 bytes at {SECOND:#x} cannot be written"
    assert guest.vm.host.read(hva, 3) == b"rom"


def test_a_used_ring_in_a_read_only_slot_ends_the_device() -> None:
    guest = make_guest()
    guest.add_slot(1, SECOND, PAGE, READONLY)
    driver = Driver.of(VirtioRng(), MODERN, guest.vm).begin(queues=0)
    driver.set_up(0)
    for offset, value in ((0x30, 0), (0x44, 0), (0xA0, SECOND), (0x44, 1)):
        driver.write(offset, value)
    driver.offer(0, driver.chain(0, (BUFFERS, 8, WRITE)))
    driver.notify(0)
    assert driver.transport.failure == f"the queue at {SECOND + 4:#x} cannot be written"


def test_a_buffer_may_lie_in_two_slots_and_not_in_a_hole() -> None:
    guest = make_guest()
    hva = guest.add_slot(1, SECOND, PAGE)
    device = Copier()
    driver = driver_of(guest.vm, device)
    guest.vm.write_guest(IPA(SECOND - 4), b"both")
    guest.vm.host.write(hva, b"sides")
    driver.send(0, (SECOND - 4, 9, 0))
    assert device.seen == [b"bothsides"]
    assert driver.send(0, (SECOND + PAGE - 4, 8, 0)) is None
    assert driver.transport.failure is not None


def test_a_slot_that_goes_while_a_device_uses_it_ends_the_device() -> None:
    guest = make_guest()
    guest.add_slot(1, SECOND, PAGE)
    driver = driver_of(guest.vm, VirtioRng())
    assert driver.send(0, (SECOND, 8, WRITE)) == (0, 8)
    guest.vm.set_user_memory_region(MemoryRegion(1, 0, IPA(SECOND), 0, HVA(0)))
    assert driver.send(0, (SECOND, 8, WRITE)) is None


@pytest.mark.parametrize("shared", [True, False])
def test_a_guest_memfd_is_used_if_user_space_may(shared: bool) -> None:
    guest = make_guest()
    flags = GuestMemfdFlags.MMAP | (GuestMemfdFlags.INIT_SHARED if shared else 0)
    gmem = guest.vm.create_guest_memfd(2 * PAGE, flags)
    guest.vm.set_user_memory_region2(
        MemoryRegion2(1, MemoryRegionFlags.GUEST_MEMFD, IPA(SECOND), 2 * PAGE, HVA(0), gmem, 0)
    )
    driver = driver_of(guest.vm, VirtioRng())
    assert (driver.send(0, (SECOND + PAGE - 8, 16, WRITE)) == (0, 16)) is shared


# --- a guest -----------------------------------------------------------------------------------


def test_a_guest_drives_a_device_over_the_io_bus() -> None:
    """A guest of a few instructions asks for random bytes and finds them when it goes on."""
    machine = Machine(32 << 20)
    vm = VM(machine)
    hva = vm.host.mmap(8 << 20)
    vm.set_user_memory_region(MemoryRegion(0, LOG, RAM, 8 << 20, hva))
    line: list[bool] = []
    transport = VirtioMmio(VirtioRng(3), vm, line.append)
    vm.register_device(VIRTIO, TRANSPORT_SIZE, transport)
    setup = {0x70: 0, 0x28: PAGE, 0x30: 0, 0x38: 8, 0x3C: PAGE, 0x40: (RAM + 0x1_0000) // PAGE}
    program = []
    for register, value in {**setup, 0x70: 7, 0x50: 0}.items():
        program += [*a64.load_immediate(0, value), a64.str_(0, 1, register, 4)]
    program += [
        a64.ldr(5, 2),  # the bytes
        a64.ldr(6, 1, 0x60, 4),  # INTERRUPT_STATUS
        a64.str_(6, 1, 0x64, 4),
        a64.ldr(7, 1, 0x60, 4),
        *[a64.movz(0, 0x8400, 16), a64.movk(0, 8), a64.hvc(0)],
    ]
    vm.write_guest(RAM, struct.pack(f"<{len(program)}I", *program))
    queue = RAM + 0x1_0000
    vm.write_guest(IPA(queue), struct.pack("<QIHH", BUFFERS, 8, WRITE, 0))
    vm.write_guest(IPA(queue + 16 * 8), struct.pack("<HHH", 0, 1, 0))
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    for register, value in ((one_reg.PC, RAM), (one_reg.core_x(1), VIRTIO)):
        vcpu.set_one_reg(register, value)
    vcpu.set_one_reg(one_reg.core_x(2), BUFFERS)
    vm.get_dirty_log(0)
    assert isinstance(vcpu.run(10_000), SystemEvent)
    block = hashlib.sha256((3).to_bytes(8, "little") + bytes(8)).digest()
    x = [vcpu.get_one_reg(one_reg.core_x(n)) for n in (5, 6, 7)]
    assert x == [int.from_bytes(block[:8], "little"), 1, 0]
    assert line == [True, False]
    assert dirty(vm) == [page(queue + 0x1000), page(BUFFERS)]
