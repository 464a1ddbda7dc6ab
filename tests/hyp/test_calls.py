"""PSCI and SMCCC: what HVC and SMC do."""

from __future__ import annotations

import pytest

from emu.arch.address import VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.exceptions import ELR_EL2
from hyp.exits import Intr, IntrCause, SystemEvent, SystemEventType
from hyp.psci import AffinityState, PsciFunction, PsciResult
from hyp.smccc import SmcccFunction
from tests.hyp.fake_machine import Guest, make_guest, trap

MASK64 = (1 << 64) - 1
HVC, SMC = ExceptionClass.HVC64, ExceptionClass.SMC64
PC = 0x4000_0104


@pytest.fixture
def guest() -> Guest:
    guest = make_guest()
    guest.pe.write(ELR_EL2(PC))
    return guest


def prepare(guest: Guest, function: int, *arguments: int) -> None:
    guest.pe.x[:8] = [function, *arguments, *([0xDEAD] * (7 - len(arguments)))]


def call(guest: Guest, function: int, *arguments: int) -> int:
    """Make a call; return x0 as a signed number."""
    prepare(guest, function, *arguments)
    assert isinstance(guest.run(trap(HVC)), Intr)
    result = guest.pe.x[0]
    return result - (1 << 64) if result >> 63 else result


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (PsciFunction.VERSION, (), 0x1_0003),
        (PsciFunction.MIGRATE_INFO_TYPE, (), 2),
        (PsciFunction.CPU_SUSPEND, (), PsciResult.SUCCESS),
        (PsciFunction.CPU_SUSPEND_64, (), PsciResult.SUCCESS),
        (PsciFunction.SYSTEM_SUSPEND, (), PsciResult.NOT_SUPPORTED),
        (PsciFunction.SYSTEM_SUSPEND_64, (), PsciResult.NOT_SUPPORTED),
        (PsciFunction.FEATURES, (PsciFunction.SYSTEM_OFF,), PsciResult.SUCCESS),
        (PsciFunction.FEATURES, (PsciFunction.CPU_ON_64,), PsciResult.SUCCESS),
        (PsciFunction.FEATURES, (PsciFunction.SYSTEM_OFF2,), 1),
        (PsciFunction.FEATURES, (PsciFunction.SYSTEM_OFF2_64,), 1),
        (PsciFunction.FEATURES, (SmcccFunction.VERSION,), PsciResult.SUCCESS),
        (PsciFunction.FEATURES, (PsciFunction.SYSTEM_SUSPEND_64,), PsciResult.NOT_SUPPORTED),
        (PsciFunction.FEATURES, (0x8400_0005,), PsciResult.NOT_SUPPORTED),
        (PsciFunction.CPU_ON, (0, 0, 0), PsciResult.ALREADY_ON),
        (PsciFunction.CPU_ON_64, (0, 0, 0), PsciResult.ALREADY_ON),
        (PsciFunction.CPU_ON_64, (1, 0, 0), PsciResult.INVALID_PARAMS),
        (PsciFunction.CPU_ON_64, (1 << 24, 0, 0), PsciResult.INVALID_PARAMS),
        (PsciFunction.AFFINITY_INFO_64, (0, 0), AffinityState.ON),
        (PsciFunction.AFFINITY_INFO_64, (5, 0), PsciResult.INVALID_PARAMS),
        (PsciFunction.AFFINITY_INFO_64, (5, 1), AffinityState.ON),
        (PsciFunction.AFFINITY_INFO, (0, 4), PsciResult.INVALID_PARAMS),
        (PsciFunction.AFFINITY_INFO_64, (1 << 40, 0), PsciResult.INVALID_PARAMS),
        (PsciFunction.SYSTEM_RESET2_64, (1,), PsciResult.INVALID_PARAMS),
        (PsciFunction.SYSTEM_OFF2_64, (2, 0), PsciResult.INVALID_PARAMS),
        (PsciFunction.SYSTEM_OFF2_64, (1, 1), PsciResult.INVALID_PARAMS),
        (SmcccFunction.VERSION, (), 0x1_0001),
        (SmcccFunction.ARCH_FEATURES, (0x8000_8000,), 1),
        (SmcccFunction.ARCH_FEATURES, (0x8000_7FFF,), -2),
        (SmcccFunction.ARCH_FEATURES, (0x8000_0002,), -1),
        (SmcccFunction.VENDOR_HYP_FEATURES, (), 1),
        (0x8600_0001, (), -1),
        (0x8400_0005, (), -1),
        (0, (), -1),
    ],
)
def test_result_of_a_call(
    guest: Guest, function: int, arguments: tuple[int, ...], result: int
) -> None:
    assert call(guest, function, *arguments) == result
    assert guest.vcpu.pc == PC, "HVC has been stepped over by the hardware"
    assert guest.pe.x[1:4] == [0, 0, 0]
    assert guest.pe.x[4] == (0xDEAD if len(arguments) < 4 else arguments[3])


def test_32_bit_call_ignores_the_upper_halves_of_its_arguments(guest: Guest) -> None:
    assert call(guest, 0xFFFF_0000_0000_0000 | PsciFunction.AFFINITY_INFO, 7 << 32, 0) == 0


def test_uid_fills_four_registers(guest: Guest) -> None:
    call(guest, SmcccFunction.VENDOR_HYP_CALL_UID)
    assert guest.pe.x[:4] == [0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D]


@pytest.mark.parametrize(
    ("function", "arguments", "event"),
    [
        (PsciFunction.SYSTEM_OFF, (), SystemEvent(SystemEventType.SHUTDOWN, (0,))),
        (PsciFunction.SYSTEM_RESET, (), SystemEvent(SystemEventType.RESET, (0,))),
        (PsciFunction.SYSTEM_RESET2_64, (0,), SystemEvent(SystemEventType.RESET, (1,))),
        (PsciFunction.SYSTEM_RESET2, (1 << 31,), SystemEvent(SystemEventType.RESET, (1,))),
        (PsciFunction.SYSTEM_OFF2_64, (0, 0), SystemEvent(SystemEventType.SHUTDOWN, (1,))),
        (PsciFunction.SYSTEM_OFF2_64, (1, 0), SystemEvent(SystemEventType.SHUTDOWN, (1,))),
    ],
)
def test_system_call_ends_the_run_and_stops_every_cpu(
    guest: Guest, function: int, arguments: tuple[int, ...], event: SystemEvent
) -> None:
    prepare(guest, function, *arguments)
    assert guest.run(trap(HVC)) == event
    assert guest.pe.x[0] == PsciResult.INTERNAL_FAILURE & MASK64
    assert guest.run() == Intr(IntrCause.STOPPED)


def test_cpu_off_stops_the_cpu(guest: Guest) -> None:
    prepare(guest, PsciFunction.CPU_OFF)
    assert guest.run(trap(HVC)) == Intr(IntrCause.STOPPED)
    assert guest.run() == Intr(IntrCause.STOPPED)


def test_cpu_on_starts_another_cpu_at_its_entry() -> None:
    guest = make_guest(pe_count=2)
    other = guest.vm.create_vcpu(1)
    other.init(power_off=True)
    assert call(guest, PsciFunction.AFFINITY_INFO_64, 1, 0) == AffinityState.OFF
    assert call(guest, PsciFunction.CPU_ON_64, 1, 0x4000_8000, 0x1234) == PsciResult.SUCCESS
    assert other.pc == VA(0x4000_8000)
    assert other.read_x(0) == 0x1234
    assert not other.powered_off
    assert call(guest, PsciFunction.CPU_ON_64, 1, 0, 0) == PsciResult.ALREADY_ON


def test_smc_is_stepped_over_before_it_is_served(guest: Guest) -> None:
    prepare(guest, PsciFunction.VERSION)
    guest.run(trap(SMC))
    assert guest.pe.x[0] == 0x1_0003
    assert guest.vcpu.pc == PC + 4


def test_smc_with_an_immediate_is_not_supported(guest: Guest) -> None:
    prepare(guest, PsciFunction.VERSION)
    guest.run(trap(SMC, 1))
    assert guest.pe.x[0] == MASK64
    assert guest.vcpu.pc == PC + 4


def test_smc_that_powers_off_leaves_the_pc_after_it(guest: Guest) -> None:
    prepare(guest, PsciFunction.SYSTEM_OFF)
    guest.run(trap(SMC))
    assert guest.vcpu.pc == PC + 4


def test_hvc_is_traced_with_its_function(guest: Guest) -> None:
    prepare(guest, PsciFunction.VERSION)
    guest.run(trap(HVC, 0x12))
    (event,) = [event for event in guest.events if event.name == "kvm_hvc_arm64"]
    assert event.text() == f"HVC at 0x{PC:016x} (r0: 0x0000000084000000, imm: 0x12)"
