"""Dirty logs against what a guest has written, as in the kernel's dirty_log_test.

The guest writes the number of the round to places all over its memory. A page that a log names
holds this round's number or the last one's; any other is as it was. In the mode with a clear,
the guest also writes between the log's copy and the clear.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from emu.arch.address import IPA
from emu.machine import Machine
from hyp.capabilities import Cap
from hyp.dirty_ring import RingReader
from hyp.exits import DirtyRingFull, Intr
from hyp.host import HVA, SIZE_2M, SIZE_4K
from hyp.vm import VM
from tests.emu.cpu import a64
from tests.hyp.selftests.guest import (
    BACKINGS,
    CODE,
    DATA,
    DATA_SLOT,
    LOG,
    SelftestGuest,
)

SIZE = 2 * SIZE_2M
PAGES = SIZE // SIZE_4K
ROUND = IPA(CODE + 0x4000)
"""Where the guest reads the number of the round: the host writes it."""
WRITER = (
    0xCA02_3442,  # EOR X2, X2, X2, LSL #13
    0xCA42_1C42,  # EOR X2, X2, X2, LSR #7
    0xCA02_4442,  # EOR X2, X2, X2, LSL #17
    0xD348_6844,  # UBFX X4, X2, #8, #19
    a64.ldr(3, 6),
    0xF824_7823,  # STR X3, [X1, X4, LSL #3]
    a64.b(-24),
)
WRITES = 100
"""Writes in a round."""
ROUNDS = 4
CHUNK = 128
"""How many pages one clear names."""
RING_SIZE, RING_LIMIT = 4096, 192


class Mode(NamedTuple):
    """How the log is collected."""

    name: str
    manual: int = 0
    ring: bool = False
    chunk: int = 0


MODES = [
    Mode("dirty-log"),
    Mode("dirty-log eager", chunk=SIZE_2M),
    Mode("clear-log", manual=1),
    Mode("clear-log initially set", manual=3),
    Mode("clear-log initially set eager", manual=3, chunk=SIZE_2M),
    Mode("dirty-ring", ring=True),
]


class Logged:
    """A guest whose writes are logged."""

    def __init__(self, mode: Mode, backing: str) -> None:
        self.mode = mode
        vm = VM(Machine(32 << 20))
        vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, mode.manual)
        vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, mode.chunk)
        if mode.ring:
            vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, RING_SIZE)
            # Without a bitmap a slot does not count as logged, and is mapped by blocks.
            vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
        self.guest = guest = SelftestGuest(vm)
        guest.add_slot(DATA_SLOT, DATA, SIZE, LOG, BACKINGS[backing])
        guest.load(*WRITER, blocks=range(DATA, DATA + SIZE, SIZE_2M))
        guest.set_x(guest.vcpu, x1=DATA, x2=0x9E37_79B9_7F4A_7C15, x6=ROUND)
        ring = guest.vcpu.dirty_ring
        self.reader = RingReader(ring) if ring is not None else None
        self.seen = bytearray(SIZE)
        self.full = 0

    def run(self, number: int, writes: int) -> set[int]:
        """Let the guest write; return the pages that a full ring gave up meanwhile."""
        self.guest.write_u64(ROUND, number)
        end = self.guest.vcpu.pe.retired + writes * len(WRITER)
        found: set[int] = set()
        while (left := end - self.guest.vcpu.pe.retired) > 0:
            exit_ = self.guest.vcpu.run(left)
            if isinstance(exit_, DirtyRingFull):
                self.full += 1
                found |= self.harvest()
            else:
                assert isinstance(exit_, Intr)
        return found

    def harvest(self) -> set[int]:
        assert self.reader is not None
        entries = self.reader.harvest()
        assert self.guest.vm.reset_dirty_rings() == len(entries)
        assert {slot for slot, _ in entries} <= {DATA_SLOT}
        assert len({page for _, page in entries}) == len(entries)
        return {page for _, page in entries}

    def collect(self, number: int) -> set[int]:
        """Take the log; writes go on before what it names is armed again."""
        if self.mode.ring:
            return self.harvest()
        found = self.guest.dirty(DATA_SLOT)
        if self.mode.manual:
            self.run(number, WRITES // 2)
            assert found <= self.guest.dirty(DATA_SLOT), "until it is cleared a page stays dirty"
            for first in range(0, PAGES, CHUNK):
                bits = sum(1 << page - first for page in found if first <= page < first + CHUNK)
                bitmap = bits.to_bytes(CHUNK // 8, "little")
                self.guest.vm.clear_dirty_log(DATA_SLOT, first, CHUNK, bitmap)
        return found

    def changed(self) -> dict[int, bytes]:
        """Return the pages that are not as they were seen last."""
        memory = self.guest.vm.host.read(HVA(self.guest.hva(DATA)), SIZE)
        parts = {page: slice(page * SIZE_4K, (page + 1) * SIZE_4K) for page in range(PAGES)}
        return {page: memory[at] for page, at in parts.items() if memory[at] != self.seen[at]}

    def check(self, logged: set[int], number: int) -> None:
        """Compare memory with what was there last; keep the pages that the log names."""
        changed = self.changed()
        assert set(changed) <= logged | self.later(), "a write is lost"
        for page in logged & set(changed):
            at = slice(page * SIZE_4K, (page + 1) * SIZE_4K)
            pairs = zip(_words(changed[page]), _words(self.seen[at]), strict=True)
            assert {new for new, old in pairs if new != old} <= {number, number - 1}
            self.seen[at] = changed[page]

    def later(self) -> set[int]:
        """Return what the next log will name."""
        return self.guest.dirty(DATA_SLOT) if self.mode.manual else set()


def _words(data: bytes | bytearray) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 8}Q", data)


@pytest.mark.parametrize("backing", ["anonymous", "anonymous_hugetlb_2mb"])
@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
@pytest.mark.kvm_row(12, 13, 16, 17, 18, 20, 21)
def test_no_write_is_lost_and_no_clean_page_is_named(mode: Mode, backing: str) -> None:
    logged = Logged(mode, backing)
    if mode.manual & 2:
        assert logged.collect(0) == set(range(PAGES)), "initially set"
        logged.check(set(range(PAGES)), 1)
    for number in range(1, ROUNDS + 1):
        before = logged.later()
        named = logged.run(number, WRITES)
        named |= logged.collect(number)
        assert named - before <= set(logged.changed())
        logged.check(named, number)
    if not mode.manual:
        assert logged.changed() == {}
    stats = logged.guest.vm.stats
    assert set(stats.exits) <= {"INTR", "DIRTY_RING_FULL"}
    assert stats.exits["DIRTY_RING_FULL"] == logged.full


@pytest.mark.kvm_row(20)
def test_full_ring_stops_the_vcpu_until_it_is_reset() -> None:
    logged = Logged(MODES[-1], "anonymous")
    named = logged.run(1, 500)
    assert logged.full == 2
    assert len(named) >= RING_LIMIT
    named |= logged.harvest()
    logged.check(named, 1)
    assert logged.changed() == {}
