"""The hypervisor on the real machine: short programs, and what they lead to."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, FAR_EL1, VBAR_EL1
from emu.arch.registers.identification import (
    CTR_EL0,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
)
from emu.arch.registers.translation import TTBR0_EL1
from emu.machine import Machine
from hyp import one_reg
from hyp.dirty import dirty_pages
from hyp.errors import Errno
from hyp.exits import (
    Error,
    Exit,
    InternalError,
    InternalErrorCode,
    Intr,
    IntrCause,
    Mmio,
    SystemEvent,
    SystemEventType,
)
from hyp.host import HVA, SIZE_2M, SIZE_4K
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.stats import Resolution
from hyp.vm import VM
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from hyp.events import Event

RAM = IPA(0x4000_0000)
SIZE = 8 << 20
CODE = RAM
DATA = IPA(RAM + 0x10_0000)
HOLE = IPA(0x0B00_0000)
LOG, READONLY = MemoryRegionFlags.LOG_DIRTY_PAGES, MemoryRegionFlags.READONLY

DATA_ABORT, FETCH_ABORT = ExceptionClass.DABT_LOW, ExceptionClass.IABT_LOW
SYSTEM_OFF = [a64.movz(0, 0x8400, 16), a64.movk(0, 8), a64.hvc(0)]


class Box:
    """A VM that runs a few instructions."""

    def __init__(
        self,
        *program: int,
        flags: MemoryRegionFlags = MemoryRegionFlags(0),  # noqa: B008  # immutable
        page_size: int = SIZE_4K,
        features: CpuFeatures = CORTEX_A72,
    ) -> None:
        self.machine = Machine(32 << 20, features=features)
        self.vm = VM(self.machine)
        self.hva = self.vm.host.mmap(SIZE, page_size)
        region = MemoryRegion(0, flags & ~READONLY, RAM, SIZE, self.hva)
        self.vm.set_user_memory_region(region)
        self.vcpu = self.vm.create_vcpu(0)
        self.vcpu.init()
        self.events: list[Event] = []
        self.vm.events.subscribe(self.events.append)
        self.put(CODE, *program)
        self.vcpu.set_one_reg(one_reg.PC, CODE)
        self.vcpu.set_one_reg(one_reg.core_x(1), DATA)
        self.vcpu.set_one_reg(one_reg.core_x(2), HOLE)

    def put(self, ipa: int, *program: int) -> None:
        data = struct.pack(f"<{len(program)}I", *program)
        self.vm.host.write(HVA(self.hva + ipa - RAM), data)

    def x(self, number: int) -> int:
        return self.vcpu.get_one_reg(one_reg.core_x(number))

    def run(self, budget: int = 10_000) -> Exit:
        return self.vcpu.run(budget)

    def memory(self, ipa: int, size: int = 8) -> int:
        data = self.vm.host.read(HVA(self.hva + ipa - RAM), size)
        return int.from_bytes(data, "little")

    def count(self, ec: ExceptionClass, resolution: Resolution) -> int:
        aborts = self.vm.stats.aborts.items()
        return sum(n for (at, _, how), n in aborts if (at, how) == (ec, resolution))


def is_off(exit_: Exit) -> bool:
    return isinstance(exit_, SystemEvent) and exit_.type is SystemEventType.SHUTDOWN


@pytest.mark.kvm_row(2)
def test_first_touch_is_invisible_to_the_guest() -> None:
    box = Box(a64.movz(0, 42), a64.str_(0, 1), a64.ldr(6, 1), *SYSTEM_OFF)
    assert is_off(box.run())
    assert box.x(6) == 42
    assert box.memory(DATA) == 42
    assert box.count(DATA_ABORT, Resolution.MAPPED) == 1
    assert box.count(FETCH_ABORT, Resolution.MAPPED) == 1


def test_store_to_a_user_space_device_and_load_from_it() -> None:
    box = Box(a64.movz(0, 0x1234), a64.str_(0, 2, 16, 4), a64.ldrs(6, 2, 6, 2), *SYSTEM_OFF)
    assert box.run() == Mmio(IPA(HOLE + 16), b"\x34\x12\0\0", 4, True)
    assert box.run() == Mmio(IPA(HOLE + 6), b"\0\0", 2, False)
    box.vcpu.set_mmio_data(b"\x01\x80")
    assert is_off(box.run())
    assert box.x(6) == 0xFFFF_FFFF_FFFF_8001


@pytest.mark.kvm_row(27)
def test_abort_from_user_space_reaches_the_guests_vector() -> None:
    box = Box(a64.ldr(6, 2))
    box.vcpu.write(VBAR_EL1(RAM + 0x800))
    box.put(RAM + 0x800 + 0x200, *SYSTEM_OFF)
    assert isinstance(box.run(), Mmio)
    box.vcpu.set_vcpu_events(ext_dabt_pending=True)
    assert is_off(box.run())
    pe = box.machine.pes[0]
    assert pe.read(ESR_EL1).EC is ExceptionClass.DABT_CUR
    assert pe.read(ESR_EL1).ISS == FaultStatusCode.EXTERNAL
    assert int(pe.read(FAR_EL1)) == HOLE
    assert int(pe.read(ELR_EL1)) == CODE
    assert box.x(6) == 0


@pytest.mark.kvm_row(29)
def test_fetch_from_a_hole_reaches_the_guests_vector() -> None:
    box = Box(a64.br(2))
    box.vcpu.write(VBAR_EL1(RAM + 0x800))
    box.put(RAM + 0x800 + 0x200, *SYSTEM_OFF)
    assert is_off(box.run())
    pe = box.machine.pes[0]
    assert pe.read(ESR_EL1).EC is ExceptionClass.IABT_CUR
    assert int(pe.read(FAR_EL1)) == int(pe.read(ELR_EL1)) == HOLE


def test_guest_without_vectors_is_given_up_with_its_last_trap() -> None:
    exit_ = Box(a64.br(2)).run()
    assert isinstance(exit_, InternalError)
    assert exit_.suberror is InternalErrorCode.NO_PROGRESS
    assert "IABT_LOW" in exit_.message or "EC=0x20" in exit_.message


def test_pair_of_registers_at_a_device_fails_and_can_be_looked_at() -> None:
    box = Box(a64.stp(3, 4, 2))
    for _ in range(2):
        exit_ = box.run()
        assert isinstance(exit_, Error)
        assert exit_.errno is Errno.ENOSYS
        assert int(box.vcpu.pc) == CODE


def test_write_to_a_read_only_slot_exits_once_with_the_slots_address() -> None:
    rom = IPA(0x6000_0000)
    box = Box(a64.ldr(4, 5), a64.str_(0, 5, 8), a64.ldr(6, 5, 8), *SYSTEM_OFF)
    hva = box.vm.host.mmap(SIZE_4K)
    box.vm.host.write(hva, struct.pack("<QQ", 7, 8))
    box.vm.set_user_memory_region(MemoryRegion(1, READONLY, rom, SIZE_4K, hva))
    box.vcpu.set_one_reg(one_reg.core_x(5), rom)
    assert box.run() == Mmio(IPA(rom + 8), bytes(8), 8, True)
    assert is_off(box.run())
    assert (box.x(4), box.x(6)) == (7, 8)


@pytest.mark.kvm_row(5)
def test_lazy_execute_takes_two_faults_unless_the_icache_is_coherent() -> None:
    for features, faults in ((CORTEX_A72, 1), (_dic(), 0)):
        box = Box(a64.str_(0, 1), a64.br(1), features=features)
        box.vcpu.set_one_reg(one_reg.core_x(0), a64.hvc(0))
        assert isinstance(box.run(10), InternalError | Intr)
        assert box.count(FETCH_ABORT, Resolution.RELAXED) == faults


def _dic() -> CpuFeatures:
    return CORTEX_A72.replace(CORTEX_A72.read(CTR_EL0).replace(DIC=1))


def loop_of_writes(pages: int) -> list[int]:
    """Write to each of ``pages`` pages from X1 on, then power off."""
    return [
        a64.movz(3, pages),
        a64.str_(3, 1),
        a64.movz(4, 0x1000),
        0x8B04_0021,  # ADD X1, X1, X4
        a64.subs(3, 3, 1),
        a64.cbnz(3, -16),
        *SYSTEM_OFF,
    ]


def test_dirty_log_holds_every_page_written_and_no_other() -> None:
    box = Box(*loop_of_writes(20), flags=LOG)
    box.vm.get_dirty_log(0)
    assert is_off(box.run())
    first = (DATA - RAM) // SIZE_4K
    assert list(dirty_pages(box.vm.get_dirty_log(0))) == list(range(first, first + 20))
    assert not any(box.vm.get_dirty_log(0))


def test_write_after_the_log_was_taken_is_seen_again() -> None:
    box = Box(a64.str_(1, 1), a64.str_(0, 2), a64.str_(1, 1), *SYSTEM_OFF, flags=LOG)
    assert isinstance(box.run(), Mmio)
    page = (DATA - RAM) // SIZE_4K
    assert page in dirty_pages(box.vm.get_dirty_log(0))
    assert is_off(box.run())
    assert list(dirty_pages(box.vm.get_dirty_log(0))) == [page]
    assert box.count(DATA_ABORT, Resolution.RELAXED) == 1


@pytest.mark.parametrize("fwb", [0, 1])
def test_two_megabyte_pages_take_one_fault_each(fwb: int) -> None:
    features = CORTEX_A72.replace(ID_AA64MMFR2_EL1.build(FWB=fwb))
    box = Box(*loop_of_writes(512), page_size=SIZE_2M, features=features)
    box.vcpu.set_one_reg(one_reg.core_x(1), RAM + SIZE_2M)
    assert is_off(box.run())
    assert box.count(DATA_ABORT, Resolution.MAPPED) == 1
    assert box.vm.stats.pages_mapped == {SIZE_2M: 2}


@pytest.mark.kvm_row(12)
def test_logging_splits_a_block_that_the_guest_is_using() -> None:
    box = Box(a64.str_(1, 1), a64.str_(0, 2), a64.str_(1, 1), *SYSTEM_OFF, page_size=SIZE_2M)
    assert isinstance(box.run(), Mmio)
    region = MemoryRegion(0, LOG, RAM, SIZE, box.hva)
    box.vm.set_user_memory_region(region)
    assert is_off(box.run())
    assert list(dirty_pages(box.vm.get_dirty_log(0))) == [(DATA - RAM) // SIZE_4K]


def test_deleted_slot_is_a_hole_at_once() -> None:
    box = Box(a64.ldr(6, 5), a64.str_(0, 2), a64.ldr(6, 5), *SYSTEM_OFF)
    extra = IPA(0x6000_0000)
    hva = box.vm.host.mmap(SIZE_4K)
    box.vm.set_user_memory_region(MemoryRegion(1, 0, extra, SIZE_4K, hva))
    box.vcpu.set_one_reg(one_reg.core_x(5), extra)
    assert box.run() == Mmio(HOLE, bytes(8), 8, True)
    box.vm.set_user_memory_region(MemoryRegion(1, 0, extra, 0, HVA(0)))
    assert box.run() == Mmio(extra, bytes(8), 8, False)


def test_budget_ends_a_loop_exactly() -> None:
    box = Box(a64.b(0))
    assert box.run(12_345) == Intr(IntrCause.BUDGET)
    assert box.machine.pes[0].retired == 12_345


def test_id_register_is_the_hypervisors_answer() -> None:
    box = Box(a64.mrs(6, ID_AA64PFR0_EL1), *SYSTEM_OFF)
    assert is_off(box.run())
    assert ID_AA64PFR0_EL1(box.x(6)).EL2 == 0
    assert box.machine.pes[0].read(ID_AA64PFR0_EL1).EL2 != 0


def test_write_to_a_translation_register_is_let_through() -> None:
    box = Box(a64.msr(TTBR0_EL1, 1), *SYSTEM_OFF)
    assert is_off(box.run())
    assert int(box.machine.pes[0].read(TTBR0_EL1)) == DATA
    assert "kvm_toggle_cache" in [event.name for event in box.events]


def test_equal_runs_give_equal_events() -> None:
    def trace() -> list[str]:
        box = Box(*loop_of_writes(5), flags=LOG)
        box.run()
        return [f"{event.time} {event}" for event in box.events]

    assert trace() == trace()


RANGE_OPERATIONS = CORTEX_A72.replace(
    ID_AA64MMFR2_EL1.build(FWB=1, TTL=1), ID_AA64ISAR0_EL1.build(TLB=2)
)


@pytest.mark.parametrize("features", [CORTEX_A72, RANGE_OPERATIONS], ids=["by leaf", "by range"])
@pytest.mark.parametrize("unmapped", [0, 5, 511])
@pytest.mark.kvm_row(50)
def test_no_page_of_a_block_is_used_after_part_of_it_was_unmapped(
    features: CpuFeatures, unmapped: int
) -> None:
    block = IPA(RAM + SIZE_2M)
    far = 0x3000
    touch = [a64.ldr(6, 1), a64.ldr(7, 8)]
    box = Box(*touch, a64.str_(0, 2), *touch, *SYSTEM_OFF, page_size=SIZE_2M, features=features)
    box.vcpu.set_one_reg(one_reg.core_x(1), block)
    box.vcpu.set_one_reg(one_reg.core_x(8), block + far)
    assert isinstance(box.run(), Mmio)
    assert box.count(DATA_ABORT, Resolution.MAPPED) == 1
    box.vm.pgt.unmap(IPA(block + unmapped * SIZE_4K), SIZE_4K)
    box.events.clear()
    assert is_off(box.run())
    faults = [event for event in box.events if event.name == "kvm_guest_fault"]
    assert len(faults) == 1, "the block is mapped anew, by the first access to it"
