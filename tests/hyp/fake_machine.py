"""A machine without a CPU: it presents the traps that a test lists, and records what EL2 does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from emu.arch.address import IPA, PA, VA
from emu.arch.esr.build import data_abort, instruction_abort, syndrome
from emu.arch.esr.fsc import FaultType, fsc
from emu.arch.esr.iss import IssDataAbort
from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.arch.fields import SystemRegister
from emu.arch.registers.exceptions import (
    ELR_EL2,
    ESR_EL2,
    FAR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    SPSR_EL2,
    Mode,
)
from emu.arch.registers.identification import (
    CTR_EL0,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
)
from emu.arch.registers.timer import (
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTPCT_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
)
from emu.cpu.pe import EL2Entry
from emu.memory import PhysicalMemory
from hyp.host import SIZE_4K
from hyp.load import kvm_arch_vcpu_load
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.esr.classes import ExceptionClass
    from emu.machine import Machine
    from hyp.events import Event
    from hyp.exits import Exit
    from hyp.host import HVA
    from hyp.vcpu import VCPU

R = TypeVar("R", bound=SystemRegister)

RAM_PA = PA(0x8_0000_0000)
RAM_SIZE = 64 << 20
RAM = IPA(0x4000_0000)
"""Where the guest's memory slot 0 is."""
HOLE = IPA(0x0B00_0000)

OLD_CPU = CORTEX_A72
NEW_CPU = CORTEX_A72.replace(
    ID_AA64MMFR1_EL1.build(HAFDBS=1, VMIDBits=2),
    ID_AA64MMFR2_EL1.build(FWB=1, TTL=1),
    ID_AA64ISAR0_EL1.build(TLB=2),
)
"""With FEAT_S2FWB, FEAT_TTL, FEAT_TLBIRANGE and 16-bit VMIDs."""
DIC_CPU = CORTEX_A72.replace(CORTEX_A72.read(CTR_EL0).replace(DIC=1))


@dataclass
class Trap:
    """One entry to EL2."""

    esr: int
    far: int = 0
    ipa: int | None = None
    """What HPFAR_EL2 is set to; ``None`` leaves it stale."""
    pc: int | None = None
    """``None`` keeps the PC where it is."""


class FakePE:
    """A PE that "runs" a list of traps."""

    def __init__(self, memory: PhysicalMemory, features: CpuFeatures, index: int) -> None:
        self.memory, self.features, self.index = memory, features, index
        self.retired = 0
        self.el2_vector: Callable[[], bool] | None = None
        self.registers: dict[type[SystemRegister], int] = {SPSR_EL2: int(Mode.EL1h)}
        self.x = [0] * 31
        self.q = [0] * 32
        self.guest: deque[Trap | EL2Entry | Callable[[], None]] = deque()
        self.log: list[tuple[Any, ...]] = []
        self.stage1: Callable[[VA], IPA | None] = IPA
        """What AT finds."""
        self.interrupting: tuple[bool, bool] = (False, False)
        self.probe = SimpleNamespace(taken=lambda *_: None)
        """Nobody watches."""

    def read(self, register: type[R]) -> R:
        value = self.registers.get(register, 0)
        if register is CNTV_CTL_EL0 and value & 1:
            fired = self.registers.get(CNTPCT_EL0, 0) >= self.registers.get(CNTV_CVAL_EL0, 0)
            return register(value | fired << 2)
        if register in self.registers:
            return register(value)
        return self.features.read(register)

    def write(self, value: SystemRegister) -> None:
        self.registers[type(value)] = int(value)

    def word(self, register: type[SystemRegister]) -> int:
        return int(self.read(register))

    def set_return(self, pc: int, pstate: int) -> None:
        self.registers[ELR_EL2], self.registers[SPSR_EL2] = pc, pstate

    def read_x(self, number: int) -> int:
        return 0 if number == 31 else self.x[number]

    def write_x(self, number: int, value: int) -> None:
        assert 0 <= value < 1 << 64
        if number != 31:
            self.x[number] = value

    def read_list(self, registers: tuple[type[SystemRegister], ...]) -> list[int]:
        return [int(self.read(register)) for register in registers]

    def write_list(self, registers: tuple[type[SystemRegister], ...], values: list[int]) -> None:
        for register, value in zip(registers, values, strict=True):
            self.write(register(value))

    def read_all_x(self) -> list[int]:
        return list(self.x)

    def write_all_x(self, values: list[int]) -> None:
        self.x[:] = values

    def read_all_q(self) -> list[int]:
        return list(self.q)

    def write_all_q(self, values: list[int]) -> None:
        self.q[:] = values

    def tlbi(self, operation: Any, argument: int = 0) -> None:  # noqa: ANN401  # an enum of four
        self.log.append((operation.name, int(argument)))

    def ic(self, operation: Any, pa: PA | None = None, size: int = 1) -> None:  # noqa: ANN401
        self.log.append((operation.name, pa, size))

    def dc(self, operation: Any, pa: PA | None = None, size: int = 1) -> None:  # noqa: ANN401
        self.log.append((operation.name, pa, size))

    def at(self, operation: Any, va: VA) -> None:  # noqa: ANN401
        self.log.append((operation.name, va))
        ipa = self.stage1(va)
        self.write(PAR_EL1(1) if ipa is None else PAR_EL1.build(PA=ipa >> 12))

    def wait_for_interrupt(self, *, virtual: bool) -> bool:
        assert not virtual, "the hypervisor waits for its own timer"
        assert self.read(CNTP_CTL_EL0) == 1
        self.write(CNTPCT_EL0(self.read(CNTP_CVAL_EL0)))
        return True

    def interrupt_on_timers(self, *, virtual: bool, physical: bool) -> None:
        self.interrupting = (virtual, physical)

    def run(self, budget: int) -> EL2Entry:
        assert budget > 0
        while self.guest:
            step = self.guest.popleft()
            if isinstance(step, EL2Entry):
                return step
            if callable(step):
                step()
                continue
            self.retired += 1
            self._enter_el2(step)
            if self.el2_vector is None or not self.el2_vector():
                return EL2Entry.TRAP
        self.retired += budget
        return EL2Entry.IRQ

    def _enter_el2(self, trap: Trap) -> None:
        self.write(ESR_EL2(trap.esr))
        self.write(FAR_EL2(trap.far))
        if trap.ipa is not None:
            self.write(HPFAR_EL2.build(FIPA=trap.ipa >> 12))
        if trap.pc is not None:
            self.write(ELR_EL2(trap.pc))

    def names(self) -> list[str]:
        """Return the names of the maintenance operations so far."""
        return [entry[0] for entry in self.log]


class FakeMachine:
    """Memory and PEs."""

    def __init__(
        self,
        memory_size: int = RAM_SIZE,
        pe_count: int = 1,
        features: CpuFeatures = OLD_CPU,
        memory: PhysicalMemory | None = None,
    ) -> None:
        self.memory = PhysicalMemory(RAM_PA, memory_size) if memory is None else memory
        self.features = features
        self.pes = [FakePE(self.memory, features, index) for index in range(pe_count)]
        self.el2_data: object = None

    def vm(self, ipa_bits: int = 40, **options: Any) -> VM:  # noqa: ANN401  # VM's own
        """Return a VM on this machine."""
        return VM(cast("Machine", self), ipa_bits, **options)


@dataclass
class Guest:
    """A VM with one vCPU, memory in slot 0, and all its events."""

    machine: FakeMachine
    vm: VM
    vcpu: VCPU
    hva: HVA
    events: list[Event] = field(default_factory=list)

    @property
    def pe(self) -> FakePE:
        return self.machine.pes[0]

    def run(self, *traps: Trap | EL2Entry | Callable[[], None], budget: int = 1000) -> Exit:
        """Run the vCPU with these traps to come."""
        self.pe.guest.extend(traps)
        return self.vcpu.run(budget)

    def add_slot(  # a slot has so many properties
        self,
        slot: int,
        ipa: int,
        size: int,
        flags: int = 0,
        page_size: int = SIZE_4K,
        hva: HVA | None = None,
    ) -> HVA:
        """Create a slot, with memory of its own unless ``hva`` says where."""
        if hva is None:
            hva = self.vm.host.mmap(size, page_size)
        self.vm.set_user_memory_region(MemoryRegion(slot, flags, IPA(ipa), size, hva))
        return hva

    def set_flags(self, flags: int) -> None:
        """Change the flags of slot 0."""
        slot = self.vm.memslots.by_id(0)
        assert slot is not None
        self.add_slot(0, slot.base_ipa, slot.size, flags, hva=slot.userspace_addr)

    def event_names(self) -> list[str]:
        return [event.name for event in self.events]


def make_guest(
    features: CpuFeatures = OLD_CPU,
    *,
    size: int = 8 << 20,
    page_size: int = SIZE_4K,
    flags: MemoryRegionFlags = MemoryRegionFlags(0),  # noqa: B008  # immutable
    pe_count: int = 1,
    ipa_bits: int = 40,
    memory_size: int = RAM_SIZE,
    profile: str = "2026",
) -> Guest:
    """Return a guest with its memory at ``RAM``."""
    machine = FakeMachine(memory_size, pe_count, features)
    vm = machine.vm(ipa_bits, profile=profile)
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    kvm_arch_vcpu_load(vcpu, vm.kvm.cpus[0])
    hva = vm.host.mmap(size, page_size)
    guest = Guest(machine, vm, vcpu, hva)
    vm.set_user_memory_region(MemoryRegion(0, flags, RAM, size, hva))
    vm.events.subscribe(guest.events.append)
    guest.pe.log.clear()
    return guest


# Traps, by what the guest did.

MOV_X5 = IssDataAbort.build(ISV=1, SAS=3, SRT=5, SF=1)
"""The syndrome of a 64-bit access with X5."""


def load(  # an abort has so many properties
    ipa: int,
    fault: FaultType = FaultType.TRANSLATION,
    level: int | None = 3,
    instruction: int = MOV_X5,
    far: int | None = None,
    **bits: bool,
) -> Trap:
    """Return the abort of a load; a permission fault leaves HPFAR_EL2 stale."""
    return _data(ipa, fault, level, instruction, far, write=False, **bits)


def store(  # an abort has so many properties
    ipa: int,
    fault: FaultType = FaultType.TRANSLATION,
    level: int | None = 3,
    instruction: int = MOV_X5,
    far: int | None = None,
    **bits: bool,
) -> Trap:
    """Return the abort of a store."""
    return _data(ipa, fault, level, instruction, far, write=True, **bits)


def _data(  # as above
    ipa: int,
    fault: FaultType,
    level: int | None,
    instruction: int,
    far: int | None,
    *,
    write: bool,
    **bits: bool,
) -> Trap:
    esr = data_abort(fsc(fault, level), same_el=False, write=write, instruction=instruction, **bits)
    stale = fault is FaultType.PERMISSION and not bits.get("S1PTW")
    return Trap(esr, ipa if far is None else far, None if stale else ipa)


def fetch(
    ipa: int,
    fault: FaultType = FaultType.TRANSLATION,
    level: int | None = 3,
    far: int | None = None,
    **bits: bool,
) -> Trap:
    """Return the abort of an instruction fetch."""
    esr = instruction_abort(fsc(fault, level), same_el=False, **bits)
    stale = fault is FaultType.PERMISSION and not bits.get("S1PTW")
    return Trap(esr, ipa if far is None else far, None if stale else ipa)


def trap(ec: ExceptionClass, iss: int = 0) -> Trap:
    """Return a trap that is no abort."""
    return Trap(syndrome(ec, iss))
