"""Trapped instructions: waits, system registers, and what nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.a64.maintenance import DC
from emu.arch.esr.build import system_register_trap, wait_trap
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.iss import TrappedWait
from emu.arch.fields import Encoding
from emu.arch.registers.control import ACTLR_EL1
from emu.arch.registers.debug import MDSCR_EL1
from emu.arch.registers.exceptions import ELR_EL1, ELR_EL2, ESR_EL1
from emu.arch.registers.identification import (
    CCSIDR_EL1,
    CLIDR_EL1,
    CSSELR_EL1,
    CTR_EL0,
    ID_AA64MMFR0_EL1,
    ID_AA64PFR0_EL1,
    REVIDR_EL1,
)
from emu.arch.registers.timer import (
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTPCTSS_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTVCT_EL0,
)
from emu.arch.registers.translation import SCTLR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.exits import Intr, IntrCause
from tests.hyp.fake_machine import HOLE, NEW_CPU, RAM, Guest, Trap, load, make_guest, trap

if TYPE_CHECKING:
    from collections.abc import Iterable

PC = 0x4000_0100
MASK64 = (1 << 64) - 1
OSLAR, OSLSR = Encoding(2, 0, 1, 0, 4), Encoding(2, 0, 1, 1, 4)


@pytest.fixture
def guest() -> Guest:
    guest = make_guest()
    guest.pe.write(ELR_EL2(PC))
    return guest


def mrs(guest: Guest, encoding: Encoding) -> int:
    """Trap an MRS of X5; return the value read."""
    pc = guest.vcpu.pc
    guest.pe.x[5] = 0xDEAD
    guest.run(Trap(system_register_trap(encoding, rt=5, read=True)))
    assert guest.vcpu.pc == pc + 4, "undefined"
    return guest.pe.x[5]


def msr(guest: Guest, encoding: Encoding, value: int) -> None:
    """Trap an MSR of X5."""
    pc = guest.vcpu.pc
    guest.pe.x[5] = value
    guest.run(Trap(system_register_trap(encoding, rt=5, read=False)))
    assert guest.vcpu.pc == pc + 4, "undefined"


def is_undefined(guest: Guest, encoding: Encoding, *, read: bool) -> bool:
    guest.run(Trap(system_register_trap(encoding, rt=5, read=read)))
    return guest.pe.read(ESR_EL1).EC is ExceptionClass.UNKNOWN and guest.pe.read(ELR_EL1) == PC


# --- waits and unknown classes -----------------------------------------------------------


@pytest.mark.parametrize("instruction", list(TrappedWait))
def test_wait_is_stepped_over_and_traced(guest: Guest, instruction: TrappedWait) -> None:
    guest.pe.write(CNTV_CVAL_EL0(1500))
    guest.pe.write(CNTV_CTL_EL0.build(ENABLE=1))
    assert guest.run(Trap(wait_trap(instruction))) == Intr(IntrCause.BUDGET)
    assert guest.vcpu.pc == PC + 4
    (event,) = [event for event in guest.events if event.name == "kvm_wfx_arm64"]
    letter = "e" if instruction in (TrappedWait.WFE, TrappedWait.WFET) else "i"
    assert event.text() == f"guest executed wf{letter} at: 0x{PC:016x}"


def test_wait_for_nothing_ends_the_run_after_the_instruction(guest: Guest) -> None:
    assert guest.run(Trap(wait_trap(TrappedWait.WFI))) == Intr(IntrCause.WAITING)
    assert guest.vcpu.pc == PC + 4


def test_wait_ends_when_the_emulated_timer_fires(guest: Guest) -> None:
    msr(guest, CNTP_CVAL_EL0.encoding, 1500)
    msr(guest, CNTP_CTL_EL0.encoding, 1)
    assert guest.run(Trap(wait_trap(TrappedWait.WFI))) == Intr(IntrCause.BUDGET)
    assert guest.pe.read(CNTPCT_EL0) == 1500
    assert guest.pe.read(CNTP_CTL_EL0) == 0, "the host's timer is off again"


@pytest.mark.parametrize("ec", [0x07, 0x19, 0x3F, 0x2D])
def test_unknown_class_is_undefined_for_the_guest(guest: Guest, ec: int) -> None:
    guest.run(Trap(ec << 26 | 1 << 25))
    assert guest.pe.read(ESR_EL1) == 1 << 25
    assert guest.pe.read(ELR_EL1) == PC
    assert guest.vm.stats.traps == {ec: 1}


# --- system registers --------------------------------------------------------------------


def test_unknown_register_is_undefined(guest: Guest) -> None:
    assert is_undefined(guest, Encoding(3, 3, 11, 0, 0), read=True)
    assert "kvm_handle_sys_reg" in guest.event_names()
    assert "kvm_sys_access" not in guest.event_names()


@pytest.mark.parametrize(
    ("encoding", "read"), [(OSLAR, True), (OSLSR, False), (ID_AA64PFR0_EL1.encoding, False)]
)
def test_access_in_the_wrong_direction_is_undefined(
    guest: Guest, encoding: Encoding, read: bool
) -> None:
    assert is_undefined(guest, encoding, read=read)


def test_access_is_traced_with_name_and_direction(guest: Guest) -> None:
    msr(guest, OSLAR, 1)
    texts = [str(event) for event in guest.events if "sys" in event.name]
    assert texts[0].startswith("kvm_handle_sys_reg: HSR 0x62")
    assert texts[1] == f"kvm_sys_access: PC: {PC:x} OSLAR_EL1 (2,0,1,0,4) write"


def test_id_register_hides_what_the_guest_does_not_get(guest: Guest) -> None:
    host = guest.pe.read(ID_AA64PFR0_EL1)
    assert host.EL2
    shown = ID_AA64PFR0_EL1(mrs(guest, ID_AA64PFR0_EL1.encoding))
    assert shown.EL2 == 0
    assert shown.EL1 == host.EL1
    mmfr0 = mrs(guest, ID_AA64MMFR0_EL1.encoding)
    assert mmfr0 == guest.pe.read(ID_AA64MMFR0_EL1)


def test_unallocated_id_registers_read_as_zero(guest: Guest) -> None:
    assert mrs(guest, Encoding(3, 0, 0, 3, 7)) == 0
    assert "ID_UNALLOCATED(3,7)" in str(guest.events[-5:])


@pytest.mark.parametrize("encoding", [REVIDR_EL1.encoding, Encoding(3, 1, 0, 0, 7)])
def test_implementation_id_registers_read_as_zero(guest: Guest, encoding: Encoding) -> None:
    assert mrs(guest, encoding) == 0


def test_os_lock(guest: Guest) -> None:
    assert mrs(guest, OSLSR) == 0b1000
    msr(guest, OSLAR, 1)
    assert mrs(guest, OSLSR) == 0b1010
    guest.vcpu.init()
    assert mrs(guest, OSLSR) == 0b1000


@pytest.mark.parametrize(
    "encoding", [Encoding(2, 0, 1, 3, 4), Encoding(2, 0, 1, 4, 4), ACTLR_EL1.encoding]
)
def test_register_without_effect_reads_as_zero_and_ignores_writes(
    guest: Guest, encoding: Encoding
) -> None:
    msr(guest, encoding, MASK64)
    assert mrs(guest, encoding) == 0


def test_debug_control_is_the_pes_own(guest: Guest) -> None:
    msr(guest, MDSCR_EL1.encoding, 0x1000)
    assert mrs(guest, MDSCR_EL1.encoding) == 0x1000
    assert guest.pe.read(MDSCR_EL1) == 0x1000


def test_cache_identification(guest: Guest) -> None:
    assert mrs(guest, CTR_EL0.encoding) == guest.pe.read(CTR_EL0)
    assert mrs(guest, CLIDR_EL1.encoding) == guest.pe.read(CLIDR_EL1)
    msr(guest, CSSELR_EL1.encoding, 0b0101)
    assert mrs(guest, CSSELR_EL1.encoding) == 0b0101
    described = CCSIDR_EL1(mrs(guest, CCSIDR_EL1.encoding))
    assert (described.NumSets, described.Associativity) == (0, 0)
    assert 16 << described.LineSize == 64


def test_zero_register_is_read_as_zero_and_never_written(guest: Guest) -> None:
    guest.run(Trap(system_register_trap(CTR_EL0.encoding, rt=31, read=True)))
    assert guest.pe.x == [0] * 31


# --- the physical timer ------------------------------------------------------------------


def set_count(guest: Guest, count: int) -> None:
    guest.pe.write(CNTPCT_EL0(count))


def test_timer_compares_with_the_count(guest: Guest) -> None:
    set_count(guest, 1000)
    msr(guest, CNTP_CVAL_EL0.encoding, 1500)
    msr(guest, CNTP_CTL_EL0.encoding, 1)
    assert mrs(guest, CNTP_CTL_EL0.encoding) == 0b001
    assert mrs(guest, CNTP_TVAL_EL0.encoding) == 500
    set_count(guest, 1500)
    assert mrs(guest, CNTP_CTL_EL0.encoding) == 0b101
    assert mrs(guest, CNTP_CVAL_EL0.encoding) == 1500
    assert mrs(guest, CNTPCT_EL0.encoding) == mrs(guest, CNTPCTSS_EL0.encoding) == 1500


def test_timer_that_is_off_never_fires(guest: Guest) -> None:
    set_count(guest, 1000)
    msr(guest, CNTP_CTL_EL0.encoding, 0b110)
    assert mrs(guest, CNTP_CTL_EL0.encoding) == 0b010


@pytest.mark.parametrize(
    ("written", "compare"), [(100, 1100), (0xFFFF_FFFF, 999), (1 << 32 | 5, 1005)]
)
def test_timer_value_is_signed_and_relative(guest: Guest, written: int, compare: int) -> None:
    set_count(guest, 1000)
    msr(guest, CNTP_TVAL_EL0.encoding, written)
    assert mrs(guest, CNTP_CVAL_EL0.encoding) == compare


def test_timer_value_before_the_count_is_negative(guest: Guest) -> None:
    set_count(guest, 1000)
    assert mrs(guest, CNTP_TVAL_EL0.encoding) == -1000 & 0xFFFF_FFFF


def test_virtual_count_is_not_emulated(guest: Guest) -> None:
    assert is_undefined(guest, CNTVCT_EL0.encoding, read=True)


# --- caches ------------------------------------------------------------------------------

MMU_AND_CACHES = int(SCTLR_EL1.build(M=1, C=1))


def cleaned(log: Iterable[tuple[object, ...]]) -> int:
    return sum(1 for entry in log if entry[0] == "CIVAC")


@pytest.mark.kvm_row(55)
def test_turning_the_caches_on_cleans_memory_and_ends_the_trapping(guest: Guest) -> None:
    guest.run(load(RAM))
    guest.pe.log.clear()
    assert guest.pe.read(HCR_EL2).TVM
    msr(guest, TTBR0_EL1.encoding, 0x4000_0000)
    assert guest.pe.read(TTBR0_EL1) == 0x4000_0000
    assert cleaned(guest.pe.log) == 0
    assert guest.pe.read(HCR_EL2).TVM
    msr(guest, SCTLR_EL1.encoding, MMU_AND_CACHES)
    assert guest.pe.read(SCTLR_EL1) == MMU_AND_CACHES
    assert cleaned(guest.pe.log) == 1
    assert not guest.pe.read(HCR_EL2).TVM
    texts = [event.text() for event in guest.events if event.name == "kvm_toggle_cache"]
    assert [text.partition("(")[2] for text in texts] == [
        "cache was off, now off)",
        "cache was off, now on)",
    ]


def test_register_that_tvm_traps_can_be_read(guest: Guest) -> None:
    guest.pe.write(TTBR0_EL1(0x1234_0000))
    assert mrs(guest, TTBR0_EL1.encoding) == 0x1234_0000


@pytest.mark.parametrize("operation", [DC.ISW, DC.CSW, DC.CISW])
@pytest.mark.kvm_row(55)
def test_set_way_operation_cleans_everything_once(guest: Guest, operation: DC) -> None:
    guest.run(load(RAM))
    guest.pe.write(guest.pe.read(HCR_EL2).replace(TVM=0))
    guest.pe.log.clear()
    for _ in range(3):
        msr(guest, Encoding(1, *operation.encoding), 0)
    assert cleaned(guest.pe.log) == 1
    assert guest.pe.read(HCR_EL2).TVM
    (event,) = [event for event in guest.events if event.name == "kvm_set_way_flush"]
    assert event.text().endswith("(cache off)")


def test_set_way_operation_is_nothing_where_write_back_is_forced() -> None:
    guest = make_guest(NEW_CPU)
    guest.pe.write(ELR_EL2(PC))
    msr(guest, Encoding(1, *DC.CISW.encoding), 0)
    assert "kvm_set_way_flush" not in guest.event_names()
    assert not guest.pe.read(HCR_EL2).TVM


def test_everything_works_without_anybody_listening() -> None:
    guest = make_guest()
    guest.pe.write(ELR_EL2(PC))
    guest.vm.events.unsubscribe(guest.events.append)
    msr(guest, OSLAR, 1)
    msr(guest, SCTLR_EL1.encoding, MMU_AND_CACHES)
    msr(guest, Encoding(1, *DC.CISW.encoding), 0)
    guest.run(Trap(wait_trap(TrappedWait.WFE)), trap(ExceptionClass.HVC64))
    guest.run(load(HOLE, instruction=0))
    assert guest.events == []
