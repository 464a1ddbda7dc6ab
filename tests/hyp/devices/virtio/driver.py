"""A guest's driver, as far as tests need one: it knows rings as bytes and shares no code."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emu.arch.address import IPA
from hyp.devices.virtio.mmio import VirtioMmio
from hyp.devices.virtio.registers import Register, Status, Version
from hyp.errors import Errno

if TYPE_CHECKING:
    from hyp.devices.virtio.device import VirtioDevice
    from hyp.devices.virtio.queue import GuestMemory

BASE = 0x4000_0000
SIZE = 1 << 20
PAGE = 4096
BUFFERS = BASE + 0x8_0000
"""Where tests have their data; the queues are below, 64 KiB each."""

NEXT, WRITE, INDIRECT = 1, 2, 4
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
MODERN, LEGACY = Version.MODERN, Version.LEGACY


class FlatMemory:
    """Guest memory without a VM.

    Attributes
    ----------
    data
        What is there, from BASE on.
    written
        The pages that were written, by the device alone.
    """

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.written: set[int] = set()

    def read_guest(self, ipa: IPA, size: int) -> bytes | None:
        offset = ipa - BASE
        if not 0 <= offset <= SIZE - size:
            return None
        return bytes(self.data[offset : offset + size])

    def write_guest(self, ipa: IPA, data: bytes) -> Errno:
        offset = ipa - BASE
        if not 0 <= offset <= SIZE - len(data):
            return Errno.EFAULT
        self.data[offset : offset + len(data)] = data
        self.written |= {at // PAGE for at in range(offset, offset + len(data))}
        return Errno.OK


@dataclass
class Ring:
    """Where the driver has put a queue."""

    size: int
    desc: int
    avail: int
    used: int
    added: int = 0
    seen: int = 0


@dataclass
class Driver:
    """A transport, its memory, its line, and the queues that were set up."""

    transport: VirtioMmio
    memory: GuestMemory
    version: Version
    line: list[bool] = field(default_factory=list)
    rings: dict[int, Ring] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        device: VirtioDevice | None,
        version: Version = LEGACY,
        memory: GuestMemory | None = None,
    ) -> Driver:
        memory = FlatMemory() if memory is None else memory
        line: list[bool] = []
        transport = VirtioMmio(device, memory, line.append, version=version)
        return cls(transport, memory, version, line)

    # --- registers -----------------------------------------------------------------------

    def read(self, register: int) -> int:
        return self.transport.read(register, 4)

    def write(self, register: int, value: int) -> None:
        self.transport.write(register, 4, value)

    @property
    def offered(self) -> int:
        low_and_high = []
        for select in (0, 1):
            self.write(Register.DEVICE_FEATURES_SEL, select)
            low_and_high.append(self.read(Register.DEVICE_FEATURES))
        return low_and_high[0] | low_and_high[1] << 32

    def accept(self, features: int) -> None:
        for select in (0, 1):
            self.write(Register.DRIVER_FEATURES_SEL, select)
            self.write(Register.DRIVER_FEATURES, features >> 32 * select & 0xFFFF_FFFF)

    def begin(self, features: int = 0, *, queues: int = 1, size: int = 8) -> Driver:
        """Initialise the device as the specification says, with ``queues`` queues."""
        self.write(Register.STATUS, 0)
        self.write(Register.STATUS, Status.ACKNOWLEDGE)
        self.write(Register.STATUS, Status.ACKNOWLEDGE | Status.DRIVER)
        status = Status.ACKNOWLEDGE | Status.DRIVER
        if self.version is MODERN:
            self.accept(features | VERSION_1)
            status |= Status.FEATURES_OK
            self.write(Register.STATUS, status)
            assert self.read(Register.STATUS) & Status.FEATURES_OK
        else:
            self.accept(features)
            self.write(Register.GUEST_PAGE_SIZE, PAGE)
        for index in range(queues):
            self.set_up(index, size)
        self.write(Register.STATUS, status | Status.DRIVER_OK)
        return self

    def set_up(self, index: int, size: int = 8) -> None:
        at = BASE + 0x1_0000 * (index + 1)
        self.put(at, bytes(0x1_0000))
        self.write(Register.QUEUE_SEL, index)
        assert size <= self.read(Register.QUEUE_NUM_MAX)
        self.write(Register.QUEUE_NUM, size)
        if self.version is MODERN:
            ring = Ring(size, at, at + 0x4000, at + 0x8000)
            for low, address in ((0x80, ring.desc), (0x90, ring.avail), (0xA0, ring.used)):
                self.write(low, address)
                self.write(low + 4, 0)
            self.write(Register.QUEUE_READY, 1)
        else:
            avail = at + 16 * size
            used = -(-(avail + 6 + 2 * size) // PAGE) * PAGE
            ring = Ring(size, at, avail, used)
            self.write(Register.QUEUE_ALIGN, PAGE)
            self.write(Register.QUEUE_PFN, at // PAGE)
        self.rings[index] = ring

    # --- memory --------------------------------------------------------------------------

    def put(self, at: int, data: bytes) -> None:
        """Store as the guest does."""
        if isinstance(self.memory, FlatMemory):
            self.memory.data[at - BASE : at - BASE + len(data)] = data
        else:
            assert not self.memory.write_guest(IPA(at), data)

    def get(self, at: int, size: int) -> bytes:
        data = self.memory.read_guest(IPA(at), size)
        assert data is not None
        return data

    def u16(self, at: int) -> int:
        return int.from_bytes(self.get(at, 2), "little")

    def put16(self, at: int, value: int) -> None:
        self.put(at, (value & 0xFFFF).to_bytes(2, "little"))

    # --- queues --------------------------------------------------------------------------

    def describe(
        self, index: int, slot: int, addr: int, size: int, flags: int = 0, following: int = 0
    ) -> None:
        """Write a descriptor of a queue's table."""
        self.put(
            self.rings[index].desc + 16 * slot, struct.pack("<QIHH", addr, size, flags, following)
        )

    def offer(self, index: int, *heads: int) -> None:
        """Make chains available, without a notification."""
        ring = self.rings[index]
        for head in heads:
            self.put16(ring.avail + 4 + 2 * (ring.added % ring.size), head)
            ring.added = (ring.added + 1) & 0xFFFF
        self.put16(ring.avail + 2, ring.added)

    def notify(self, index: int) -> None:
        self.write(Register.QUEUE_NOTIFY, index)

    def chain(self, index: int, *buffers: tuple[int, int, int], first: int = 0) -> int:
        """Write a chain of (address, size, flags) from descriptor ``first`` on; return its head."""
        for number, (addr, size, flags) in enumerate(buffers):
            last = number == len(buffers) - 1
            slot = first + number
            self.describe(index, slot, addr, size, flags | (0 if last else NEXT), slot + 1)
        return first

    def send(self, index: int, *buffers: tuple[int, int, int]) -> tuple[int, int] | None:
        """Offer a chain, notify, and return what is used of it: (head, written)."""
        self.offer(index, self.chain(index, *buffers))
        self.notify(index)
        used = self.take_used(index)
        assert len(used) <= 1
        return used[0] if used else None

    def take_used(self, index: int) -> list[tuple[int, int]]:
        """Return the entries of the used ring that are new."""
        ring = self.rings[index]
        new = []
        while ring.seen != self.u16(ring.used + 2):
            at = ring.used + 4 + 8 * (ring.seen % ring.size)
            head, written = struct.unpack("<II", self.get(at, 8))
            new.append((head, written))
            ring.seen = (ring.seen + 1) & 0xFFFF
        return new
