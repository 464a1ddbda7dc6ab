"""The registers of the transport, one rule each."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyp.devices.virtio import VirtioMmio
from hyp.devices.virtio.device import VirtioDevice
from hyp.devices.virtio.registers import RULES, SIZE, Access, Register, Status, Version
from tests.hyp.devices.virtio.driver import (
    BASE,
    BUFFERS,
    EVENT_IDX,
    INDIRECT_DESC,
    LEGACY,
    MODERN,
    PAGE,
    VERSION_1,
    WRITE,
    Driver,
    FlatMemory,
)

R = Register
VERSIONS = (LEGACY, MODERN)


class Echo(VirtioDevice):
    """A device that notes what happens to it, and fills its buffers with 0x5A."""

    DEVICE_ID: ClassVar = 40
    QUEUE_SIZES: ClassVar = (256, 128)
    features = 1 << 3 | 1 << 35

    def __init__(self) -> None:
        super().__init__()
        self.notified: list[int] = []
        self.resets = 0
        self.space = bytearray(b"\x01\x02\x03\x04\x05\x06")

    def notify(self, index: int) -> None:
        self.notified.append(index)
        for chain in self.queues[index].chains():
            chain.write(b"\x5a" * chain.writable_size)
            self.queues[index].push(chain, chain.writable_size)

    def config(self) -> bytes:
        return bytes(self.space)

    def write_config(self, offset: int, data: bytes) -> None:
        self.space[offset : offset + len(data)] = data

    def reset(self) -> None:
        super().reset()
        self.resets += 1

    def change(self) -> None:
        self._signal_config()


def echo(version: Version = LEGACY) -> tuple[Echo, Driver]:
    device = Echo()
    return device, Driver.of(device, version)


# --- what is there -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("register", "value"),
    [
        (R.MAGIC_VALUE, 0x7472_6976),
        (R.DEVICE_ID, 40),
        (R.VENDOR_ID, 0x3247_5453),
        (R.QUEUE_NUM_MAX, 256),
        (R.INTERRUPT_STATUS, 0),
        (R.STATUS, 0),
        (R.DEVICE_FEATURES, 1 << 3 | INDIRECT_DESC | EVENT_IDX),
    ],
)
def test_registers_after_reset(version: Version, register: Register, value: int) -> None:
    _, driver = echo(version)
    any_layout = 1 << 27 if (register, version) == (R.DEVICE_FEATURES, LEGACY) else 0
    assert driver.read(register) == value | any_layout
    assert driver.read(R.VERSION) == {LEGACY: 1, MODERN: 2}[version]


LEGACY_ONLY = {R.GUEST_PAGE_SIZE, R.QUEUE_ALIGN, R.QUEUE_PFN}
MODERN_ONLY = {
    R.QUEUE_READY,
    R.QUEUE_DESC_LOW,
    R.QUEUE_DESC_HIGH,
    R.QUEUE_AVAIL_LOW,
    R.QUEUE_AVAIL_HIGH,
    R.QUEUE_USED_LOW,
    R.QUEUE_USED_HIGH,
    R.SHM_SEL,
    R.SHM_LEN_LOW,
    R.SHM_LEN_HIGH,
    R.SHM_BASE_LOW,
    R.SHM_BASE_HIGH,
    R.CONFIG_GENERATION,
}


@pytest.mark.parametrize("register", Register)
def test_each_register_is_in_the_interface_that_has_it(register: Register) -> None:
    expected = {
        *(() if register in LEGACY_ONLY else (MODERN,)),
        *(() if register in MODERN_ONLY else (LEGACY,)),
    }
    assert set(RULES[register].versions) == expected
    table = (Access.R, VirtioMmio._READ), (Access.W, VirtioMmio._WRITE)
    for access, handlers in table:
        handled = register in handlers or (access is Access.W and 0x80 <= register < 0xA8)
        assert handled is bool(RULES[register].access & access)


@pytest.mark.parametrize("register", sorted(MODERN_ONLY | LEGACY_ONLY))
def test_registers_of_the_other_interface_do_nothing(register: Register) -> None:
    _, driver = echo(LEGACY if register in MODERN_ONLY else MODERN)
    driver.begin(queues=0)
    driver.write(register, 1)
    assert driver.read(register) == 0
    assert not any(queue.ready for queue in driver.transport._queues)


@pytest.mark.parametrize("length", [1, 2, 8])
def test_registers_are_accessed_by_words_alone(length: int) -> None:
    _, driver = echo()
    assert driver.transport.read(R.MAGIC_VALUE, length) == 0
    driver.transport.write(R.STATUS, length, 1)
    assert driver.read(R.STATUS) == 0


@pytest.mark.parametrize("offset", [0x001, 0x018, 0x01C, 0x02C, 0x048, 0x0F8, 0x072])
def test_reserved_space_reads_as_zero_and_ignores_writes(offset: int) -> None:
    _, driver = echo()
    driver.write(offset, 0xFFFF_FFFF)
    assert driver.read(offset) == 0


@pytest.mark.parametrize(
    "register", [R.QUEUE_SEL, R.QUEUE_NUM, R.QUEUE_NOTIFY, R.INTERRUPT_ACK, R.GUEST_PAGE_SIZE]
)
def test_write_only_registers_read_as_zero(register: Register) -> None:
    _, driver = echo()
    driver.write(register, 1)
    assert driver.read(register) == 0


@pytest.mark.parametrize("register", [R.MAGIC_VALUE, R.VERSION, R.DEVICE_ID, R.QUEUE_NUM_MAX])
def test_read_only_registers_stay(register: Register) -> None:
    _, driver = echo()
    before = driver.read(register)
    driver.write(register, 0x1234)
    assert driver.read(register) == before


def test_there_is_no_shared_memory() -> None:
    _, driver = echo(MODERN)
    driver.write(R.SHM_SEL, 0)
    registers = (R.SHM_LEN_LOW, R.SHM_LEN_HIGH, R.SHM_BASE_LOW, R.SHM_BASE_HIGH)
    assert [driver.read(register) for register in registers] == [0xFFFF_FFFF] * 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_place_without_a_device_says_so_and_nothing_else(version: Version) -> None:
    driver = Driver.of(None, version)
    for offset in range(0, SIZE, 4):
        driver.write(offset, 0xFFFF_FFFF)
    seen = {offset: driver.read(offset) for offset in range(0, SIZE, 4) if driver.read(offset)}
    assert seen == {0: 0x7472_6976, 4: int(version), 12: 0x3247_5453}
    assert driver.line == []


# --- configuration space -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length", "value"),
    [
        (0, 1, 1),
        (1, 1, 2),
        (1, 2, 0x0302),
        (0, 4, 0x0403_0201),
        (4, 4, 0x0605),
        (6, 4, 0),
        (0xFF, 1, 0),
    ],
)
def test_configuration_space_is_read_in_any_width(offset: int, length: int, value: int) -> None:
    _, driver = echo()
    assert driver.transport.read(0x100 + offset, length) == value


def test_configuration_space_is_written_within_its_end() -> None:
    device, driver = echo()
    driver.transport.write(0x101, 2, 0xBBAA)
    driver.transport.write(0x104, 4, 0xFFFF_FFFF)
    driver.transport.write(0x105, 1, 0xCC)
    assert device.space == b"\x01\xaa\xbb\x04\x05\xcc"


@pytest.mark.parametrize(("version", "generations"), [(MODERN, [0, 1, 2]), (LEGACY, [0, 0, 0])])
def test_the_generation_changes_with_the_configuration(
    version: Version, generations: list[int]
) -> None:
    device, driver = echo(version)
    driver.begin()
    seen = [driver.read(R.CONFIG_GENERATION)]
    for _ in range(2):
        device.change()
        seen.append(driver.read(R.CONFIG_GENERATION))
    assert seen == generations
    assert driver.read(R.INTERRUPT_STATUS) == 2


def test_a_configuration_that_changes_before_the_driver_is_ready_does_not_interrupt() -> None:
    device, driver = echo(MODERN)
    device.change()
    assert driver.line == []
    assert driver.read(R.CONFIG_GENERATION) == 1


# --- features and status -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "offered"),
    [
        (LEGACY, 1 << 3 | 1 << 27 | INDIRECT_DESC | EVENT_IDX | 1 << 35),
        (MODERN, 1 << 3 | INDIRECT_DESC | EVENT_IDX | VERSION_1 | 1 << 35),
    ],
)
def test_features_are_offered_in_two_words(version: Version, offered: int) -> None:
    _, driver = echo(version)
    assert driver.offered == offered
    driver.write(R.DEVICE_FEATURES_SEL, 2)
    assert driver.read(R.DEVICE_FEATURES) == 0


def test_the_driver_accepts_features_in_two_words() -> None:
    device, driver = echo(MODERN)
    driver.accept(VERSION_1 | 1 << 35 | 1 << 3)
    assert device.driver_features == VERSION_1 | 1 << 35 | 1 << 3
    driver.write(R.DRIVER_FEATURES_SEL, 2)
    driver.write(R.DRIVER_FEATURES, 0xFFFF_FFFF)
    driver.write(R.DRIVER_FEATURES_SEL, 0)
    driver.write(R.DRIVER_FEATURES, INDIRECT_DESC)
    assert device.driver_features == VERSION_1 | 1 << 35 | INDIRECT_DESC


@pytest.mark.parametrize(
    ("version", "accepted", "sticks"),
    [
        (MODERN, VERSION_1, True),
        (MODERN, VERSION_1 | 1 << 3, True),
        (MODERN, 0, False),
        (MODERN, VERSION_1 | 1 << 4, False),
        (LEGACY, 1 << 4, True),
    ],
)
def test_features_ok_sticks_if_the_device_can_work_with_them(
    version: Version, accepted: int, sticks: bool
) -> None:
    _, driver = echo(version)
    driver.accept(accepted)
    status = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK
    driver.write(R.STATUS, status)
    assert driver.read(R.STATUS) == (status if sticks else status & ~Status.FEATURES_OK)


def test_features_are_settled_with_features_ok() -> None:
    device, driver = echo(MODERN)
    driver.begin()
    driver.accept(1 << 3)
    assert device.driver_features == VERSION_1


def test_status_keeps_what_is_written_but_what_is_the_devices() -> None:
    _, driver = echo()
    driver.write(R.STATUS, 0x1FF & ~Status.FEATURES_OK)
    assert driver.read(R.STATUS) == 0xB7


# --- queues ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("select", "maximum"), [(0, 256), (1, 128), (2, 0), (0xFFFF_FFFF, 0)])
def test_each_queue_says_how_large_it_can_be(select: int, maximum: int) -> None:
    _, driver = echo()
    driver.write(R.QUEUE_SEL, select)
    assert driver.read(R.QUEUE_NUM_MAX) == maximum


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("offset", range(0x28, 0xC0, 4))
def test_a_queue_that_does_not_exist_takes_nothing(version: Version, offset: int) -> None:
    _, driver = echo(version)
    driver.write(R.QUEUE_SEL, 2)
    driver.write(offset, 1)
    driver.write(R.QUEUE_SEL, 2)
    assert driver.read(R.QUEUE_PFN) == driver.read(R.QUEUE_READY) == 0
    assert not any(queue.ready for queue in driver.transport._queues)


@pytest.mark.parametrize(
    ("written", "size"),
    [(1, 1), (8, 8), (256, 256), (0, 256), (3, 256), (512, 256), (1 << 31, 256)],
)
def test_a_queue_has_a_power_of_two_up_to_its_maximum(written: int, size: int) -> None:
    _, driver = echo()
    driver.write(R.QUEUE_NUM, written)
    assert driver.transport._queues[0].size == size


@pytest.mark.parametrize(("written", "align"), [(16, 16), (65536, 65536), (0, 4096), (48, 4096)])
def test_the_alignment_of_a_legacy_queue_is_a_power_of_two(written: int, align: int) -> None:
    _, driver = echo()
    driver.write(R.QUEUE_ALIGN, written)
    assert driver.transport._queues[0].align == align


@pytest.mark.parametrize(
    ("size", "align", "used"),
    [
        (8, 4096, 0x1000),
        (128, 4096, 0x2000 - 0x1000),
        (256, 4096, 0x2000),
        (8, 16, 0xA0),
        (8, 4, 0x98),
    ],
)
def test_a_legacy_queue_is_laid_out_from_one_page_on(size: int, align: int, used: int) -> None:
    _, driver = echo()
    driver.write(R.GUEST_PAGE_SIZE, PAGE)
    driver.write(R.QUEUE_NUM, size)
    driver.write(R.QUEUE_ALIGN, align)
    driver.write(R.QUEUE_PFN, BASE // PAGE)
    queue = driver.transport._queues[0]
    assert driver.read(R.QUEUE_PFN) == BASE // PAGE
    assert (queue.descriptors, queue.available, queue.used) == (BASE, BASE + 16 * size, BASE + used)


@pytest.mark.parametrize(
    ("page_size", "address"), [(4096, BASE), (65536, BASE << 4), (1, BASE >> 12)]
)
def test_the_page_number_counts_pages_of_the_guest(page_size: int, address: int) -> None:
    _, driver = echo()
    driver.write(R.GUEST_PAGE_SIZE, page_size)
    driver.write(R.QUEUE_PFN, BASE // PAGE)
    assert driver.transport._queues[0].descriptors == address


def test_a_page_number_without_a_page_size_is_ignored() -> None:
    _, driver = echo()
    driver.write(R.GUEST_PAGE_SIZE, 0)
    driver.write(R.QUEUE_PFN, 5)
    assert driver.read(R.QUEUE_PFN) == 0


def test_page_number_zero_ends_a_queue_alone() -> None:
    device, driver = echo()
    driver.begin(queues=2)
    driver.write(R.QUEUE_SEL, 0)
    driver.write(R.QUEUE_PFN, 0)
    assert driver.read(R.QUEUE_PFN) == 0
    driver.notify(0)
    driver.notify(1)
    assert device.notified == [1]


def test_a_modern_queue_has_three_addresses_of_64_bits() -> None:
    _, driver = echo(MODERN)
    for offset, value in zip((0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4), range(1, 7), strict=True):
        driver.write(offset, value)
    queue = driver.transport._queues[0]
    addresses = (queue.descriptors, queue.available, queue.used)
    assert addresses == (1 | 2 << 32, 3 | 4 << 32, 5 | 6 << 32)
    driver.write(0x80, 7)
    assert queue.descriptors == 7 | 2 << 32


def test_a_queue_that_is_ready_is_not_set_up_again() -> None:
    _, driver = echo(MODERN)
    driver.begin()
    queue = driver.transport._queues[0]
    before = (queue.size, queue.descriptors, queue.available, queue.used)
    driver.write(R.QUEUE_SEL, 0)
    driver.write(R.QUEUE_NUM, 1)
    for offset in (0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4):
        driver.write(offset, 0x1234)
    assert (queue.size, queue.descriptors, queue.available, queue.used) == before


def test_queue_ready_is_one_or_zero_and_begins_anew() -> None:
    device, driver = echo(MODERN)
    driver.begin()
    assert driver.send(0, (BUFFERS, 4, WRITE)) == (0, 4)
    driver.write(R.QUEUE_SEL, 0)
    for value, ready in ((2, 1), (1, 1), (0, 0), (2, 0), (1, 1)):
        driver.write(R.QUEUE_READY, value)
        assert driver.read(R.QUEUE_READY) == ready
    driver.notify(0)  # the driver's ring still offers chain 0, which counts again
    assert device.notified == [0, 0, 0]
    assert driver.take_used(0) == []
    assert driver.u16(driver.rings[0].used + 2) == 1


# --- notifications -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_notification_is_served_before_the_store_is_done(version: Version) -> None:
    device, driver = echo(version)
    driver.begin(queues=2)
    assert driver.send(1, (BUFFERS, 16, WRITE)) == (0, 16)
    assert driver.get(BUFFERS, 17) == b"\x5a" * 16 + b"\0"
    assert device.notified[-1] == 1


@pytest.mark.parametrize("index", [2, 0xFFFF, 0x1_0000, 0xFFFF_FFFF])
def test_a_notification_of_no_queue_is_ignored(index: int) -> None:
    device, driver = echo(MODERN)
    driver.begin(queues=2)
    device.notified.clear()
    driver.notify(index)
    assert device.notified == []


def test_a_legacy_driver_need_not_say_that_it_is_ready() -> None:
    _, driver = echo()
    driver.write(R.GUEST_PAGE_SIZE, PAGE)
    driver.set_up(0)
    assert driver.send(0, (BUFFERS, 4, WRITE)) == (0, 4)


def test_a_modern_device_waits_for_driver_ok_and_looks_at_its_queues_then() -> None:
    device, driver = echo(MODERN)
    driver.accept(VERSION_1)
    driver.write(R.STATUS, 0xB)
    driver.set_up(0)
    assert driver.send(0, (BUFFERS, 4, WRITE)) is None
    assert device.notified == []
    driver.write(R.STATUS, 0xF)
    assert driver.take_used(0) == [(0, 4)]
    assert driver.line == [True]


# --- interrupts --------------------------------------------------------------------------------


def test_the_line_is_high_while_the_interrupt_status_is_not_zero() -> None:
    device, driver = echo(MODERN)
    driver.begin()
    for _ in range(2):
        driver.send(0, (BUFFERS, 4, WRITE))
    assert (driver.line, driver.read(R.INTERRUPT_STATUS)) == ([True], 1)
    device.change()
    assert (driver.line, driver.read(R.INTERRUPT_STATUS)) == ([True], 3)
    driver.write(R.INTERRUPT_ACK, 1)
    assert (driver.line, driver.read(R.INTERRUPT_STATUS)) == ([True], 2)
    driver.write(R.INTERRUPT_ACK, 0xFFFF_FFFF)
    assert (driver.line, driver.read(R.INTERRUPT_STATUS)) == ([True, False], 0)
    driver.send(0, (BUFFERS, 4, WRITE))
    assert driver.line == [True, False, True]


def test_a_notification_without_chains_does_not_interrupt() -> None:
    _, driver = echo()
    driver.begin()
    driver.notify(0)
    assert driver.line == []


def test_a_device_works_without_an_interrupt_line() -> None:
    driver = Driver.of(Echo())
    driver.transport = VirtioMmio(Echo(), driver.memory)
    driver.begin()
    assert driver.send(0, (BUFFERS, 4, WRITE)) == (0, 4)
    assert driver.read(R.INTERRUPT_STATUS) == 1


# --- reset and failure -------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reset_makes_all_as_it_was(version: Version) -> None:
    device, driver = echo(version)
    driver.begin(1 << 3, queues=2)
    driver.send(0, (BUFFERS, 4, WRITE))
    device.change()
    before = device.resets
    driver.write(R.STATUS, 0)
    assert device.resets == before + 1
    assert device.driver_features == 0
    assert driver.line == [True, False]
    assert driver.read(R.STATUS) == driver.read(R.INTERRUPT_STATUS) == 0
    for index in range(2):
        driver.write(R.QUEUE_SEL, index)
        assert driver.read(R.QUEUE_READY) == driver.read(R.QUEUE_PFN) == 0
        assert driver.transport._queues[index].size == Echo.QUEUE_SIZES[index]
    driver.notify(0)
    driver.begin()
    assert driver.send(0, (BUFFERS, 4, WRITE)) == (0, 4)


def test_the_page_size_outlives_a_reset() -> None:
    _, driver = echo()
    driver.write(R.GUEST_PAGE_SIZE, PAGE)
    driver.write(R.STATUS, 0)
    driver.write(R.QUEUE_PFN, BASE // PAGE)
    assert driver.read(R.QUEUE_PFN) == BASE // PAGE


def break_it(driver: Driver) -> None:
    driver.describe(0, 0, 0, 4, WRITE)
    driver.offer(0, 0)
    driver.notify(0)


def test_a_modern_device_that_cannot_go_on_asks_for_a_reset() -> None:
    _, driver = echo(MODERN)
    driver.begin(queues=2)
    break_it(driver)
    assert driver.read(R.STATUS) == 0x4F
    assert driver.read(R.INTERRUPT_STATUS) == 2
    assert driver.transport.failure == "4 bytes at 0x0 cannot be written"
    driver.write(R.STATUS, 0x0F)
    assert driver.read(R.STATUS) == 0x4F
    assert driver.take_used(0) == []
    assert driver.send(1, (BUFFERS, 4, WRITE)) is None
    driver.begin()
    assert driver.transport.failure is None
    assert driver.send(0, (BUFFERS, 4, WRITE)) == (0, 4)


def test_a_legacy_device_that_cannot_go_on_stops_until_it_is_reset() -> None:
    _, driver = echo()
    driver.begin()
    break_it(driver)
    assert (driver.read(R.STATUS), driver.line) == (0x07, [])
    assert driver.send(0, (BUFFERS, 4, WRITE)) is None
    driver.begin()
    assert driver.send(0, (BUFFERS, 4, WRITE)) == (0, 4)


# --- anything at all ---------------------------------------------------------------------------

ACCESSES = st.tuples(
    st.one_of(st.sampled_from([int(register) for register in Register]), st.integers(0, SIZE - 1)),
    st.sampled_from([4, 4, 4, 4, 1, 2, 8]),
    st.one_of(
        st.none(),
        st.sampled_from([0, 1, 2, 8, 0xB, 0xF, PAGE, BASE // PAGE, BASE, BASE + 0x4000]),
        st.integers(0, (1 << 64) - 1),
    ),
)


@given(st.sampled_from(VERSIONS), st.booleans(), st.lists(ACCESSES, max_size=60))
def test_no_access_raises_and_the_line_follows_the_status(
    version: Version, plugged: bool, accesses: list[tuple[int, int, int | None]]
) -> None:
    memory = FlatMemory()
    line: list[bool] = [False]
    transport = VirtioMmio(Echo() if plugged else None, memory, line.append, version=version)
    for offset, length, value in accesses:
        if value is None:
            assert 0 <= transport.read(offset, length) < 1 << 8 * length
        else:
            transport.write(offset, length, value & (1 << 8 * length) - 1)
        assert line[-1] is (transport.read(R.INTERRUPT_STATUS, 4) != 0)
    assert all(a is not b for a, b in pairwise(line))
