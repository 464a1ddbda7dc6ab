"""The dirty ring of a vCPU (virt/kvm/dirty_ring.c): dirty pages in the order of their faults.

The kernel pushes entries, user space harvests them and marks them so, and
KVM_RESET_DIRTY_RINGS takes them back and protects their pages again. Ring and
entries are memory that both share.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import PAGE_SIZE
from hyp.errors import Errno, KvmError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_SIZE: Final = 16
"""sizeof(struct kvm_dirty_gfn)."""

RESERVED_ENTRIES: Final = 64
"""KVM_DIRTY_RING_RSVD_ENTRIES: what still fits once the ring counts as full."""

MAX_ENTRIES: Final = 65536
"""KVM_DIRTY_RING_MAX_ENTRIES."""

COALESCED_PAGES: Final = 64
"""Pages that one mask protects."""


class DirtyGfnFlags(IntFlag):
    """The KVM_DIRTY_GFN_F_* flags: dirty, then harvested by user space, then free again."""

    DIRTY = 1
    RESET = 2


class DirtyGfn:
    """``struct kvm_dirty_gfn``.

    Attributes
    ----------
    flags
        Whose entry it is.
    slot
        The address space in the upper half, the slot's number in the lower.
    offset
        The page's offset in the slot.
    """

    __slots__ = ("flags", "offset", "slot")

    def __init__(self) -> None:
        self.flags = DirtyGfnFlags(0)
        self.slot = 0
        self.offset = 0


class ResetMask(NamedTuple):
    """Pages to protect again: bit n of ``mask`` is the page ``offset + n`` of the slot."""

    slot: int
    offset: int
    mask: int


def check_ring_size(size: int) -> None:
    """Check the argument of KVM_CAP_DIRTY_LOG_RING_ACQ_REL.

    Raises
    ------
    KvmError
        EINVAL for a size that is no power of two or below a page, E2BIG for a large one.
    """
    expected = f"use a power of two from {PAGE_SIZE:#x} to {MAX_ENTRIES * ENTRY_SIZE:#x}"
    if size <= 0 or size & (size - 1) or size < max(PAGE_SIZE, RESERVED_ENTRIES * ENTRY_SIZE):
        raise KvmError(Errno.EINVAL, f"a dirty ring cannot have {size:#x} bytes; {expected}")
    if size > MAX_ENTRIES * ENTRY_SIZE:
        raise KvmError(Errno.E2BIG, f"a dirty ring of {size:#x} bytes is too large; {expected}")


class DirtyRing:
    """``struct kvm_dirty_ring``, and the pages that user space maps of it.

    Parameters
    ----------
    size
        In bytes.

    Attributes
    ----------
    entries
        The shared memory.
    soft_limit
        Entries in use at which the vCPU no longer enters the guest.
    soft_full_requested
        KVM_REQ_DIRTY_RING_SOFT_FULL: look at the limit before the next entry.
    """

    __slots__ = ("_dirty_index", "_reset_index", "entries", "soft_full_requested", "soft_limit")

    def __init__(self, size: int) -> None:
        self.entries = [DirtyGfn() for _ in range(size // ENTRY_SIZE)]
        self.soft_limit = len(self.entries) - RESERVED_ENTRIES
        self.soft_full_requested = False
        self._dirty_index = 0
        self._reset_index = 0

    @property
    def used(self) -> int:
        """Entries that are not free."""
        return self._dirty_index - self._reset_index

    @property
    def is_soft_full(self) -> bool:
        """Whether the soft limit is reached."""
        return self.used >= self.soft_limit

    def push(self, slot: int, offset: int) -> None:
        """Add a page (``kvm_dirty_ring_push``)."""
        assert self.used < len(self.entries), "the reserve is larger than what one entry dirties"
        entry = self.entries[self._dirty_index % len(self.entries)]
        entry.slot, entry.offset = slot, offset
        entry.flags = DirtyGfnFlags.DIRTY
        self._dirty_index += 1
        if self.is_soft_full:
            self.soft_full_requested = True

    def check_request(self) -> bool:
        """Return whether the vCPU must not enter the guest (``kvm_dirty_ring_check_request``)."""
        self.soft_full_requested = self.soft_full_requested and self.is_soft_full
        return self.soft_full_requested

    def reset(self) -> Iterator[ResetMask]:
        """Free the harvested entries, and yield what to protect (``kvm_dirty_ring_reset``).

        Neighbouring pages come in one mask, in whatever order they were dirtied.
        """
        pending: ResetMask | None = None
        while True:
            entry = self.entries[self._reset_index % len(self.entries)]
            if not entry.flags & DirtyGfnFlags.RESET:
                break
            entry.flags = DirtyGfnFlags(0)
            self._reset_index += 1
            merged = None if pending is None else _merge(pending, entry)
            if merged is None and pending is not None:
                yield pending
            pending = merged or ResetMask(entry.slot, entry.offset, 1)
        if pending is not None:
            yield pending


def _merge(pending: ResetMask, entry: DirtyGfn) -> ResetMask | None:
    """Return the mask with one page more, if that still fits."""
    if entry.slot != pending.slot:
        return None
    delta = entry.offset - pending.offset
    if 0 <= delta < COALESCED_PAGES:
        return pending._replace(mask=pending.mask | 1 << delta)
    if delta < 0 and (pending.mask << -delta).bit_length() <= COALESCED_PAGES:
        return pending._replace(offset=entry.offset, mask=pending.mask << -delta | 1)
    return None


class RingReader:
    """What user space does with the ring it has mapped.

    Parameters
    ----------
    ring
        The ring of a vCPU.
    """

    def __init__(self, ring: DirtyRing) -> None:
        self._entries = ring.entries
        self._fetch_index = 0

    def harvest(self) -> list[tuple[int, int]]:
        """Return slot and offset of each new dirty page, and mark the entries to be reset."""
        harvested: list[tuple[int, int]] = []
        while True:
            entry = self._entries[self._fetch_index % len(self._entries)]
            if entry.flags != DirtyGfnFlags.DIRTY:
                return harvested
            harvested.append((entry.slot, entry.offset))
            entry.flags = DirtyGfnFlags.DIRTY | DirtyGfnFlags.RESET
            self._fetch_index += 1
