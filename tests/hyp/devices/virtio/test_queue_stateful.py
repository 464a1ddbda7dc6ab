"""A queue against a naive one: any chains, features and notifications, never a difference.

The model keeps lists of chains and what must become of them; it knows no index and no address
of a ring but through the driver, which shares no code with the device.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from hyp.devices.virtio.registers import Register
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
    PAGE,
    WRITE,
    Driver,
    FlatMemory,
)

LIMIT = 5
"""Buffers of a chain, at most."""


@dataclass
class Offered:
    """A chain that the device has not used."""

    head: int
    slots: list[int]
    message: bytes
    places: list[int]
    """Where each byte that the device may write goes."""


@dataclass
class Model:
    """What must be."""

    offered: list[Offered] = field(default_factory=list)
    used: list[tuple[int, int]] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    memory: dict[int, int] = field(default_factory=dict)
    pages: set[int] = field(default_factory=set)
    count: int = 0
    """Chains used so far, that is the number of the next entry."""
    interrupt: bool = False


class QueueMachine(RuleBasedStateMachine):
    """A driver that follows the rules, and a device that copies."""

    @initialize(
        version=st.sampled_from([LEGACY, MODERN]),
        size=st.sampled_from([1, 2, 4, 16]),
        indirect=st.booleans(),
        event_idx=st.booleans(),
        start=st.sampled_from([0, 0xFFF9]),
    )
    def begin(
        self, version: object, size: int, indirect: bool, event_idx: bool, start: int
    ) -> None:
        self.device = Copier()
        self.memory = FlatMemory()
        self.driver = Driver.of(self.device, LEGACY if version is LEGACY else MODERN, self.memory)
        self.indirect, self.event_idx = indirect, event_idx
        self.size, self.start = size, start
        self.restart()

    def restart(self) -> None:
        features = INDIRECT_DESC * self.indirect | EVENT_IDX * self.event_idx
        self.driver.begin(features, size=self.size)
        self.ring = self.driver.rings[0]
        queue = self.driver.transport._queues[0]
        queue._next_available = queue._next_used = queue._signalled_used = self.start
        self.ring.added = self.ring.seen = self.start
        for area in (self.ring.avail, self.ring.used):
            self.driver.put16(area + 2, self.start)
        self.device.seen.clear()
        self.memory.written.clear()
        self.free = list(range(self.size))
        self.model = Model(count=self.start)
        self.suppress = False
        self.used_event = 0
        self.announced = False

    @rule(
        cuts=st.lists(st.integers(0, 4), min_size=0, max_size=LIMIT),
        room=st.lists(st.integers(0, 4), min_size=0, max_size=LIMIT),
        message=st.binary(min_size=4 * LIMIT, max_size=4 * LIMIT),
        as_table=st.booleans(),
        pick=st.integers(0, 1 << 16),
    )
    def offer(
        self, cuts: list[int], room: list[int], message: bytes, as_table: bool, pick: int
    ) -> None:
        """Make a chain available, if there are descriptors for it."""
        pieces = len(cuts) + len(room)
        as_table = as_table and self.indirect
        if not pieces or len(self.free) < (1 if as_table else pieces):
            return
        slots = [self.free.pop(pick % len(self.free)) for _ in range(1 if as_table else pieces)]
        data, out, table = self.areas(slots[0])
        buffers: list[tuple[int, int, int]] = []
        places: list[int] = []
        at = 0
        for size in cuts:
            self.driver.put(data + 8 * at, message[at : at + size])
            buffers.append((data + 8 * at, size, 0))
            at += size
        for number, size in enumerate(room):
            buffers.append((out + 8 * number, size, WRITE))
            places += range(out + 8 * number, out + 8 * number + size)
        self.describe(buffers, slots, table if as_table else None)
        self.driver.offer(0, slots[0])
        self.model.offered.append(Offered(slots[0], slots, message[:at], places))
        self.announced = False

    @staticmethod
    def areas(head: int) -> tuple[int, int, int]:
        """Return where a chain's message, its room, and its indirect table are: 3 pages each."""
        start = BUFFERS + 3 * PAGE * head
        return start, start + PAGE, start + 2 * PAGE

    def describe(
        self, buffers: list[tuple[int, int, int]], slots: list[int], table: int | None
    ) -> None:
        if table is not None:
            last = len(buffers) - 1
            self.driver.put(
                table,
                b"".join(
                    struct.pack("<QIHH", addr, size, flags | (NEXT if n < last else 0), n + 1)
                    for n, (addr, size, flags) in enumerate(buffers)
                ),
            )
            buffers = [(table, 16 * len(buffers), INDIRECT)]
        following = [*slots[1:], None]
        for slot, (addr, size, flags), after in zip(slots, buffers, following, strict=True):
            more = 0 if after is None else NEXT
            self.driver.describe(0, slot, addr, size, flags | more, after or 0)

    @rule(limit=st.sampled_from([1, 2, 100, 100]))
    def notify(self, limit: int) -> None:
        """Have the device use chains, as many as it likes."""
        self.device.limit = limit
        self.driver.notify(0)
        self.announced = True
        model = self.model
        numbers = []
        for _ in range(min(limit, len(model.offered))):
            chain = model.offered.pop(0)
            length = min(len(chain.message), len(chain.places))
            for place, byte in zip(chain.places, chain.message, strict=False):
                model.memory[place] = byte
                model.pages.add((place - BASE) // PAGE)
            model.seen.append(chain.message)
            model.used.append((chain.head, length))
            numbers.append(model.count)
            model.count = (model.count + 1) % 65536
            self.free += chain.slots
        if numbers:
            model.pages.add((self.ring.used - BASE) // PAGE)
        if self.event_idx:
            model.interrupt |= self.used_event in numbers
        elif not self.suppress:
            model.interrupt |= bool(numbers)

    @rule()
    def collect(self) -> None:
        """Take what the device has used."""
        assert self.driver.take_used(0) == self.model.used
        self.model.used.clear()

    @rule(on=st.booleans(), ahead=st.integers(-2, 4))
    def choose_interrupts(self, on: bool, ahead: int) -> None:
        """Say when to be interrupted, in both ways."""
        self.suppress = not on
        self.driver.put16(self.ring.avail, int(self.suppress))
        self.used_event = (self.model.count + ahead) % 65536
        self.driver.put16(self.ring.avail + 4 + 2 * self.ring.size, self.used_event)

    @rule()
    def acknowledge(self) -> None:
        self.driver.write(Register.INTERRUPT_ACK, 3)
        self.model.interrupt = False

    @precondition(lambda self: len(self.model.offered) % 3 == 1)
    @rule()
    def reset(self) -> None:
        """Begin anew, whatever is still offered."""
        self.restart()

    @invariant()
    def they_agree(self) -> None:
        model = self.model
        assert self.driver.transport.failure is None
        assert self.device.seen == model.seen
        assert self.driver.u16(self.ring.used + 2) == model.count
        assert bool(self.driver.read(Register.INTERRUPT_STATUS)) is model.interrupt
        assert (self.driver.line[-1:] == [True]) is model.interrupt
        for place, byte in model.memory.items():
            assert self.memory.data[place - BASE] == byte
        assert self.memory.written == model.pages
        if self.event_idx and self.announced and not model.offered:
            event = self.driver.u16(self.ring.used + 4 + 8 * self.ring.size)
            assert event == (model.count if model.seen else 0)


TestQueue = QueueMachine.TestCase
