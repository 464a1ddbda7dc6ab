"""What interrupts guest code without being a fault: devices, calls, returns, traps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.bare import Native, Plain
from bench.guest import DEVICE_IN_PROCESS, GICD_TYPER, Guest, code, is_parked
from bench.programs import (
    COUNT,
    EXCEPTION_RETURN,
    HYPERCALL,
    INVALIDATE,
    LOAD,
    READ_DEVICE,
    READ_REGISTER,
    STORE,
    SUPERVISOR_CALL,
    SWITCH_TABLES,
    WRITE_DEVICE,
)
from bench.rows import Reference, Row, Unit
from bench.timing import best_of, clock
from hyp.load import kvm_arch_vcpu_load
from hyp.psci import PsciFunction
from hyp.vm import VM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.programs import Program
    from bench.timing import Scale

TIMES: Final = 4000
NATIVE_TIMES: Final = 1_000_000
"""Of what the engine does by itself."""
ANSWER: Final = bytes(8)
PSTATE_EL1H: Final = 0x3C5


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    return [*_leaving(scale), *_hooked(scale), _exception_return(scale), _world_switch(scale)]


def _leaving(scale: Scale) -> list[Row]:
    """Measure what leaves the engine, against leaving it for nothing."""
    times = scale.of(TIMES)
    device = {1: DEVICE_IN_PROCESS}
    sides: dict[str, Callable[[], float]] = {
        "MMIO write, user space": user_writes(times),
        "MMIO read, user space": user_reads(times),
        "MMIO write, in process": loop(STORE, device, times),
        "MMIO read, in process": loop(LOAD, device, times),
        "MMIO read, GICD_TYPER": loop(LOAD, {1: GICD_TYPER}, times, gic=3),
        "HVC PSCI_VERSION": loop(HYPERCALL, {1: PsciFunction.VERSION}, times),
        "SVC and ERET at EL1": loop(SUPERVISOR_CALL, {}, times),
    }
    native = Native(SUPERVISOR_CALL)
    *seconds, floor = best_of(scale.rounds, *sides.values(), lambda: native.leave(times))
    reference = Reference("leave and enter Unicorn", floor / times * 1e6)
    return [
        Row(name, value / times * 1e6, Unit.MICROSECONDS, (reference,))
        for name, value in zip(sides, seconds, strict=True)
    ]


def _hooked(scale: Scale) -> list[Row]:
    """Measure intercepted system instructions, against an empty callback."""
    times = scale.of(TIMES)
    msr = SWITCH_TABLES
    guest = Guest(msr)
    tables = {1: guest.table_base, COUNT: times}
    sides: dict[str, Callable[[], float]] = {
        "MRS MIDR_EL1": loop(READ_REGISTER, {}, times),
        "MSR TTBR0_EL1": lambda: guest.run(tables),
        "TLBI VMALLE1IS": loop(INVALIDATE, {}, times),
    }
    mrs = READ_REGISTER.offset_of("mrs x2, midr_el1")
    native = Native(READ_REGISTER, hooked=mrs)
    *seconds, floor = best_of(scale.rounds, *sides.values(), lambda: native.run({COUNT: times}))
    reference = Reference("empty hook, C function", floor / times * 1e6)
    return [
        Row(name, value / times * 1e6, Unit.MICROSECONDS, (reference,))
        for name, value in zip(sides, seconds, strict=True)
    ]


def _exception_return(scale: Scale) -> Row:
    """Measure ERET, which the engine executes by itself."""
    times = scale.of(NATIVE_TIMES)
    after = code(EXCEPTION_RETURN.offset_of("subs x19, x19, #1"))
    registers = {1: after, 2: PSTATE_EL1H, COUNT: times}
    guest, plain = Guest(EXCEPTION_RETURN), Plain(EXCEPTION_RETURN)
    here, bare = best_of(scale.rounds, lambda: guest.run(registers), lambda: plain.run(registers))
    reference = Reference("bare Unicorn", bare / times * 1e6)
    return Row("ERET to EL1", here / times * 1e6, Unit.MICROSECONDS, (reference,))


def _world_switch(scale: Scale) -> Row:
    """Measure how long a PE takes from the registers of one vCPU to those of another."""
    times = scale.of(TIMES)
    guest = Guest(HYPERCALL)
    other = VM(guest.machine).create_vcpu(0)
    other.init()
    cpu = guest.vm.kvm.cpus[0]
    native = Native(SUPERVISOR_CALL)

    def switches() -> float:
        started = clock()
        for _ in range(times // 2):
            kvm_arch_vcpu_load(other, cpu)
            kvm_arch_vcpu_load(guest.vcpu, cpu)
        return clock() - started

    here, floor = best_of(scale.rounds, switches, lambda: native.leave(times))
    reference = Reference("leave and enter Unicorn", floor / times * 1e6)
    return Row("world switch", here / times * 1e6, Unit.MICROSECONDS, (reference,))


def loop(
    program: Program, registers: Mapping[int, int], times: int, gic: int = 0
) -> Callable[[], float]:
    """Return a side that runs a program's loop."""
    guest = Guest(program, gic=gic)
    return lambda: guest.run({**registers, COUNT: times})


def user_writes(times: int) -> Callable[[], float]:
    """Return a side that writes to a device in user space."""
    vcpu = Guest(WRITE_DEVICE).vcpu

    def side() -> float:
        started = clock()
        for _ in range(times):
            exit_ = vcpu.run()
        seconds = clock() - started
        assert is_parked(exit_), exit_
        return seconds

    return side


def user_reads(times: int) -> Callable[[], float]:
    """Return a side that reads from a device in user space."""
    vcpu = Guest(READ_DEVICE).vcpu

    def side() -> float:
        started = clock()
        for _ in range(times):
            vcpu.set_mmio_data(ANSWER)
            exit_ = vcpu.run()
        seconds = clock() - started
        assert is_parked(exit_), exit_
        return seconds

    return side
