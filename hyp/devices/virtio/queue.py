"""Split virtqueues, from the device's side (virtio 1.2, section 2.7).

A queue is three areas of guest memory: descriptors, the ring of available chains, which the
driver writes, and the ring of used ones, which the device writes. Whatever a guest puts there,
the device neither raises nor hangs: a queue that makes no sense is given up (``fail``) until
the device is reset.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from emu.arch.address import IPA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyp.errors import Errno

DEFAULT_ALIGN: Final = 4096
"""The alignment of the used ring of a legacy queue until the driver says otherwise."""

MAX_INDIRECT: Final = 1024
"""The most descriptors of an indirect table."""

MAX_CHAIN_BYTES: Final = 16 << 20
"""What the buffers of one chain can hold together."""

_DESCRIPTOR: Final = struct.Struct("<QIHH")
_USED_ELEMENT: Final = struct.Struct("<II")
_U16: Final = 0xFFFF


class GuestMemory(Protocol):
    """What a device uses of :class:`hyp.vm.VM`."""

    def read_guest(self, ipa: IPA, size: int) -> bytes | None:
        """Read guest physical memory."""

    def write_guest(self, ipa: IPA, data: bytes) -> Errno:
        """Write guest physical memory."""


DESC_F_NEXT: Final = 1
"""Of a descriptor: the chain goes on at ``next``."""
DESC_F_WRITE: Final = 2
"""The device writes the buffer; otherwise it reads it."""
DESC_F_INDIRECT: Final = 4
"""The buffer is a table of descriptors."""

AVAIL_F_NO_INTERRUPT: Final = 1
"""Of the available ring: the driver does not wait for used buffers."""


class Descriptor(NamedTuple):
    """One descriptor: a buffer, and what follows it."""

    addr: int
    len: int
    flags: int
    next: int


class Buffer(NamedTuple):
    """Guest memory that a chain offers."""

    ipa: IPA
    size: int


class Chain:
    """The buffers of one chain, those that the device reads before those that it writes.

    Parameters
    ----------
    queue
        Where it came from.
    head
        Its first descriptor, by which the driver knows it.
    readable, writable
        The buffers.

    Attributes
    ----------
    readable_size, writable_size
        What they hold together, in bytes.
    """

    __slots__ = ("_queue", "_readable", "_writable", "head", "readable_size", "writable_size")

    def __init__(
        self, queue: Virtqueue, head: int, readable: list[Buffer], writable: list[Buffer]
    ) -> None:
        self.head = head
        self._queue = queue
        self._readable = readable
        self._writable = writable
        self.readable_size = sum(buffer.size for buffer in readable)
        self.writable_size = sum(buffer.size for buffer in writable)

    def read(self, offset: int = 0, size: int | None = None) -> bytes | None:
        """Return bytes of the readable buffers, as if they were one.

        Returns
        -------
        bytes or None
            Less than ``size`` at their end; ``None`` where there is no memory: then the
            queue has failed.
        """
        end = self.readable_size if size is None else min(offset + size, self.readable_size)
        parts = []
        for ipa, length, _ in _cut(self._readable, offset, end):
            part = self._queue.memory.read_guest(ipa, length)
            if part is None:
                self._queue.fail(f"{length} bytes at {ipa:#x} cannot be read")
                return None
            parts.append(part)
        return b"".join(parts)

    def write(self, data: bytes, offset: int = 0) -> bool:
        """Write bytes to the writable buffers, as if they were one; ``data`` fits.

        Returns
        -------
        bool
            False where there is no memory that can be written: then the queue has failed.
        """
        for ipa, length, done in _cut(self._writable, offset, offset + len(data)):
            if self._queue.memory.write_guest(ipa, data[done : done + length]):
                self._queue.fail(f"{length} bytes at {ipa:#x} cannot be written")
                return False
        return True


def _cut(buffers: list[Buffer], start: int, end: int) -> Iterator[tuple[IPA, int, int]]:
    """Yield address, length, and offset from ``start`` of each piece of a range of buffers."""
    base = 0
    for ipa, size in buffers:
        low, high = max(start, base), min(end, base + size)
        if low < high:
            yield IPA(ipa + low - base), high - low, low - start
        base += size


class Virtqueue:
    """One queue of a device.

    Parameters
    ----------
    memory
        The guest's memory.
    max_size
        The most entries it can have, a power of two.
    failed
        Called with the reason when the queue is given up.

    Attributes
    ----------
    size
        Entries, as the driver chose.
    ready
        Whether the addresses are those of a queue.
    descriptors, available, used
        Where the three areas are.
    align
        Legacy: the alignment of the used ring.
    indirect, event_idx
        Whether these features are negotiated.
    broken
        Whether it is given up until the next reset.
    """

    def __init__(self, memory: GuestMemory, max_size: int, failed: Callable[[str], None]) -> None:
        self.memory = memory
        self.max_size = max_size
        self._failed = failed
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.size = self.max_size
        self.ready = False
        self.descriptors = self.available = self.used = 0
        self.align = DEFAULT_ALIGN
        self.indirect = self.event_idx = False
        self.broken = False
        self.start(ready=False)

    def start(self, *, ready: bool) -> None:
        """Begin at the first entry of the rings, or stop using them."""
        self.ready = ready
        self._next_available = 0
        self._next_used = 0
        self._signalled_used = 0

    def place_legacy(self, address: int) -> None:
        """Find the three areas behind one address (section 2.7.2)."""
        self.descriptors = address
        self.available = address + _DESCRIPTOR.size * self.size
        end = self.available + 2 * (3 + self.size)
        self.used = (end + self.align - 1) & -self.align

    def fail(self, reason: str) -> None:
        """Give the queue up."""
        if not self.broken:
            self.broken = True
            self._failed(reason)

    # --- available chains ----------------------------------------------------------------

    def chains(self) -> Iterator[Chain]:
        """Yield the chains that are available now; each is to be given to :meth:`push`.

        Those that become available meanwhile wait for the next notification, so that a
        guest cannot keep the device busy for ever.
        """
        for _ in range(self._count_available()):
            chain = self._pop()
            if chain is None:
                return
            yield chain

    def _count_available(self) -> int:
        if not self.ready or self.broken:
            return 0
        index = self._read_u16(self.available + 2)
        if index is None:
            return 0
        count = (index - self._next_available) & _U16
        if count > self.size:
            self.fail(f"{count} chains are available in a queue of {self.size}")
            return 0
        return count

    def _pop(self) -> Chain | None:
        if not self.ready or self.broken:  # a chain before has ended the queue
            return None
        head = self._read_u16(self.available + 4 + 2 * (self._next_available % self.size))
        if head is None:
            return None
        self._next_available = (self._next_available + 1) & _U16
        if self.event_idx:
            # avail_event: be notified of the next one.
            self._write(
                self.used + 4 + _USED_ELEMENT.size * self.size,
                self._next_available.to_bytes(2, "little"),
            )
        return self._resolve(head)

    def _resolve(self, head: int) -> Chain | None:
        """Sort the buffers of a chain."""
        readable: list[Buffer] = []
        writable: list[Buffer] = []
        total = 0
        for addr, size, flags, _ in self._follow(head):
            total += size
            if flags & DESC_F_WRITE:
                writable.append(Buffer(IPA(addr), size))
            elif writable:
                self.fail(f"chain {head} has a buffer to read behind one to write")
            else:
                readable.append(Buffer(IPA(addr), size))
        if total > MAX_CHAIN_BYTES:
            self.fail(f"chain {head} offers more than {MAX_CHAIN_BYTES:#x} bytes")
        return None if self.broken else Chain(self, head, readable, writable)

    def _follow(self, head: int) -> list[Descriptor]:
        """Return the descriptors of a chain; if they make no sense, the queue fails."""
        found: list[Descriptor] = []
        table, entries, index, in_indirect = self.descriptors, self.size, head, False
        left = entries
        while left:
            descriptor = self._descriptor(table, entries, index)
            if descriptor is None:
                return found
            if descriptor.flags & DESC_F_INDIRECT:
                if in_indirect or not self._may_be_table(descriptor):
                    self.fail(f"chain {head} has an indirect descriptor {descriptor}")
                    return found
                table, entries = descriptor.addr, descriptor.len // _DESCRIPTOR.size
                index, left, in_indirect = 0, entries, True
                continue
            found.append(descriptor)
            if not descriptor.flags & DESC_F_NEXT:
                return found
            index = descriptor.next
            left -= 1
        self.fail(f"chain {head} is a loop")
        return found

    def _may_be_table(self, descriptor: Descriptor) -> bool:
        """Whether an indirect descriptor is one that the driver may use."""
        entries, rest = divmod(descriptor.len, _DESCRIPTOR.size)
        return (
            self.indirect
            and not descriptor.flags & DESC_F_NEXT
            and not rest
            and 0 < entries <= MAX_INDIRECT
        )

    def _descriptor(self, table: int, entries: int, index: int) -> Descriptor | None:
        if index >= entries:
            self.fail(f"descriptor {index} is none of {entries}")
            return None
        data = self._read(table + _DESCRIPTOR.size * index, _DESCRIPTOR.size)
        return None if data is None else Descriptor(*_DESCRIPTOR.unpack(data))

    # --- used chains ---------------------------------------------------------------------

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back.

        Parameters
        ----------
        chain
            The chain.
        written
            How many bytes of its writable buffers hold something new, from the first on.
        """
        if not self.ready or self.broken:
            return
        at = self.used + 4 + _USED_ELEMENT.size * (self._next_used % self.size)
        if not self._write(at, _USED_ELEMENT.pack(chain.head, written)):
            return
        self._next_used = (self._next_used + 1) & _U16
        self._write(self.used + 2, self._next_used.to_bytes(2, "little"))

    def take_signal(self) -> bool:
        """Return whether the driver wants to be told of what was pushed since the last call."""
        new, old = self._next_used, self._signalled_used
        if new == old or self.broken:
            return False
        self._signalled_used = new
        if not self.event_idx:
            flags = self._read_u16(self.available)
            return flags is not None and not flags & AVAIL_F_NO_INTERRUPT
        event = self._read_u16(self.available + 4 + 2 * self.size)  # used_event
        # Whether the entry that the driver waits for is among the new ones.
        return event is not None and (new - event - 1) & _U16 < (new - old) & _U16

    # --- memory --------------------------------------------------------------------------

    def _read(self, ipa: int, size: int) -> bytes | None:
        data = self.memory.read_guest(IPA(ipa), size)
        if data is None:
            self.fail(f"the queue at {ipa:#x} cannot be read")
        return data

    def _read_u16(self, ipa: int) -> int | None:
        data = self._read(ipa, 2)
        return None if data is None else int.from_bytes(data, "little")

    def _write(self, ipa: int, data: bytes) -> bool:
        if self.memory.write_guest(IPA(ipa), data):
            self.fail(f"the queue at {ipa:#x} cannot be written")
            return False
        return True
