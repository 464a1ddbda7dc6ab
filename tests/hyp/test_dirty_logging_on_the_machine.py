"""Dirty logging of a running guest: what the logs name is all that it has written."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bench import tables
from emu.arch.address import IPA
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.machine import Machine
from hyp import one_reg
from hyp.capabilities import Cap
from hyp.dirty import dirty_pages
from hyp.dirty_ring import RingReader
from hyp.events import KvmGuestFault
from hyp.exits import DirtyRingFull, Intr, SystemEvent
from hyp.host import HVA, SIZE_2M, SIZE_4K
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import VM
from tests.emu.cpu import a64
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import SystemRegister
    from hyp.events import Event
    from hyp.exits import Exit

LOG = MemoryRegionFlags.LOG_DIRTY_PAGES
CODE = IPA(0x4000_0000)
DATA = IPA(0x5000_0000)
DATA_SIZE = 4 << 20
TABLES = IPA(0x6000_0000)
SYSTEM_OFF = [a64.movz(0, 0x8400, 16), a64.movk(0, 8), a64.hvc(0)]

SCATTER = [
    0xCA02_3442,  # eor x2, x2, x2, lsl #13
    0xCA42_1C42,  # eor x2, x2, x2, lsr #7
    0xCA02_4442,  # eor x2, x2, x2, lsl #17
    0xD348_6844,  # ubfx x4, x2, #8, #19
    0xF824_7823,  # str x3, [x1, x4, lsl #3]
    a64.add(3, 3, 1),
    a64.b(-24),
]
"""Writes a number that counts up to places all over DATA."""
SEED = 0x9E37_79B9_7F4A_7C15
WRITES = 300
"""Writes in a round."""
ROUNDS = 8
RING_SIZE = 4096
RING_LIMIT = 192


def pages_written(rounds: int) -> list[set[int]]:
    """Return the pages that SCATTER writes in each round."""
    x, mask = SEED, (1 << 64) - 1
    written = []
    for _ in range(rounds):
        pages = set()
        for _ in range(WRITES):
            x ^= x << 13 & mask
            x ^= x >> 7
            x ^= x << 17 & mask
            pages.add((x >> 8 & 0x7_FFFF) * 8 // SIZE_4K)
        written.append(pages)
    return written


class Setup(NamedTuple):
    """How the slot is logged, and what is behind it."""

    manual: int = 0
    ring: bool = False
    chunk: int = 0
    page_size: int = SIZE_4K
    new_cpu: bool = False


class Migration:
    """A guest that writes, and a copy of its memory made from what its logs say."""

    def __init__(self, setup: Setup) -> None:
        features = NEW_CPU if setup.new_cpu else OLD_CPU
        self.vm = vm = VM(Machine(32 << 20, features=features))
        vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, setup.manual)
        vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, setup.chunk)
        if setup.ring:
            vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, RING_SIZE)
            vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
        self.hva = self.add_slot(1, DATA, DATA_SIZE, page_size=setup.page_size)
        self.add_code(*SCATTER)
        self.vcpu = vm.create_vcpu(0)
        self.vcpu.init()
        for register, value in ((one_reg.PC, CODE), (one_reg.core_x(1), DATA)):
            self.vcpu.set_one_reg(register, value)
        self.vcpu.set_one_reg(one_reg.core_x(2), SEED)
        self.events: list[Event] = []
        vm.events.subscribe(self.events.append)
        self.copy = bytearray(DATA_SIZE)

    def add_slot(
        self, number: int, ipa: IPA, size: int, flags: int = 0, page_size: int = SIZE_4K
    ) -> HVA:
        hva = self.vm.host.mmap(size, page_size)
        self.vm.set_user_memory_region(MemoryRegion(number, flags, ipa, size, hva))
        return hva

    def add_code(self, *program: int) -> None:
        hva = self.add_slot(0, CODE, SIZE_4K)
        self.vm.host.write(hva, struct.pack(f"<{len(program)}I", *program))

    def set_flags(self, flags: int) -> None:
        self.vm.set_user_memory_region(MemoryRegion(1, flags, DATA, DATA_SIZE, self.hva))

    def run(self, writes: int = WRITES) -> Exit:
        return self.vcpu.run(writes * len(SCATTER))

    def take_over(self, pages: set[int]) -> None:
        for page in pages:
            at = page * SIZE_4K
            self.copy[at : at + SIZE_4K] = self.vm.host.read(HVA(self.hva + at), SIZE_4K)

    def faults(self) -> int:
        """Return the aborts on DATA since the last call."""
        count = sum(isinstance(event, KvmGuestFault) and event.ipa >= DATA for event in self.events)
        self.events.clear()
        return count

    @property
    def memory(self) -> bytes:
        return self.vm.host.read(self.hva, DATA_SIZE)


BITMAPS = {
    "automatic": Setup(),
    "automatic, huge pages": Setup(page_size=SIZE_2M),
    "automatic, huge pages split eagerly": Setup(page_size=SIZE_2M, chunk=SIZE_2M, new_cpu=True),
    "manual": Setup(manual=1),
    "manual, huge pages split eagerly": Setup(manual=1, page_size=SIZE_2M, chunk=SIZE_2M),
    "manual, initially set": Setup(manual=3),
    "manual, initially set, huge pages": Setup(manual=3, page_size=SIZE_2M),
    "manual, initially set, split": Setup(manual=3, page_size=SIZE_2M, chunk=SIZE_2M, new_cpu=True),
}


@pytest.mark.parametrize("setup", BITMAPS.values(), ids=BITMAPS)
@pytest.mark.kvm_row(17)
@pytest.mark.kvm_row(18)
def test_copy_from_bitmaps_equals_memory_and_each_page_faults_once_a_round(setup: Setup) -> None:
    guest = Migration(setup)
    _, *rounds = pages_written(ROUNDS + 1)
    assert isinstance(guest.run(), Intr)
    guest.set_flags(LOG)
    # What was written before logging is the sender's first, full pass.
    guest.take_over(set(range(DATA_SIZE // SIZE_4K)))
    if setup.manual & 2:
        assert collect(guest, setup) == set(range(DATA_SIZE // SIZE_4K))
    guest.faults()
    for written in rounds:
        assert isinstance(guest.run(), Intr)
        assert guest.faults() == len(written)
        logged = collect(guest, setup)
        assert logged == written
        guest.take_over(logged)
        assert guest.copy == guest.memory
    assert not collect(guest, setup)


def collect(guest: Migration, setup: Setup) -> set[int]:
    bitmap = guest.vm.get_dirty_log(1)
    if setup.manual:
        guest.vm.clear_dirty_log(1, 0, DATA_SIZE // SIZE_4K, bitmap)
    return set(dirty_pages(bitmap))


@pytest.mark.parametrize("page_size", [SIZE_4K, SIZE_2M])
@pytest.mark.kvm_row(20)
def test_copy_from_a_ring_equals_memory_and_no_entry_is_lost(page_size: int) -> None:
    guest = Migration(Setup(ring=True, page_size=page_size))
    guest.set_flags(LOG)
    ring = guest.vcpu.dirty_ring
    assert ring is not None
    reader = RingReader(ring)
    deadline = guest.vcpu.pe.retired + ROUNDS * WRITES * len(SCATTER)
    entries = full = 0
    while (left := deadline - guest.vcpu.pe.retired) > 0:
        exit_ = guest.vcpu.run(left)
        assert guest.faults() == ring.used
        harvested = reader.harvest()
        if isinstance(exit_, DirtyRingFull):
            full += 1
            assert len(harvested) == RING_LIMIT
        assert {slot for slot, _ in harvested} == {1}
        assert len(set(harvested)) == len(harvested), "a page is there once until it is reset"
        assert guest.vm.reset_dirty_rings() == len(harvested)
        guest.take_over({page for _, page in harvested})
        entries += len(harvested)
    assert guest.copy == guest.memory
    assert entries >= len(set[int]().union(*pages_written(ROUNDS)))
    assert full == entries // RING_LIMIT > 1
    assert not any(guest.vm.get_dirty_log(1))


@pytest.mark.kvm_row(12)
@pytest.mark.kvm_row(11)
def test_blocks_are_split_while_logging_and_come_back_after_it() -> None:
    guest = Migration(Setup(page_size=SIZE_2M))
    guest.run()
    assert guest.faults() == 2, "one for each block"
    assert guest.vm.stats.pages_mapped[SIZE_2M] == 2
    guest.set_flags(LOG)
    _, second, third = pages_written(3)
    guest.run()
    assert guest.faults() == len(second)
    guest.set_flags(0)
    halves = {page // 512 for page in third if page not in second}
    guest.run()
    assert guest.faults() == len(halves), "the first new page of each half brings its block back"
    assert guest.vm.stats.pages_mapped[SIZE_2M] == 2 + len(halves)
    assert {guest.vm.pgt.get_leaf(IPA(DATA + half * SIZE_2M)).level for half in halves} == {2}


@pytest.mark.kvm_row(35)
@pytest.mark.parametrize("where", [0, DATA - SIZE_4K, DATA + DATA_SIZE, (1 << 40) - SIZE_4K])
def test_slots_that_come_and_go_beside_the_guests_memory_cost_it_no_fault(where: int) -> None:
    guest = Migration(Setup(page_size=SIZE_2M))
    guest.run()
    guest.faults()
    hva = guest.vm.host.mmap(SIZE_4K)
    for _ in range(10):
        guest.vm.set_user_memory_region(MemoryRegion(9, 0, IPA(where), SIZE_4K, hva))
        assert isinstance(guest.run(20), Intr)
        guest.vm.set_user_memory_region(MemoryRegion(9, 0, IPA(where), 0, hva))
        assert isinstance(guest.run(20), Intr)
    assert guest.faults() == 0


# --- the guest's own tables ------------------------------------------------------------------


def read(register: int, value: int) -> int:
    return a64.ldr(register, value)


def write(register: int, value: int) -> int:
    return a64.str_(register, value)


@pytest.mark.parametrize("hardware_af", [False, True])
@pytest.mark.parametrize(("access", "data"), [(read, []), (write, [0])])
@pytest.mark.kvm_row(23)
@pytest.mark.kvm_row(21)
def test_walker_that_sets_the_access_flag_dirties_the_table_and_no_other(
    access: Callable[[int, int], int], data: list[int], *, hardware_af: bool
) -> None:
    vm = VM(Machine(32 << 20, features=NEW_CPU))
    slots = {}
    for number, ipa in enumerate((CODE, DATA, TABLES)):
        slots[ipa] = vm.host.mmap(8 * SIZE_4K)
        flags = 0 if ipa == CODE else LOG
        vm.set_user_memory_region(MemoryRegion(number, flags, ipa, 8 * SIZE_4K, slots[ipa]))
    vm.host.write(slots[CODE], struct.pack("<4I", access(3, 1), *SYSTEM_OFF))
    image = bytearray(tables.identity_map(TABLES, [CODE, DATA]))
    # Levels 0, 1 and 2, the last level for CODE and then the one for DATA.
    assert len(image) == 5 * SIZE_4K
    at = 4 * SIZE_4K
    (entry,) = struct.unpack_from("<Q", image, at)
    assert entry & 1 << 10
    if hardware_af:
        struct.pack_into("<Q", image, at, entry & ~(1 << 10))
    vm.host.write(slots[TABLES], bytes(image))
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    registers: tuple[SystemRegister, ...] = (
        MAIR_EL1(tables.MAIR),
        TCR_EL1(tables.TCR).replace(HA=int(hardware_af)),
        TTBR0_EL1(tables.ttbr(TABLES)),
        SCTLR_EL1(tables.SCTLR),
    )
    for register in registers:
        vcpu.set_one_reg(one_reg.system(type(register).encoding), int(register))
    vcpu.set_one_reg(one_reg.PC, CODE)
    vcpu.set_one_reg(one_reg.core_x(1), DATA)
    walks: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, KvmGuestFault) and event.ipa >= TABLES:
            kind = "permission" if event.hsr >> 2 & 3 == 3 else "translation"
            walks.append(f"{kind} {(event.ipa - TABLES) // SIZE_4K}")

    vm.events.subscribe(note)
    assert isinstance(vcpu.run(), SystemEvent)
    updates = ["permission 4"] if hardware_af else []
    assert walks == [*(f"translation {page}" for page in range(5)), *updates]
    assert list(dirty_pages(vm.get_dirty_log(2))) == ([4] if hardware_af else [])
    assert list(dirty_pages(vm.get_dirty_log(1))) == data
    (entry,) = struct.unpack("<Q", vm.host.read(HVA(slots[TABLES] + at), 8))
    assert entry & 1 << 10
