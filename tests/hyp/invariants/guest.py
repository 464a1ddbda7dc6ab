"""A guest that does one access when it is told to, on a vCPU of a real machine.

A few instructions lie in a slot of their own. An access is one of them, run by itself, so
that its outcome is that of the access. Stage 1 is off.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA
from emu.arch.registers.exceptions import SPSR_EL2, VBAR_EL1, Mode
from hyp import one_reg
from hyp.capabilities import Cap
from hyp.errors import Errno, KvmError
from hyp.exits import ArmNisv, DirtyRingFull, Error, Exit, Intr, IntrCause, Mmio, Sigbus
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import VM
from tests.emu.cpu import a64
from tests.hyp.invariants.model import PAGE, Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.machine import Machine
    from hyp.host import HostMemory
    from hyp.vcpu import VCPU
    from tests.hyp.invariants.model import Slot

CODE: Final = IPA(0x1000_0000)
CODE_SLOT: Final = 0
VECTORS: Final = 0x800
WORD: Final = 8
ANSWER: Final = 0x5EED_0000_0000_0000
"""What user space answers to a read at an address without memory, the address added."""

READ_AT, WRITE_AT, ATOMIC_AT, BURST_AT, FETCH_AT = 0, 8, 0x10, 0x24, 0x38
PROGRAM: Final = (
    a64.ldr(3, 1),
    a64.b(0),
    a64.str_(2, 1),
    a64.b(0),
    a64.ldxr(3, 1),
    a64.add(4, 3, 1),
    a64.stxr(5, 4, 1),
    a64.cbnz(5, -12),
    a64.b(0),
    a64.str_(2, 1),
    a64.add(1, 1, 1) | 1 << 22,  # a page further
    a64.subs(6, 6, 1),
    a64.cbnz(6, -12),
    a64.b(0),
    0xD508_711F,  # IC IALLUIS
    a64.ISB,
    a64.b(0),
)
BURST_LENGTH: Final = 4
"""Instructions for each page."""


def code(number: int) -> bytes:
    """Return what sets x3 to a number when it is executed."""
    return struct.pack("<2I", a64.movz(3, number), a64.b(0))


def number_of(word: bytes) -> int | None:
    """Return the number that a word sets x3 to; ``None`` if it is not such an instruction."""
    instruction = struct.unpack("<I", word[:4])[0]
    number = instruction >> 5 & 0xFFFF
    return number if instruction == a64.movz(3, number) else None


class Setup(NamedTuple):
    """What is chosen when a VM is made.

    A ring comes with a bitmap: a slot without one is not logged to ``memslot_is_logging``.
    """

    profile: str = "2026"
    manual: int = 0
    ring: bool = False
    chunk: int = 0


@dataclass
class Done:
    """What an access came to, and what was read."""

    outcome: Outcome
    value: int = 0


class Guest:
    """A VM with some vCPUs and nothing but the slot with the program."""

    def __init__(
        self, machine: Machine, host: HostMemory, program: HVA, setup: Setup, vcpus: int
    ) -> None:
        self.setup = setup
        self.vm = vm = VM(machine, host=host, profile=setup.profile)
        vm.enable_cap(Cap.MANUAL_DIRTY_LOG_PROTECT2, setup.manual)
        if setup.chunk:
            vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, setup.chunk)
        if setup.ring:
            vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, PAGE)
            vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
        for index in range(vcpus):
            vm.create_vcpu(index).init()
        region = MemoryRegion(CODE_SLOT, 0, CODE, PAGE, program)
        vm.set_user_memory_region(region)
        self.on_full: Callable[[], None] = lambda: None

    @property
    def old(self) -> bool:
        """Whether it is KVM of 2012."""
        return self.setup.profile == "2012"

    def set_slot(self, slot: Slot, *, delete: bool = False) -> None:
        """Create or change a slot, or delete it."""
        flags = MemoryRegionFlags.READONLY if slot.readonly else MemoryRegionFlags(0)
        if slot.logging:
            flags |= MemoryRegionFlags.LOG_DIRTY_PAGES
        size = 0 if delete else slot.npages * PAGE
        ipa, hva = IPA(slot.gfn * PAGE), HVA(slot.area.hva(slot.first))
        self.vm.set_user_memory_region(MemoryRegion(slot.number, flags, ipa, size, hva))

    # --- accesses ------------------------------------------------------------------------

    def access(self, index: int, kind: Kind, ipa: int, value: int = 0) -> Done:
        """Do one access on a vCPU.

        Parameters
        ----------
        index
            The vCPU.
        kind, ipa
            The access, of eight bytes. ATOMIC adds one.
        value
            What WRITE stores.
        """
        vcpu = self.vm.vcpus[index]
        at = {Kind.READ: READ_AT, Kind.WRITE: WRITE_AT, Kind.ATOMIC: ATOMIC_AT}.get(kind)
        pc = ipa if at is None else CODE + at
        exit_ = self._run(vcpu, pc, {1: ipa, 2: value, 3: 0}, 30 if kind is Kind.ATOMIC else 1)
        if isinstance(exit_, Mmio):
            assert kind is not Kind.EXEC
            assert (exit_.phys_addr, exit_.len) == (ipa, WORD)
            assert exit_.is_write == kind.writes
            if exit_.is_write:
                assert exit_.value == value
            else:
                vcpu.set_mmio_data((ANSWER + ipa).to_bytes(WORD, "little"))
            assert vcpu.run(1) == Intr(IntrCause.BUDGET)
            if not exit_.is_write:
                assert self._x3(vcpu) == ANSWER + ipa
            return Done(Outcome.MMIO)
        return Done(self._outcome(vcpu, exit_), self._x3(vcpu))

    def burst(self, index: int, ipa: int, npages: int, value: int) -> Outcome:
        """Write a word to each of many pages."""
        vcpu = self.vm.vcpus[index]
        registers = {1: ipa, 2: value, 6: npages}
        exit_ = self._run(vcpu, CODE + BURST_AT, registers, BURST_LENGTH * npages)
        return self._outcome(vcpu, exit_)

    def fetch_afresh(self, index: int) -> None:
        """Have the guest invalidate its instruction caches."""
        exit_ = self._run(self.vm.vcpus[index], CODE + FETCH_AT, {}, 2)
        assert exit_ == Intr(IntrCause.BUDGET)

    def _run(self, vcpu: VCPU, pc: int, registers: dict[int, int], budget: int) -> Exit:
        # VMs share PEs, and here whatever register is not set each time.
        vcpu.write(VBAR_EL1(CODE + VECTORS))
        vcpu.write(SPSR_EL2.build(M=Mode.EL1h, D=1, A=1, I=1, F=1))
        vcpu.set_one_reg(one_reg.PC, pc)
        for number, value in registers.items():
            vcpu.set_one_reg(one_reg.core_x(number), value)
        deadline = vcpu.pe.retired + budget
        while True:
            left = deadline - vcpu.pe.retired
            exit_ = vcpu.run(left)
            if not isinstance(exit_, DirtyRingFull):
                return exit_
            self.on_full()
            if vcpu.pe.retired == deadline:
                return Intr(IntrCause.BUDGET)

    @staticmethod
    def _x3(vcpu: VCPU) -> int:
        return vcpu.get_one_reg(one_reg.core_x(3))

    @staticmethod
    def _outcome(vcpu: VCPU, exit_: Exit) -> Outcome:
        match exit_:
            case Sigbus():
                return Outcome.SIGBUS
            case Intr(IntrCause.USERFAULT):
                return Outcome.BLOCKED
            case Intr(IntrCause.BUDGET):
                in_vectors = CODE + VECTORS <= vcpu.pc < CODE + PAGE
                return Outcome.ABORT if in_vectors else Outcome.DONE
            case ArmNisv() | Error(Errno.ENOSYS):
                return Outcome.NO_SYNDROME
            case Error(Errno.EFAULT):
                return Outcome.EFAULT
            case _:
                raise AssertionError(f"the access ended in {exit_}")


def refused(action: Callable[[], object]) -> bool:
    """Do what the host may refuse, as it is then; return whether it did."""
    try:
        action()
    except KvmError:
        return True
    return False
