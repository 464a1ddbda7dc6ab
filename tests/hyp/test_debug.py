"""Debug of guests, by themselves and by user space, on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import IPA, PAGE_SHIFT, VA
from emu.arch.registers.debug import (
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGCLAIMSET_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDCCINT_EL1,
    MDCCSR_EL0,
    MDSCR_EL1,
    OSDLR_EL1,
    OSECCR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
    BreakpointControl,
    WatchpointControl,
)
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, SPSR_EL1, VBAR_EL1
from emu.arch.registers.virtualization import MDCR_EL2
from emu.machine import Machine
from hyp import one_reg
from hyp.capabilities import Cap
from hyp.debug import DebugOwner, GuestDebug, GuestDebugArch
from hyp.errors import Errno, KvmError
from hyp.exits import Debug, Exit, Intr, IntrCause, Mmio
from hyp.host import SIZE_4K
from hyp.memslots import MemoryRegion
from hyp.vm import VM
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU

RAM: Final = 0x4000_0000
VECTORS: Final = RAM + 0x800
DATA: Final = RAM + SIZE_4K
HOLE: Final = 0x0B00_0000
SYS64: Final = 0x18
BUDGET: Final = Intr(IntrCause.BUDGET)
STEP: Final = Debug(0xCA00_0022, 0, 0)
STEPPED: Final = Debug(0xCB00_0022, 0, 0)
BREAKPOINT: Final = Debug(0xC200_0022, 0, 0)
SINGLESTEP: Final = GuestDebug.ENABLE | GuestDebug.SINGLESTEP
HARDWARE: Final = GuestDebug.ENABLE | GuestDebug.USE_HW
BCR: Final = int(BreakpointControl.build(E=1, BAS=0xF, PMC=3))
WCR: Final = int(WatchpointControl.build(E=1, BAS=0xFF, PAC=3, LSC=3))


def guest(
    *words: int, machine: Machine | None = None, vm: VM | None = None, index: int = 0
) -> VCPU:
    """Return a vCPU at the start of a program, with vectors that are NOPs and a page of data."""
    if vm is None:
        vm = VM(Machine(4 << 20) if machine is None else machine)
        at = vm.host.mmap(2 * SIZE_4K)
        vm.set_user_memory_region(MemoryRegion(0, 0, IPA(RAM), 2 * SIZE_4K, at))
        code = b"".join(word.to_bytes(4, "little") for word in words)
        vm.host.write(at, code + a64.NOP.to_bytes(4, "little") * ((SIZE_4K - len(code)) // 4))
    vcpu = vm.create_vcpu(index)
    vcpu.init()
    write(vcpu, VBAR_EL1(VECTORS))
    vcpu.set_one_reg(one_reg.PC, RAM)
    return vcpu


def write(vcpu: VCPU, value: SystemRegister) -> None:
    """Write a register as user space does."""
    vcpu.set_one_reg(one_reg.system(value.encoding), value)


def read(vcpu: VCPU, register: type[SystemRegister]) -> int:
    """Read a register as user space does."""
    return vcpu.get_one_reg(one_reg.system(register.encoding))


def pc(vcpu: VCPU) -> int:
    """Return the guest's PC."""
    return vcpu.get_one_reg(one_reg.PC)


def set_x(vcpu: VCPU, **values: int) -> None:
    """Set general registers."""
    for name, value in values.items():
        vcpu.set_one_reg(one_reg.core_x(int(name[1:])), value)


# --- the guest's own debug -------------------------------------------------------------------


def test_first_access_traps_and_then_the_registers_are_the_guests() -> None:
    vcpu = guest(a64.msr(DBGBVR_EL1[0], 1), a64.mrs(2, DBGBVR_EL1[0]), a64.msr(MDSCR_EL1, 3))
    set_x(vcpu, x1=0x1234, x3=0x1000)
    owners = [vcpu.debug.owner]
    assert vcpu.run(3) == BUDGET
    owners.append(vcpu.debug.owner)
    assert vcpu.vm.stats.traps == {0x20: 1, SYS64: 1}
    assert owners == [DebugOwner.FREE, DebugOwner.GUEST]
    assert vcpu.get_one_reg(one_reg.core_x(2)) == 0x1234
    assert read(vcpu, DBGBVR_EL1[0]) == 0x1234
    assert read(vcpu, MDSCR_EL1) == 0x1000


def breakpoint_program() -> VCPU:
    """Return a guest that sets a breakpoint on its last NOP, and unmasks debug exceptions."""
    vcpu = guest(
        a64.msr(DBGBVR_EL1[0], 1),
        a64.msr(DBGBCR_EL1[0], 2),
        a64.msr(MDSCR_EL1, 3),
        0xD503_48FF,  # MSR DAIFClr, #8
        a64.NOP,
    )
    set_x(vcpu, x1=RAM + 16, x2=BCR, x3=MDSCR_EL1.build(MDE=1, KDE=1))
    return vcpu


def test_guest_meets_its_own_breakpoint() -> None:
    vcpu = breakpoint_program()
    assert vcpu.run(5) == BUDGET
    assert vcpu.read(ELR_EL1) == RAM + 16
    assert vcpu.read(ESR_EL1) == 0xC600_0022
    assert pc(vcpu) == VECTORS + 0x208, "the trapped MSR is not counted"


def test_breakpoints_move_with_the_vcpu() -> None:
    machine = Machine(4 << 20, pe_count=2)
    first = guest(a64.NOP, a64.NOP, a64.NOP, machine=machine)
    second = guest(vm=first.vm, index=1)
    for vcpu, at in ((first, RAM + 4), (second, RAM + 8)):
        vcpu.set_one_reg(one_reg.PSTATE, 0x1C5)
        write(vcpu, DBGBVR_EL1[1](at))
        write(vcpu, DBGBCR_EL1[1](BCR))
        write(vcpu, MDSCR_EL1.build(MDE=1, KDE=1))
    assert first.run(1, cpu=0) == BUDGET
    assert second.run(1, cpu=0) == BUDGET
    assert first.run(1, cpu=1) == BUDGET
    assert second.run(2, cpu=0) == BUDGET
    assert (first.read(ELR_EL1), second.read(ELR_EL1)) == (RAM + 4, RAM + 8)
    assert read(first, DBGBVR_EL1[1]) == RAM + 4


def test_vcpu_that_does_not_debug_does_not_see_anothers_registers() -> None:
    first = guest(a64.msr(DBGBVR_EL1[0], 1), a64.mrs(2, DBGBVR_EL1[0]))
    set_x(first, x1=0x1234)
    assert first.run(1) == BUDGET
    second = guest(vm=first.vm, index=1)
    second.set_one_reg(one_reg.PC, RAM + 4)
    assert second.run(1) == BUDGET
    assert second.get_one_reg(one_reg.core_x(2)) == 0
    assert read(first, DBGBVR_EL1[0]) == 0x1234


def test_registers_that_user_space_restores_while_the_vcpu_is_loaded_count() -> None:
    vcpu = guest(a64.NOP)
    vcpu.run(1)
    vcpu.set_one_reg(one_reg.PC, RAM)
    vcpu.set_one_reg(one_reg.PSTATE, 0x1C5)
    write(vcpu, DBGBVR_EL1[0](RAM))
    write(vcpu, DBGBCR_EL1[0](BCR))
    write(vcpu, MDSCR_EL1.build(MDE=1, KDE=1))
    vcpu.run(1)
    assert vcpu.read(ELR_EL1) == RAM
    write(vcpu, DBGBVR_EL1[0](RAM + 8))
    assert read(vcpu, DBGBVR_EL1[0]) == RAM + 8 == vcpu.pe.read(DBGBVR_EL1[0])


def test_registers_beyond_those_of_the_cpu_are_kept_for_user_space() -> None:
    vcpu = guest(a64.NOP)
    write(vcpu, MDSCR_EL1.build(MDE=1, KDE=1))
    for register in (DBGBVR_EL1[15], DBGWCR_EL1[7], DBGWVR_EL1[0]):
        write(vcpu, register(0x40))
    vcpu.run(1)
    for register in (DBGBVR_EL1[15], DBGWCR_EL1[7], DBGWVR_EL1[0]):
        assert read(vcpu, register) == 0x40
        assert one_reg.system(register.encoding) in one_reg.register_list(vcpu)
    write(vcpu, DBGBVR_EL1[15](0x80))
    assert read(vcpu, DBGBVR_EL1[15]) == 0x80


@pytest.mark.parametrize("register", [OSDLR_EL1, DBGCLAIMSET_EL1, MDCCSR_EL0])
def test_register_reads_as_zero_and_ignores_writes(register: type[SystemRegister]) -> None:
    vcpu = guest(a64.msr(register, 1), a64.mrs(2, register))
    set_x(vcpu, x1=1, x2=1)
    if register is MDCCSR_EL0:  # read-only
        vcpu.set_one_reg(one_reg.PC, RAM + 4)
    vcpu.run(2)
    assert vcpu.get_one_reg(one_reg.core_x(2)) == 0
    assert vcpu.read(ESR_EL1) == 0


def test_register_that_kvm_does_not_know_is_undefined() -> None:
    vcpu = guest(a64.mrs(1, OSECCR_EL1))
    vcpu.run(1)
    assert vcpu.read(ESR_EL1) == 0x0200_0000


def test_interrupt_enable_of_the_communications_channel_is_kept() -> None:
    vcpu = guest(a64.msr(MDCCINT_EL1, 1), a64.mrs(2, MDCCINT_EL1))
    set_x(vcpu, x1=1 << 30)
    vcpu.run(2)
    assert vcpu.get_one_reg(one_reg.core_x(2)) == 1 << 30 == read(vcpu, MDCCINT_EL1)


def test_reset_clears_the_registers() -> None:
    vcpu = breakpoint_program()
    write(vcpu, OSLSR_EL1(0b1010))
    vcpu.run(5)
    vcpu.init()
    for register in (DBGBVR_EL1[0], DBGBCR_EL1[0], MDSCR_EL1):
        assert read(vcpu, register) == 0
    assert read(vcpu, OSLSR_EL1) == 0b1000
    assert vcpu.pe.read(MDCR_EL2).TDA


# --- the OS lock ------------------------------------------------------------------------------


def test_os_lock_keeps_breakpoints_away_and_hides_that_from_the_guest() -> None:
    vcpu = guest(
        a64.msr(OSLAR_EL1, 4),
        a64.NOP,
        a64.mrs(5, MDSCR_EL1),
        a64.msr(MDSCR_EL1, 6),
        a64.msr(OSLAR_EL1, 7),
        a64.NOP,
    )
    set_x(vcpu, x4=1, x6=MDSCR_EL1.build(MDE=1, KDE=1, TDCC=1), x7=0)
    vcpu.set_one_reg(one_reg.PSTATE, 0x1C5)
    for number, at in ((0, RAM + 4), (1, RAM + 20)):
        write(vcpu, DBGBVR_EL1[number](at))
        write(vcpu, DBGBCR_EL1[number](BCR))
    write(vcpu, MDSCR_EL1.build(MDE=1, KDE=1))
    assert vcpu.run(1) == BUDGET, "trapped instructions are not counted"
    assert (pc(vcpu), read(vcpu, OSLSR_EL1)) == (RAM + 8, 0b1010)
    assert read(vcpu, MDSCR_EL1) == 0xA000
    assert vcpu.run(1) == BUDGET
    assert (vcpu.read(ELR_EL1), read(vcpu, OSLSR_EL1)) == (RAM + 20, 0b1000)
    assert vcpu.get_one_reg(one_reg.core_x(5)) == 0xA000
    assert read(vcpu, MDSCR_EL1) == 0xB000


def test_brk_is_taken_by_the_guest_while_the_os_lock_is_set() -> None:
    vcpu = guest(a64.brk(5))
    write(vcpu, OSLSR_EL1(0b1010))
    vcpu.run(1)
    assert vcpu.read(ESR_EL1) == 0xF200_0005


@pytest.mark.parametrize("value", [0, 0b0010, 0b1110, 0b1001])
def test_only_oslk_of_oslsr_can_be_written(value: int) -> None:
    vcpu = guest()
    with pytest.raises(KvmError, match="only OSLK") as caught:
        write(vcpu, OSLSR_EL1(value))
    assert caught.value.errno is Errno.EINVAL
    write(vcpu, OSLSR_EL1(0b1010))
    assert read(vcpu, OSLSR_EL1) == 0b1010


# --- user space debugs ------------------------------------------------------------------------


def steps(vcpu: VCPU, count: int) -> list[tuple[Exit, int]]:
    """Step and return each exit with the PC after it."""
    return [(vcpu.run(100), pc(vcpu)) for _ in range(count)]


def test_single_step_ends_after_each_instruction_even_a_trapped_one() -> None:
    vcpu = guest(
        a64.NOP,
        a64.msr(DBGBVR_EL1[0], 1),
        a64.mrs(2, DBGBVR_EL1[0]),
        a64.mrs(2, MDSCR_EL1),
        a64.b(8),
        a64.NOP,
        a64.hvc(0),
        a64.NOP,
    )
    set_x(vcpu, x0=0x8400_0000, x1=0x1238)
    vcpu.set_guest_debug(SINGLESTEP)
    places = [RAM + 4 * n for n in (1, 2, 3, 4, 6, 7, 8)]
    exits = [STEPPED, STEP, STEP, STEP, STEPPED, STEP, STEPPED]
    assert steps(vcpu, 7) == list(zip(exits, places, strict=True))
    assert vcpu.get_one_reg(one_reg.core_x(2)) == 0, "the guest does not see SS"
    assert vcpu.get_one_reg(one_reg.PSTATE) == 0x3C5, "user space does not see it either"
    assert read(vcpu, DBGBVR_EL1[0]) == 0x1238
    assert vcpu.get_one_reg(one_reg.core_x(0)) == 0x10003
    vcpu.set_guest_debug(GuestDebug(0))
    assert vcpu.run(2) == BUDGET
    assert vcpu.get_one_reg(one_reg.PSTATE) == 0x3C5


def test_single_step_over_an_access_that_user_space_serves() -> None:
    vcpu = guest(a64.ldr(1, 2), a64.NOP)
    set_x(vcpu, x2=HOLE)
    vcpu.set_guest_debug(SINGLESTEP)
    assert isinstance(vcpu.run(100), Mmio)
    vcpu.set_mmio_data(bytes(range(8)))
    assert steps(vcpu, 2) == [(STEP, RAM + 4), (STEPPED, RAM + 8)]
    assert vcpu.get_one_reg(one_reg.core_x(1)) == 0x0706_0504_0302_0100


def test_single_step_follows_the_guest_into_its_exception_handlers() -> None:
    vcpu = guest(a64.svc(1))
    vcpu.set_guest_debug(SINGLESTEP)
    assert [at for _, at in steps(vcpu, 2)] == [VECTORS + 0x200, VECTORS + 0x204]


def test_single_step_leaves_the_guests_own_step_alone() -> None:
    """The guest is about to step one instruction of EL0 when user space steps, too."""
    vcpu = guest(a64.msr(SPSR_EL1, 1), a64.ERET, a64.NOP, a64.NOP)
    set_x(vcpu, x1=1 << 21)
    vcpu.write(ELR_EL1(RAM + 8))
    write(vcpu, MDSCR_EL1.build(SS=1))
    vcpu.set_guest_debug(SINGLESTEP)
    assert [at for _, at in steps(vcpu, 1)] == [RAM + 4]
    assert read(vcpu, MDSCR_EL1) == 1
    vcpu.set_guest_debug(GuestDebug(0))
    assert vcpu.run(3) == BUDGET
    assert (vcpu.read(ELR_EL1), vcpu.read(ESR_EL1)) == (RAM + 12, 0xCB00_0022)


def test_step_that_is_interrupted_by_the_budget_is_still_pending() -> None:
    vcpu = guest(a64.NOP, a64.NOP)
    vcpu.set_guest_debug(SINGLESTEP)
    assert vcpu.run(1) == BUDGET
    assert steps(vcpu, 1) == [(STEPPED, RAM + 4)]


def test_breakpoint_of_user_space_comes_before_the_instruction() -> None:
    vcpu = guest(a64.NOP, a64.NOP, a64.mrs(3, DBGBVR_EL1[0]), a64.NOP)
    write(vcpu, DBGBVR_EL1[0](0x77))
    arch = GuestDebugArch(dbg_bvr=(0, RAM + 4), dbg_bcr=(0, BCR))
    vcpu.set_guest_debug(HARDWARE, arch)
    assert steps(vcpu, 2) == [(BREAKPOINT, RAM + 4)] * 2
    assert read(vcpu, DBGBVR_EL1[0]) == 0x77
    vcpu.set_one_reg(one_reg.PC, RAM + 8)
    assert vcpu.run(2) == BUDGET
    assert vcpu.get_one_reg(one_reg.core_x(3)) == 0x77, "the guest's own register"


def test_watchpoint_of_user_space_tells_the_address() -> None:
    vcpu = guest(a64.str_(1, 2, 0, 4), a64.str_(1, 2, 8, 4))
    set_x(vcpu, x2=DATA)
    vcpu.set_guest_debug(HARDWARE, GuestDebugArch(dbg_wvr=(DATA + 8,), dbg_wcr=(WCR,)))
    assert vcpu.run(100) == Debug(0xD200_0062, 0, DATA + 8)
    assert pc(vcpu) == RAM + 4


def test_brk_leaves_to_user_space_at_the_instruction() -> None:
    vcpu = guest(a64.NOP, a64.brk(9))
    vcpu.set_guest_debug(GuestDebug.ENABLE | GuestDebug.USE_SW_BP)
    assert vcpu.run(100) == Debug(0xF200_0009, 0, 0)
    assert pc(vcpu) == RAM + 4


def test_debugging_survives_a_reset_and_ends_when_it_is_disabled() -> None:
    vcpu = guest(a64.brk(9))
    vcpu.set_guest_debug(GuestDebug.ENABLE | GuestDebug.USE_SW_BP)
    vcpu.init()
    vcpu.set_one_reg(one_reg.PC, RAM)
    assert isinstance(vcpu.run(100), Debug)
    vcpu.set_guest_debug(GuestDebug.USE_SW_BP)
    write(vcpu, VBAR_EL1(VECTORS))
    assert vcpu.run(1) == BUDGET
    assert vcpu.read(ESR_EL1) == 0xF200_0009
    assert not vcpu.pe.read(MDCR_EL2).TDE


def test_unknown_flag_of_guest_debug_is_refused() -> None:
    vcpu = guest()
    with pytest.raises(KvmError, match="no bits 0x4") as caught:
        vcpu.set_guest_debug(5)
    assert caught.value.errno is Errno.EINVAL
    assert not vcpu.debug.control


@pytest.mark.parametrize(
    "arch", [GuestDebugArch(dbg_bvr=(0,) * 17), GuestDebugArch(dbg_wcr=(1 << 64,))]
)
def test_impossible_registers_of_guest_debug_are_refused(arch: GuestDebugArch) -> None:
    vcpu = guest()
    with pytest.raises(KvmError, match="at most 16 values") as caught:
        vcpu.set_guest_debug(HARDWARE, arch)
    assert caught.value.errno is Errno.EINVAL
    assert not vcpu.debug.control


def test_exit_is_shown_in_hexadecimal() -> None:
    assert repr(Debug(0xCA00_0022, 0, VA(16))) == "Debug(hsr=0xca000022, hsr_high=0x0, far=0x10)"


@pytest.mark.parametrize(
    ("cap", "value"),
    [(Cap.SET_GUEST_DEBUG, 1), (Cap.GUEST_DEBUG_HW_BPS, 6), (Cap.GUEST_DEBUG_HW_WPS, 4)],
)
def test_capabilities_of_guest_debug(cap: Cap, value: int) -> None:
    assert guest().vm.check_extension(cap) == value


# --- migration --------------------------------------------------------------------------------


def migrated(vcpu: VCPU) -> VCPU:
    """Return a vCPU of another machine with all that user space can read of this one."""
    box = guest()
    data = vcpu.vm.read_guest(IPA(RAM), 2 * SIZE_4K)
    slot = box.vm.memslots.find(RAM >> PAGE_SHIFT)
    assert data is not None
    assert slot is not None
    box.vm.host.write(slot.hva_of(RAM >> PAGE_SHIFT), data)
    for reg_id in one_reg.register_list(vcpu):
        box.set_one_reg(reg_id, vcpu.get_one_reg(reg_id))
    return box


def test_breakpoints_and_watchpoints_survive_a_migration() -> None:
    program = (a64.NOP, a64.NOP, a64.ldr(1, 2), 0xD503_48FF)
    vcpu = guest(*program)
    set_x(vcpu, x2=DATA)
    vcpu.set_one_reg(one_reg.PSTATE, 0x1C5)
    write(vcpu, DBGBVR_EL1[5](RAM + 4))
    write(vcpu, DBGBCR_EL1[5](BCR))
    write(vcpu, DBGWVR_EL1[3](DATA))
    write(vcpu, DBGWCR_EL1[3](WCR))
    write(vcpu, MDSCR_EL1.build(MDE=1, KDE=1))
    assert vcpu.run(1) == BUDGET
    there = migrated(vcpu)
    assert there.run(1) == BUDGET
    assert (there.read(ELR_EL1), there.read(ESR_EL1)) == (RAM + 4, 0xC600_0022)
    write(there, DBGBCR_EL1[5](0))
    there.set_one_reg(one_reg.PC, RAM + 4)
    there.set_one_reg(one_reg.PSTATE, 0x1C5)
    back = migrated(there)
    assert back.run(2) == BUDGET
    assert (back.read(ELR_EL1), back.read(ESR_EL1)) == (RAM + 8, 0xD600_0022)
