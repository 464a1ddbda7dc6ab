"""The console device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyp.devices.virtio.console import PIECE, RECEIVE, TRANSMIT, VirtioConsole
from hyp.devices.virtio.registers import Register
from tests.hyp.devices.virtio.driver import (
    BASE,
    BUFFERS,
    LEGACY,
    MODERN,
    PAGE,
    WRITE,
    Driver,
)

VERSIONS = (LEGACY, MODERN)


class Box:
    """A console with what came out of it."""

    def __init__(self, version: object = LEGACY) -> None:
        self.sent: list[bytes] = []
        self.device = VirtioConsole(self.sent.append)
        self.driver = Driver.of(self.device, LEGACY if version is LEGACY else MODERN)

    def begin(self) -> Box:
        self.driver.begin(queues=2)
        return self

    def offer(self, *sizes: int) -> None:
        """Give buffers for input, 16 bytes apart."""
        for slot, size in enumerate(sizes):
            self.driver.describe(RECEIVE, slot, BUFFERS + 16 * slot, size, WRITE)
        self.driver.offer(RECEIVE, *range(len(sizes)))
        self.driver.notify(RECEIVE)


def test_it_is_a_console() -> None:
    driver = Box().driver
    assert driver.read(Register.DEVICE_ID) == 3
    assert driver.offered & 7 == 1 | 4
    assert [driver.transport.read(0x100 + at, 2) for at in (0, 2)] == [80, 25]
    assert [driver.transport.read(0x100 + at, 4) for at in (4, 8)] == [1, 0]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_guest_sends_comes_out(version: object) -> None:
    box = Box(version).begin()
    box.driver.put(BUFFERS, b"hello, world")
    assert box.driver.send(TRANSMIT, (BUFFERS, 5, 0), (BUFFERS + 5, 7, 0)) == (0, 0)
    assert b"".join(box.sent) == b"hello, world"
    assert box.driver.line == [True]


def test_a_long_buffer_comes_out_in_pieces() -> None:
    box = Box().begin()
    assert box.driver.send(TRANSMIT, (BUFFERS, PIECE + 1, 0), (BUFFERS, PIECE, 0)) == (0, 0)
    assert [len(piece) for piece in box.sent] == [PIECE, PIECE, 1]


def test_input_goes_into_the_buffers_that_wait() -> None:
    box = Box().begin()
    box.offer(4, 4, 4)
    box.device.receive(b"abcdef")
    assert box.driver.take_used(RECEIVE) == [(0, 4), (1, 2)]
    assert box.driver.get(BUFFERS, 4) + box.driver.get(BUFFERS + 16, 2) == b"abcdef"
    assert box.driver.line == [True]
    box.device.receive(b"g")
    assert box.driver.take_used(RECEIVE) == [(2, 1)]


def test_input_waits_for_buffers() -> None:
    box = Box().begin()
    box.device.receive(b"abc")
    assert box.driver.line == []
    box.offer(2)
    assert box.driver.take_used(RECEIVE) == [(0, 2)]
    box.driver.offer(RECEIVE, 0)
    box.driver.notify(RECEIVE)
    assert box.driver.take_used(RECEIVE) == [(0, 1)]
    assert box.driver.get(BUFFERS, 2) == b"cb"


def test_input_before_the_driver_is_there_waits_for_it() -> None:
    box = Box(MODERN)
    box.device.receive(b"early")
    box.driver.begin(queues=2)  # with a reset first
    box.device.receive(b" late")
    box.offer(16)
    assert box.driver.get(BUFFERS, 10) == b"early late"


def test_a_buffer_without_room_is_given_back_empty() -> None:
    box = Box().begin()
    box.driver.describe(RECEIVE, 0, BUFFERS, 4)
    box.driver.describe(RECEIVE, 1, BUFFERS, 4, WRITE)
    box.driver.offer(RECEIVE, 0, 1)
    box.device.receive(b"abcd")
    assert box.driver.take_used(RECEIVE) == [(0, 0), (1, 4)]


def test_buffers_that_are_no_memory_end_the_device() -> None:
    for queue, flags in ((RECEIVE, WRITE), (TRANSMIT, 0)):
        box = Box().begin()
        box.driver.offer(queue, box.driver.chain(queue, (BASE - 4, 4, flags)))
        box.device.receive(b"abcd")
        box.driver.notify(queue)
        assert box.driver.transport.failure is not None
        assert box.sent == []


def test_input_is_not_lost_in_a_buffer_that_is_no_memory() -> None:
    box = Box().begin()
    box.driver.offer(RECEIVE, box.driver.chain(RECEIVE, (BASE - 4, 4, WRITE)))
    box.device.receive(b"abcd")
    assert box.device._input == b"abcd"


def test_a_console_that_is_not_plugged_in_keeps_its_input() -> None:
    device = VirtioConsole(lambda _: None)
    device.receive(b"abc")
    device.resize(1, 2)
    driver = Driver.of(device)
    driver.write(Register.GUEST_PAGE_SIZE, PAGE)
    driver.set_up(RECEIVE)
    driver.describe(RECEIVE, 0, BUFFERS, 4, WRITE)
    driver.offer(RECEIVE, 0)
    driver.notify(RECEIVE)
    assert driver.get(BUFFERS, 3) == b"abc"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_size_is_announced(version: object) -> None:
    box = Box(version).begin()
    box.device.resize(132, 43)
    assert [box.driver.transport.read(0x100 + at, 2) for at in (0, 2)] == [132, 43]
    assert box.driver.read(Register.INTERRUPT_STATUS) == 2


def test_an_emergency_write_needs_no_queue() -> None:
    box = Box()
    box.driver.transport.write(0x108, 4, 0x1241)
    box.driver.transport.write(0x108, 1, 0x42)
    box.driver.transport.write(0x100, 4, 0x43)
    assert box.sent == [b"A", b"B"]


def test_the_size_is_read_only() -> None:
    box = Box()
    box.driver.transport.write(0x100, 2, 7)
    assert box.driver.transport.read(0x100, 2) == 80


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.integers(1, 12)), max_size=20))
def test_all_input_arrives_in_order(steps: list[bytes | int]) -> None:
    """Input comes and buffers come, in any order; a number is the size of a new buffer."""
    box = Box().begin()
    sent = arrived = b""
    free = list(range(8))
    sizes: dict[int, int] = {}
    for step in steps:
        if isinstance(step, bytes):
            sent += step
            box.device.receive(step)
        elif free:
            slot = free.pop()
            sizes[slot] = step
            box.driver.describe(RECEIVE, slot, BUFFERS + 16 * slot, step, WRITE)
            box.driver.offer(RECEIVE, slot)
            box.driver.notify(RECEIVE)
        for slot, written in box.driver.take_used(RECEIVE):
            assert 0 < written <= sizes.pop(slot)
            arrived += box.driver.get(BUFFERS + 16 * slot, written)
            free.append(slot)
        assert sent.startswith(arrived)
        assert arrived == sent or not sizes
