"""Several vCPUs, of one VM and of several, in turns on the PEs of a real machine."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.tlbi import TLBI
from emu.arch.address import IPA, VA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ELR_EL2, SPSR_EL2, Mode
from emu.arch.registers.timer import CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTTBR_EL2
from emu.machine import Machine
from hyp import one_reg
from hyp.context import CONTROLS, GUEST_REGISTERS
from hyp.exits import Intr, IntrCause
from hyp.host import HVA, SIZE_4K
from hyp.load import kvm_arch_vcpu_load
from hyp.memslots import MemoryRegion
from hyp.tlb import Stage2Tlb
from hyp.vm import VM
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from hyp.vcpu import VCPU

RAM: Final = IPA(0x4000_0000)
DATA: Final = IPA(RAM + SIZE_4K)
READ: Final = (a64.ldr(6, 1), a64.b(-4))
"""Reads memory at X1 into X6, again and again."""
WFI: Final = 0xD503_207F


class Box:
    """A VM with a few pages of memory."""

    def __init__(self, machine: Machine, *program: int, pages: int = 2, data: int = 0) -> None:
        self.vm = VM(machine)
        size = pages * SIZE_4K
        self.hva = self.vm.host.mmap(size)
        self.vm.set_user_memory_region(MemoryRegion(0, 0, RAM, size, self.hva))
        self.put(RAM, struct.pack(f"<{len(program)}I", *program))
        self.put(DATA, data.to_bytes(8, "little"))

    def put(self, ipa: int, data: bytes) -> None:
        self.vm.host.write(HVA(self.hva + ipa - RAM), data)

    def vcpu(self, index: int = 0) -> VCPU:
        """Return a vCPU at the start of the program, with the address of the data in X1."""
        vcpu = self.vm.create_vcpu(index)
        vcpu.init()
        vcpu.set_one_reg(one_reg.PC, RAM)
        vcpu.set_one_reg(one_reg.core_x(1), DATA)
        return vcpu


def read_once(vcpu: VCPU, cpu: int | None = None) -> int:
    """Let a vCPU run :data:`READ`; return what it has read."""
    assert vcpu.run(2, cpu=cpu) == Intr(IntrCause.BUDGET)
    return vcpu.get_one_reg(one_reg.core_x(6))


# --- VMIDs -----------------------------------------------------------------------------------

MEMORY: Final = 96 << 20
"""For that many VMs, each of which keeps spare pages for its tables."""
VMIDS: Final = (1 << CORTEX_A72.vmid_bits) - 1


def vms_that_read(machine: Machine, count: int) -> list[VCPU]:
    """Return vCPUs of different VMs, each with its number in memory."""
    return [Box(machine, *READ, data=number).vcpu() for number in range(count)]


@pytest.mark.kvm_row(54)
def test_more_vms_than_vmids_read_their_own_memory_with_one_flush_a_generation() -> None:
    machine = Machine(MEMORY)
    vcpus = vms_that_read(machine, VMIDS + 20)
    flushes = []
    for _ in range(2):
        assert [read_once(vcpu) for vcpu in vcpus] == list(range(len(vcpus)))
        flushes.append(machine.pes[0].maintenance[TLBI.ALLE1IS.name])
    assert flushes == [1, 2]


@pytest.mark.kvm_row(54)
def test_without_the_flush_a_vm_reads_anothers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage2Tlb, "flush_vm_context", lambda _: None)
    monkeypatch.setattr(Stage2Tlb, "flush_cpu_context", lambda _: None)
    vcpus = vms_that_read(Machine(MEMORY), VMIDS + 1)
    for vcpu in vcpus[:-1]:
        read_once(vcpu)
    assert read_once(vcpus[-1]) == 0, "the page of the first VM, whose VMID it has got"


@pytest.mark.kvm_row(54)
def test_a_vm_that_is_loaded_keeps_its_vmid_through_a_rollover() -> None:
    machine = Machine(MEMORY, pe_count=2)
    stays, *others = vms_that_read(machine, VMIDS + 20)
    read_once(stays, cpu=1)
    kept = machine.pes[1].read(VTTBR_EL2)
    for number, vcpu in enumerate(others, 1):
        assert read_once(vcpu, cpu=0) == number
        assert machine.pes[0].read(VTTBR_EL2).VMID != kept.VMID
    assert machine.pes[0].maintenance[TLBI.ALLE1IS.name] == 1
    assert read_once(stays, cpu=1) == 0
    assert machine.pes[1].read(VTTBR_EL2) == kept


# --- two vCPUs of one VM -----------------------------------------------------------------------

ASID: Final = 5
TABLES: Final = RAM + 4 * SIZE_4K
WHERE: Final = VA(0x40_0000)
NORMAL_USED: Final = 1 << 10 | 3 << 8 | 1 << 11
"""AF, inner shareable, nG: entries are tagged with the ASID. Attr0 is Normal memory."""


def with_tables(box: Box, index: int) -> VCPU:
    """Return a vCPU that maps the program at its IPA and a page of its own at WHERE."""
    level1 = TABLES + index * 4 * SIZE_4K
    low2, low3, ram2 = (level1 + n * SIZE_4K for n in (1, 2, 3))
    own = RAM + (2 + index) * SIZE_4K
    box.put(own, index.to_bytes(8, "little"))
    box.put(level1, struct.pack("<QQ", low2 | 3, ram2 | 3))
    box.put(low2 + 8 * (WHERE >> 21), struct.pack("<Q", low3 | 3))
    box.put(low3, struct.pack("<Q", own | NORMAL_USED | 3))
    box.put(ram2, struct.pack("<Q", RAM | NORMAL_USED | 1))
    vcpu = box.vcpu(index)
    vcpu.write(MAIR_EL1(0xFF))
    vcpu.write(TCR_EL1.build(T0SZ=25, EPD1=1, IRGN0=1, ORGN0=1, SH0=3))
    vcpu.write(TTBR0_EL1.build(ASID=ASID, BADDR=level1 >> 1))
    vcpu.write(vcpu.read(SCTLR_EL1).replace(M=1, C=1, I=1))
    vcpu.write_x(1, WHERE)
    return vcpu


@pytest.mark.kvm_row(53)
def test_two_vcpus_with_one_asid_never_read_each_others_page() -> None:
    box = Box(Machine(8 << 20), *READ, pages=16)
    vcpus = [with_tables(box, index) for index in range(2)]
    for _ in range(3):
        assert [read_once(vcpu, cpu=0) for vcpu in vcpus] == [0, 1]


@pytest.mark.kvm_row(53)
def test_without_the_flush_a_vcpu_reads_anothers_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage2Tlb, "flush_cpu_context", lambda _: None)
    box = Box(Machine(8 << 20), *READ, pages=16)
    vcpus = [with_tables(box, index) for index in range(2)]
    assert [read_once(vcpu, cpu=0) for vcpu in vcpus] == [0, 0]


def test_on_pes_of_their_own_two_vcpus_keep_their_entries() -> None:
    machine = Machine(8 << 20, pe_count=2)
    box = Box(machine, *READ, pages=16)
    vcpus = [with_tables(box, index) for index in range(2)]
    assert [read_once(vcpu) for vcpu in vcpus] == [0, 1]
    misses = [pe.mmu.misses for pe in machine.pes]
    assert [read_once(vcpu) for vcpu in vcpus] == [0, 1]
    assert [pe.mmu.misses for pe in machine.pes] == misses


# --- registers --------------------------------------------------------------------------------

_WORD = st.integers(0, (1 << 64) - 1)


def registers_of(pe: ProcessingElement) -> tuple[list[int], list[int], dict[str, int]]:
    """Return all of a vCPU's registers, each read by itself."""
    return (
        [pe.read_x(number) for number in range(31)],
        [pe.read_q(number) for number in range(32)],
        {register.__name__: int(pe.read(register)) for register in GUEST_REGISTERS + CONTROLS},
    )


@given(
    x=st.lists(_WORD, min_size=31, max_size=31),
    q=st.lists(st.integers(0, (1 << 128) - 1), min_size=32, max_size=32),
    system=st.lists(_WORD, min_size=len(GUEST_REGISTERS), max_size=len(GUEST_REGISTERS)),
    mode=st.sampled_from([Mode.EL0t, Mode.EL1t, Mode.EL1h]),
    others=st.sampled_from([Mode.EL0t, Mode.EL1t, Mode.EL1h]),
    vse=st.booleans(),
    cpu=st.integers(0, 1),
)
def test_a_world_switch_preserves_every_register(
    x: list[int],
    q: list[int],
    system: list[int],
    mode: Mode,
    others: Mode,
    vse: bool,  # by hypothesis
    cpu: int,
) -> None:
    machine = MACHINE
    ours, theirs = Box(machine).vcpu(), Box(machine, *[a64.add(0, 0, 1)] * 3).vcpu()
    cpus = ours.vm.kvm.cpus
    kvm_arch_vcpu_load(ours, cpus[0])
    pe = machine.pes[0]
    for register, value in zip(GUEST_REGISTERS, system, strict=True):
        pe.write(register(value))
    ours.debug.load()  # MDSCR_EL1 decides whose the breakpoints are
    pe.write(SPSR_EL2.build(M=mode))
    pe.write(pe.read(HCR_EL2).replace(VSE=vse))
    for number, value in enumerate(x):
        pe.write_x(number, value)
    for number, value in enumerate(q):
        pe.write_q(number, value)
    before = registers_of(pe)

    theirs.write(SPSR_EL2.build(M=others))
    theirs.write_x(0, 7)
    assert theirs.run(3, cpu=0) == Intr(IntrCause.BUDGET)
    kvm_arch_vcpu_load(ours, cpus[cpu])
    assert registers_of(machine.pes[cpu]) == before
    assert theirs.read_x(0) == 10
    assert theirs.read(ELR_EL2) == RAM + 12
    for vcpu in (ours, theirs):
        vcpu.vm.destroy()


MACHINE: Final = Machine(8 << 20, pe_count=2)


def test_vcpus_of_two_vms_take_turns_on_one_pe() -> None:
    machine = Machine(8 << 20)
    count = (a64.add(0, 0, 1), a64.b(-4))
    vcpus = [Box(machine, *count).vcpu() for _ in range(2)]
    for turn in range(1, 40):
        for vcpu in vcpus:
            assert vcpu.run(turn) == Intr(IntrCause.BUDGET)
    # 1 + ... + 39 instructions, every other one of which counts.
    assert [vcpu.read_x(0) for vcpu in vcpus] == [390, 390]


def test_a_vcpus_time_does_not_run_backwards_when_it_moves() -> None:
    box = Box(Machine(8 << 20, pe_count=2), a64.mrs(6, CNTVCT_EL0), a64.b(-4))
    vcpu = box.vcpu()
    seen = []
    for budget, cpu in ((5000, 0), (10, 1), (3000, 1), (10, 0), (10, 1)):
        vcpu.run(budget, cpu=cpu)
        seen.append(vcpu.read_x(6))
    assert seen == sorted(seen)
    assert seen[1] - seen[0] <= 1


def test_a_timer_goes_where_its_vcpu_goes_and_wakes_no_other() -> None:
    machine = Machine(8 << 20)
    timed, other = (Box(machine, WFI, WFI, a64.NOP, a64.NOP).vcpu() for _ in range(2))
    timed.write(CNTV_CVAL_EL0(5000))
    timed.write(CNTV_CTL_EL0.build(ENABLE=1))
    assert timed.run(1) == Intr(IntrCause.BUDGET)
    at = timed.get_one_reg(one_reg.PC)
    assert other.run(1) == Intr(IntrCause.WAITING)
    assert timed.get_one_reg(one_reg.PC) == at
    timed.run(1)
    assert machine.pes[0].read(CNTVCT_EL0) >= 5000
    assert machine.pes[0].read(CNTV_CTL_EL0).ISTATUS
