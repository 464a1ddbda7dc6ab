"""Split virtqueues: chains, used buffers, notifications, and rings that make no sense."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyp.devices.virtio.queue import MAX_CHAIN_BYTES, MAX_INDIRECT
from hyp.devices.virtio.registers import Register, Status
from tests.hyp.devices.virtio.copier import Copier
from tests.hyp.devices.virtio.driver import (
    BASE,
    BUFFERS,
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    LEGACY,
    MODERN,
    NEXT,
    SIZE,
    WRITE,
    Driver,
    FlatMemory,
)

IN, OUT = BUFFERS, BUFFERS + 0x1000
TABLE = BUFFERS + 0x2000
FEATURES = INDIRECT_DESC | EVENT_IDX
END = BASE + SIZE


def copier(features: int = 0, size: int = 8) -> tuple[Copier, Driver]:
    device = Copier()
    driver = Driver.of(device, MODERN)
    return device, driver.begin(features, size=size)


def table(driver: Driver, *entries: tuple[int, int, int, int], at: int = TABLE) -> None:
    driver.put(at, b"".join(struct.pack("<QIHH", *entry) for entry in entries))


def needs_reset(driver: Driver) -> bool:
    needs = bool(driver.read(Register.STATUS) & Status.DEVICE_NEEDS_RESET)
    assert needs is (driver.transport.failure is not None)
    return needs


# --- chains ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cuts",
    [[6], [1, 5], [2, 2, 2], [1, 1, 1, 1, 1, 1], [0, 6], [3, 0, 3], [6, 0]],
)
def test_how_a_message_is_cut_into_buffers_does_not_matter(cuts: list[int]) -> None:
    device, driver = copier(size=16)
    buffers = []
    at = 0
    for size in cuts:
        driver.put(IN + 16 * at, b"abcdef"[at : at + size])
        buffers.append((IN + 16 * at, size, 0))
        at += size
    at = 0
    for size in reversed(cuts):
        buffers.append((OUT + 16 * at, size, WRITE))
        at += size
    assert driver.send(0, *buffers) == (0, 6)
    assert device.seen == [b"abcdef"]
    at, written = 0, b""
    for size in reversed(cuts):
        written += driver.get(OUT + 16 * at, size)
        at += size
    assert written == b"abcdef"


def test_a_chain_may_go_through_the_table_in_any_order() -> None:
    device, driver = copier()
    driver.put(IN, b"abc")
    for slot, at, following in ((5, 0, 1), (1, 1, 7), (7, 2, 0)):
        driver.describe(0, slot, IN + at, 1, NEXT if slot != 7 else 0, following)
    driver.offer(0, 5)
    driver.notify(0)
    assert device.seen == [b"abc"]
    assert driver.take_used(0) == [(5, 0)]


def test_a_chain_may_have_as_many_descriptors_as_the_queue() -> None:
    device, driver = copier(size=8)
    driver.put(IN, b"12345678")
    assert driver.send(0, *[(IN + n, 1, 0) for n in range(8)]) == (0, 0)
    assert device.seen == [b"12345678"]


def test_several_chains_are_served_in_the_order_they_were_offered() -> None:
    device, driver = copier()
    driver.put(IN, b"xyz")
    for slot in range(3):
        driver.describe(0, slot, IN + slot, 1)
    driver.offer(0, 2, 0, 1)
    driver.notify(0)
    assert device.seen == [b"z", b"x", b"y"]
    assert [head for head, _ in driver.take_used(0)] == [2, 0, 1]
    assert driver.line == [True]


@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_rings_go_round_and_their_indices_wrap_at_16_bits(size: int) -> None:
    device, driver = copier(size=size)
    queue, ring = driver.transport._queues[0], driver.rings[0]
    start = 0xFFFB
    queue._next_available = queue._next_used = queue._signalled_used = start
    ring.added = ring.seen = start
    driver.put16(ring.avail + 2, start)
    driver.put16(ring.used + 2, start)
    for number in range(20):
        driver.put(IN, bytes([number]))
        assert driver.send(0, (IN, 1, 0)) == (0, 0)
    assert device.seen == [bytes([number]) for number in range(20)]
    assert driver.u16(ring.used + 2) == 20 - 5


def test_what_a_device_leaves_is_there_the_next_time() -> None:
    device, driver = copier()
    device.limit = 1
    driver.put(IN, b"xyz")
    for slot in range(3):
        driver.describe(0, slot, IN + slot, 1)
    driver.offer(0, 0, 1, 2)
    for expected in (b"x", b"y", b"z"):
        driver.notify(0)
        assert device.seen.pop() == expected


# --- indirect descriptors ----------------------------------------------------------------------


def test_indirect_descriptors_stand_for_the_chain() -> None:
    device, driver = copier(INDIRECT_DESC)
    driver.put(IN, b"hello")
    table(driver, (IN, 2, NEXT, 2), (OUT, 5, WRITE, 0), (IN + 2, 3, NEXT, 1))
    assert driver.send(0, (TABLE, 48, INDIRECT)) == (0, 5)
    assert device.seen == [b"hello"]
    assert driver.get(OUT, 5) == b"hello"


def test_the_write_flag_of_an_indirect_descriptor_is_ignored() -> None:
    device, driver = copier(INDIRECT_DESC)
    driver.put(IN, b"hello")
    table(driver, (IN, 5, 0, 0))
    assert driver.send(0, (TABLE, 16, INDIRECT | WRITE)) == (0, 0)
    assert device.seen == [b"hello"]


def test_an_indirect_table_may_end_a_chain_of_direct_ones() -> None:
    device, driver = copier(INDIRECT_DESC)
    driver.put(IN, b"hello")
    table(driver, (IN + 2, 3, 0, 0))
    assert driver.send(0, (IN, 2, 0), (TABLE, 16, INDIRECT)) == (0, 0)
    assert device.seen == [b"hello"]


def test_an_indirect_table_may_be_longer_than_the_queue() -> None:
    device, driver = copier(INDIRECT_DESC, size=2)
    driver.put(IN, b"0123456789")
    table(driver, *[(IN + n, 1, NEXT if n < 9 else 0, n + 1) for n in range(10)])
    driver.send(0, (TABLE, 160, INDIRECT))
    assert device.seen == [b"0123456789"]


# --- who is notified ---------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "line"), [(0, [True]), (1, []), (2, [True])])
def test_a_driver_that_does_not_want_interrupts_gets_none(flags: int, line: list[bool]) -> None:
    _, driver = copier()
    driver.put16(driver.rings[0].avail, flags)
    assert driver.send(0, (IN, 1, 0)) is not None
    assert driver.line == line


@pytest.mark.parametrize(
    ("chains", "used_event", "interrupted"),
    [(1, 0, True), (1, 1, False), (3, 0, True), (3, 2, True), (3, 3, False), (3, 0xFFFF, False)],
)
def test_with_event_idx_the_driver_names_the_entry_that_interrupts(
    chains: int, used_event: int, interrupted: bool
) -> None:
    _, driver = copier(EVENT_IDX)
    ring = driver.rings[0]
    driver.put16(ring.avail + 4 + 2 * ring.size, used_event)
    driver.put16(ring.avail, 1)  # counts for nothing then
    driver.describe(0, 0, IN, 1)
    driver.offer(0, *[0] * chains)
    driver.notify(0)
    assert driver.line == [True] * interrupted


def test_an_entry_interrupts_once() -> None:
    _, driver = copier(EVENT_IDX)
    driver.send(0, (IN, 1, 0))
    driver.write(Register.INTERRUPT_ACK, 1)
    driver.notify(0)
    driver.send(0, (IN, 1, 0))
    assert driver.line == [True, False]


def test_with_event_idx_the_device_asks_to_be_notified_of_the_next_chain() -> None:
    _, driver = copier(EVENT_IDX)
    ring = driver.rings[0]
    for expected in (1, 2, 3):
        driver.send(0, (IN, 1, 0))
        assert driver.u16(ring.used + 4 + 8 * ring.size) == expected


def test_without_event_idx_nothing_is_written_behind_the_rings() -> None:
    _, driver = copier()
    ring = driver.rings[0]
    driver.send(0, (IN, 1, 0))
    assert driver.u16(ring.used + 4 + 8 * ring.size) == 0
    assert driver.u16(ring.used) == 0


# --- rings that make no sense ------------------------------------------------------------------

LOOP = [(0, IN, 1, NEXT, 1), (1, IN, 1, NEXT, 0)]

BAD_CHAINS: dict[str, tuple[list[tuple[int, int, int, int, int]], str]] = {
    "loop": (LOOP, "chain 0 is a loop"),
    "loop of one": ([(0, IN, 1, NEXT, 0)], "chain 0 is a loop"),
    "loop of nothing": ([(0, IN, 0, NEXT, 0)], "chain 0 is a loop"),
    "next outside": ([(0, IN, 1, NEXT, 8)], "descriptor 8 is none of 8"),
    "next far outside": ([(0, IN, 1, NEXT, 0xFFFF)], "descriptor 65535 is none of 8"),
    "unreadable": ([(0, END, 1, 0, 0)], "1 bytes at 0x40100000 cannot be read"),
    "half readable": ([(0, END - 1, 2, 0, 0)], "2 bytes at 0x400fffff cannot be read"),
    "no address": ([(0, (1 << 64) - 1, 2, 0, 0)], "2 bytes at 0xffffffffffffffff cannot be read"),
    "unwritable": (
        [(0, IN, 1, NEXT, 1), (1, END, 1, WRITE, 0)],
        "1 bytes at 0x40100000 cannot be written",
    ),
    "read behind write": (
        [(0, OUT, 1, WRITE | NEXT, 1), (1, IN, 1, 0, 0)],
        "chain 0 has a buffer to read behind one to write",
    ),
    "too long": ([(0, IN, 0xFFFF_FFFF, 0, 0)], "chain 0 offers more than 0x1000000 bytes"),
    "too long together": (
        [(0, IN, MAX_CHAIN_BYTES, NEXT, 1), (1, IN, 1, 0, 0)],
        "chain 0 offers more than 0x1000000 bytes",
    ),
    "indirect and next": ([(0, TABLE, 16, INDIRECT | NEXT, 1)], "chain 0 has an indirect"),
    "empty table": ([(0, TABLE, 0, INDIRECT, 0)], "chain 0 has an indirect"),
    "odd table": ([(0, TABLE, 24, INDIRECT, 0)], "chain 0 has an indirect"),
    "huge table": ([(0, TABLE, 16 * (MAX_INDIRECT + 1), INDIRECT, 0)], "chain 0 has an indirect"),
    "table nowhere": ([(0, END, 16, INDIRECT, 0)], "the queue at 0x40100000 cannot be read"),
}


@pytest.mark.parametrize(("chain", "why"), BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_a_chain_that_makes_no_sense_ends_the_device(
    chain: list[tuple[int, int, int, int, int]], why: str
) -> None:
    _, driver = copier(FEATURES)
    for slot, *rest in chain:
        driver.describe(0, slot, *rest)
    driver.offer(0, 0)
    driver.notify(0)
    assert needs_reset(driver)
    assert (driver.transport.failure or "").startswith(why)
    assert driver.take_used(0) == []
    driver.begin()
    assert driver.send(0, (IN, 1, 0)) == (0, 0)


BAD_TABLES = {
    "loop": [(IN, 1, NEXT, 1), (IN, 1, NEXT, 0)],
    "next outside": [(IN, 1, NEXT, 2), (IN, 1, 0, 0)],
    "indirect again": [(TABLE, 32, INDIRECT, 0), (IN, 1, 0, 0)],
    "indirect later": [(IN, 1, NEXT, 1), (TABLE, 32, INDIRECT, 0)],
}


@pytest.mark.parametrize("entries", BAD_TABLES.values(), ids=BAD_TABLES)
def test_an_indirect_table_that_makes_no_sense_ends_the_device(
    entries: list[tuple[int, int, int, int]],
) -> None:
    _, driver = copier(FEATURES)
    table(driver, *entries)
    assert driver.send(0, (TABLE, 32, INDIRECT)) is None
    assert needs_reset(driver)


def test_an_indirect_descriptor_that_was_not_negotiated_ends_the_device() -> None:
    _, driver = copier()
    table(driver, (IN, 1, 0, 0))
    assert driver.send(0, (TABLE, 16, INDIRECT)) is None
    assert needs_reset(driver)


@pytest.mark.parametrize("head", [8, 9, 0xFFFF])
def test_a_head_outside_the_table_ends_the_device(head: int) -> None:
    _, driver = copier()
    driver.offer(0, head)
    driver.notify(0)
    assert driver.transport.failure == f"descriptor {head} is none of 8"


@pytest.mark.parametrize(("index", "fails"), [(8, False), (9, True), (0xFFFF, True)])
def test_no_more_chains_than_entries_can_be_available(index: int, fails: bool) -> None:
    _, driver = copier()
    driver.describe(0, 0, IN, 1)
    driver.put16(driver.rings[0].avail + 2, index)
    driver.notify(0)
    assert needs_reset(driver) is fails
    assert len(driver.take_used(0)) == (0 if fails else 8)


def test_chains_behind_one_that_makes_no_sense_are_not_served() -> None:
    device, driver = copier()
    driver.put(IN, b"x")
    driver.describe(0, 0, IN, 1)
    driver.offer(0, 0, 9, 0)
    driver.notify(0)
    assert (device.seen, driver.take_used(0)) == ([b"x"], [(0, 0)])
    assert driver.line == [True]


@pytest.mark.parametrize("low", [0x80, 0x90, 0xA0])
def test_a_queue_without_memory_ends_the_device(low: int) -> None:
    device = Copier()
    driver = Driver.of(device, MODERN).begin(queues=0)
    driver.set_up(0)
    driver.write(Register.QUEUE_SEL, 0)
    driver.write(Register.QUEUE_READY, 0)
    driver.write(low, END & 0xFFFF_FFFF)
    driver.write(Register.QUEUE_READY, 1)
    driver.offer(0, driver.chain(0, (IN, 1, 0)))
    driver.notify(0)
    assert needs_reset(driver)


def test_an_available_ring_that_leaves_memory_ends_the_device() -> None:
    driver = Driver.of(Copier(), MODERN).begin(queues=0)
    driver.set_up(0)
    for offset, value in ((0x30, 0), (0x44, 0), (0x90, END - 4), (0x44, 1)):
        driver.write(offset, value)
    driver.put16(END - 2, 1)  # one chain is available, and its head is beyond the end
    driver.notify(0)
    assert driver.transport.failure == f"the queue at {END:#x} cannot be read"


class Careless(Copier):
    """A device that goes on, whatever it is told."""

    def notify(self, index: int) -> None:
        for chain in self.queues[index].chains():
            chain.read()
            chain.write(bytes(chain.writable_size))
            self.queues[index].push(chain, chain.writable_size)


def test_a_queue_that_was_given_up_stays_so_whatever_the_device_does() -> None:
    driver = Driver.of(Careless(), MODERN).begin()
    driver.describe(0, 0, END, 4, NEXT, 1)
    driver.describe(0, 1, END + 8, 4, WRITE)
    driver.offer(0, 0, 0)
    driver.notify(0)
    assert driver.transport.failure == f"4 bytes at {END:#x} cannot be read"
    assert driver.take_used(0) == []


def test_a_device_that_overwrites_its_ring_is_not_kept_busy() -> None:
    """Each chain has the device write an available index that promises another chain."""
    device, driver = copier()
    ring = driver.rings[0]
    for slot in range(8):
        driver.put(IN + 2 * slot, struct.pack("<H", slot + 2))
    driver.describe(0, 0, IN, 2, NEXT, 1)
    driver.describe(0, 1, ring.avail + 2, 2, WRITE)
    driver.offer(0, 0)
    driver.notify(0)
    assert len(device.seen) == 1
    driver.notify(0)
    assert len(device.seen) == 2


def test_a_used_ring_over_the_descriptors_does_no_harm() -> None:
    device = Copier()
    driver = Driver.of(device, MODERN).begin(queues=0)
    driver.set_up(0)
    driver.write(Register.QUEUE_SEL, 0)
    driver.write(Register.QUEUE_READY, 0)
    driver.write(0xA0, driver.rings[0].desc & 0xFFFF_FFFF)
    driver.write(Register.QUEUE_READY, 1)
    driver.describe(0, 0, IN, 1)
    driver.offer(0, 0, 0, 0, 0)
    driver.notify(0)
    assert len(device.seen) <= 4


@given(
    st.sampled_from([LEGACY, MODERN]),
    st.sampled_from([0, FEATURES]),
    st.sampled_from([1, 2, 8]),
    st.lists(
        st.tuples(
            st.sampled_from([IN, OUT, TABLE, BASE, BASE + 0x1_0000, END - 8, END, 1 << 63]),
            st.sampled_from([0, 1, 8, 16, 32, 48, 4096, 0x2_0000, 0xFFFF_FFFF]),
            st.integers(0, 7),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=16,
    ),
    st.lists(st.one_of(st.integers(0, 9), st.integers(0, 0xFFFF)), max_size=8),
    st.integers(0, 0xFFFF),
)
def test_no_ring_raises_or_hangs(
    version: object,
    features: int,
    size: int,
    descriptors: list[tuple[int, int, int, int]],
    heads: list[int],
    index: int,
) -> None:
    device = Copier()
    driver = Driver.of(device, LEGACY if version is LEGACY else MODERN)
    driver.begin(features, queues=2, size=size)
    # The first ones are the queue's table, all of them an indirect one.
    table(driver, *descriptors)
    for slot, descriptor in enumerate(descriptors[:size]):
        driver.describe(0, slot, *descriptor)
    driver.offer(0, *heads)
    driver.notify(0)
    assert len(device.seen) <= size
    driver.put16(driver.rings[0].avail + 2, index)
    driver.notify(0)
    assert len(device.seen) <= 2 * size
    if driver.transport.failure is None:
        driver.send(1, (IN, 4, 0))
    driver.begin(size=size)
    assert driver.send(0, (IN, 4, 0)) == (0, 0)


def test_the_device_writes_nothing_but_the_used_ring_and_what_it_is_given() -> None:
    _, driver = copier(FEATURES)
    memory = driver.memory
    assert isinstance(memory, FlatMemory)
    before = bytes(memory.data)
    driver.send(0, (IN, 4, 0), (OUT, 8, WRITE))
    ring = driver.rings[0]
    changed = {at + BASE for at in range(SIZE) if memory.data[at] != before[at]}
    used = set(range(ring.used, ring.used + 6 + 8 * ring.size))
    allowed = used | set(range(OUT, OUT + 4)) | set(range(ring.desc, ring.used))
    assert changed <= allowed
    assert memory.written == {(OUT - BASE) // 4096, (ring.used - BASE) // 4096}
