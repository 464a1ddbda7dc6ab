"""What must come of a bit that flips in a stage-2 descriptor, by the format and KVM's rules.

The guest's accesses are given; each is translated by :mod:`tests.lab.campaign.stage2_format`. What
the walk refuses, KVM repairs, passes on, or gives up on. From where the guest gets a wrong word
on, what it does is not known: the prediction ends there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.lab.campaign.stage2_format import (
    ADDRESS,
    AF,
    LAST,
    S2AP_R,
    S2AP_W,
    SHIFTS,
    TABLE_OR_PAGE,
    VALID,
    XN,
    Refused,
    is_table,
    walk,
)

if TYPE_CHECKING:
    from tests.lab.campaign.stage2_format import Controls, Found, Read

PAGE_MASK = 0xFFF
RETRIES = 8

AS_EVER = "as without a fault"
GIVEN_UP = "KVM gives up"
WALKS_FOR_EVER = "the same external abort for ever"
ABORTED = "the guest gets an external abort"
VECTOR_LOST = "the guest gets an external abort, and has no vector"
WRONG_WORD = "the guest gets a wrong word"


class Access(NamedTuple):
    """One access of the guest without faults. With stage 1 off, VAs are IPAs."""

    kind: str
    """Of read, write and fetch."""
    ipa: int
    size: int
    value: int


class Host(NamedTuple):
    """What the hypervisor knows of the guest's memory."""

    frames: dict[int, int]
    """For each page of the slots (IPA), the frame that backs it, or will when it is touched."""
    block_slots: tuple[range, ...]
    """IPAs that are mapped by blocks of 2 MiB."""
    memory: range
    """PAs that are there."""
    spare: tuple[int, ...]
    """Pages that KVM has in reserve for tables, the next one first."""


class Event(NamedTuple):
    """An abort taken to EL2."""

    refused: str
    level: int
    access: str
    ipa: int


@dataclass
class Prediction:
    """What a flip leads to, as far as it can be known."""

    events: list[Event] = field(default_factory=list)
    reached: dict[int, None] = field(default_factory=dict)
    """Pages of physical memory, in the order in which they are reached."""
    end: str = AS_EVER
    """How the guest ends; or that from somewhere on, it sees something wrong."""


class Tlb:
    """Stage-2 entries: a walk's leaf stays until KVM invalidates it."""

    def __init__(self) -> None:
        self._leaves: dict[tuple[int, int], Found] = {}
        """By level, and the number of the page or block."""

    def lookup(self, ipa: int, access: str) -> int | None:
        """Return the PA of an access, if there is an entry that allows it."""
        for level in (LAST, LAST - 1, LAST - 2):
            found = self._leaves.get((level, ipa >> SHIFTS[level]))
            if found is not None:
                return found.output(ipa) if found.allows(access) else None
        return None

    def insert(self, ipa: int, found: Found) -> None:
        self._leaves[found.level, ipa >> SHIFTS[found.level]] = found

    def remove(self, ipa: int) -> None:
        for level in range(1, LAST + 1):
            self._leaves.pop((level, ipa >> SHIFTS[level]), None)

    def clear(self) -> None:
        self._leaves = {}


class Model:
    """A machine that has descriptors, KVM's abort handler, and memory; no instructions.

    Parameters
    ----------
    read
        Memory, as it is before the flip.
    controls
        Where the tables are.
    host
        What the hypervisor knows.
    vector
        What the guest does first when it takes an exception.
    """

    def __init__(self, read: Read, controls: Controls, host: Host, vector: Access) -> None:
        self._below, self._controls, self._host, self._vector = read, controls, host, vector
        self._begin({})

    def _begin(self, changed: dict[int, int]) -> None:
        self._changed = changed
        self._spare = iter(self._host.spare)
        self._tlb = Tlb()
        self._said = Prediction()

    def _read(self, at: int) -> int | None:
        return self._changed[at] if at in self._changed else self._below(at)

    def predict(self, at: int, bit: int, accesses: list[Access]) -> Prediction:
        """Return what must come of it if a bit of the descriptor at a PA flips."""
        word = self._below(at)
        assert word is not None
        self._begin({at: word ^ 1 << bit})
        for access in accesses:
            end = self._perform(access)
            if end is ABORTED and self._perform(self._vector) is not None:
                end = VECTOR_LOST
            if end is not None:
                self._said.end = end
                break
        return self._said

    def _perform(self, access: Access) -> str | None:
        """Perform an access; return how the run ends, or None if it goes on."""
        known = self._tlb.lookup(access.ipa, access.kind)
        if known is not None:
            return self._use(access, known)
        for _ in range(RETRIES):
            found = walk(self._read, self._controls, access.ipa, access.kind)
            if found.refused is None:
                pa = found.output(access.ipa)
                end = self._use(access, pa)
                if pa in self._host.memory:
                    self._tlb.insert(access.ipa, found)
                return end
            if found.refused is Refused.WALK_ABORT:
                # KVM gives the guest an SError, which it has masked, and enters it again.
                return WALKS_FOR_EVER
            page = access.ipa & ~PAGE_MASK
            self._said.events.append(Event(found.refused.value, found.level, access.kind, page))
            if found.refused is Refused.ADDRESS_SIZE:
                return GIVEN_UP
            if page not in self._host.frames:
                return None  # a device, whose access KVM emulates
            self._repair(found, access)
        return "the same fault for ever"

    def _use(self, access: Access, pa: int) -> str | None:
        if pa not in self._host.memory:
            return ABORTED
        self._said.reached[pa & ~PAGE_MASK] = None
        at, shift = pa & ~7, 8 * (pa & 7)
        mask = (1 << 8 * access.size) - 1
        word = self._read(at)
        assert word is not None
        if access.kind == "write":
            self._changed[at] = word & ~(mask << shift) | access.value << shift
        elif word >> shift & mask != access.value:
            return f"{WRONG_WORD} by a {access.kind}"
        return None

    # --- KVM -----------------------------------------------------------------------------

    def _repair(self, found: Found, access: Access) -> None:
        """Do what ``kvm_handle_guest_abort`` does for memory."""
        size = 21 if any(access.ipa in slot for slot in self._host.block_slots) else 12
        if found.refused is Refused.ACCESS_FLAG:
            self._changed[found.at] = found.word | AF
        elif found.refused is Refused.PERMISSION and SHIFTS[found.level] == size:
            relaxed = found.word | S2AP_R | S2AP_W
            self._changed[found.at] = relaxed & ~XN if access.kind == "fetch" else relaxed
            self._tlb.remove(access.ipa)
        else:
            self._map(access, size)

    def _map(self, access: Access, size: int) -> None:
        """Walk to where a leaf of this size belongs, make tables on the way, and put it there."""
        table, level = self._controls.base, self._controls.start_level
        while True:
            at = self._controls.entry(table, level, access.ipa)
            old = self._read(at)
            assert old is not None
            if SHIFTS[level] == size:
                break
            if not is_table(old, level):
                self._break(old, level, access.ipa)
                old = next(self._spare) | VALID | TABLE_OR_PAGE
                self._changed[at] = old
            table, level = old & ADDRESS, level + 1
        self._break(old, level, access.ipa)
        frame = self._host.frames[access.ipa & ~PAGE_MASK] & -(1 << size)
        leaf = frame | VALID | AF | S2AP_R | S2AP_W
        if level == LAST:
            leaf |= TABLE_OR_PAGE
        self._changed[at] = leaf if access.kind == "fetch" else leaf | XN

    def _break(self, old: int, level: int, ipa: int) -> None:
        """Invalidate what TLBs may hold of an entry."""
        if is_table(old, level):
            self._tlb.clear()
        elif old & VALID:
            self._tlb.remove(ipa)
