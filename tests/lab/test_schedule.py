"""Which vCPU runs next, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.registers.timer import CNTV_CTL_EL0, CNTV_CVAL_EL0
from hyp.events import IrqLineType, KvmEntry
from hyp.exits import Exit, Intr, IntrCause, Mmio, SystemEvent
from hyp.vgic import IrqLine
from lab.schedule import Schedule
from tests.emu.cpu import a64
from tests.hyp.irq_box import NOP, RAM, TICK, WFI, IrqBox, open_gic

if TYPE_CHECKING:
    from collections.abc import Sequence

WAITING, BUDGET, STOPPED = (
    Intr(cause) for cause in (IntrCause.WAITING, IntrCause.BUDGET, IntrCause.STOPPED)
)
BUSY = (*(NOP,) * 15, a64.b(-15 * 4))
SLEEP = (WFI, a64.b(-4))
CPU_OFF = (*a64.load_immediate(0, 0x8400_0002), a64.hvc(0))


def turns(box: IrqBox, schedule: Schedule, *budgets: int) -> list[tuple[int, int]]:
    """Run, and return who ran and how many instructions; turns that follow one another are one."""
    found: list[tuple[int, int]] = []
    before = [pe.retired for pe in box.machine.pes]

    def note() -> None:
        for vcpu, pe in enumerate(box.machine.pes):
            done = pe.retired - before[vcpu]
            before[vcpu] = pe.retired
            if not done:
                continue
            if found and found[-1][0] == vcpu:
                found[-1] = vcpu, found[-1][1] + done
            else:
                found.append((vcpu, done))

    box.vm.events.subscribe(lambda event: note() if isinstance(event, KvmEntry) else None)
    for budget in budgets:
        assert schedule.run(budget) == BUDGET
    note()
    return found


def order(seed: int, budgets: Sequence[int], quantum: int = 20) -> list[tuple[int, int]]:
    box = IrqBox(BUSY, BUSY, BUSY)
    return turns(box, Schedule(box.vm, quantum, seed), *budgets)


@pytest.mark.parametrize("quantum", [1, 2, 7, 100])
def test_without_a_seed_vcpus_run_one_after_the_other_for_a_quantum(quantum: int) -> None:
    rounds = [(n % 3, quantum) for n in range(9)]
    assert order(0, [9 * quantum], quantum) == rounds


@pytest.mark.parametrize("seed", [0, 1, 2, 99])
def test_how_the_budget_is_cut_does_not_change_the_order(seed: int) -> None:
    whole = order(seed, [1000])
    assert order(seed, [1] * 30 + [70, 13, 487, 400]) == whole
    assert order(seed, [500, 500]) == whole


def test_the_same_seed_gives_the_same_order_and_another_one_another() -> None:
    orders = [order(seed, [2000]) for seed in (1, 1, 2, 0)]
    assert orders[0] == orders[1]
    assert len({tuple(found) for found in orders}) == 3


def test_a_seed_draws_the_length_of_turns_around_the_quantum() -> None:
    found = order(5, [20_000], quantum=10)
    lengths = [length for _, length in found]
    assert len(set(lengths)) > 10
    assert {vcpu for vcpu, _ in found} == {0, 1, 2}


def test_a_vcpu_that_is_alone_runs_until_the_next_timer_of_another() -> None:
    box = IrqBox(BUSY, SLEEP)
    schedule = Schedule(box.vm, 10, 0)
    assert schedule.run(11) == BUDGET
    second = box.vcpus[1]
    assert second.halted
    second.write(CNTV_CVAL_EL0(100))
    second.write(CNTV_CTL_EL0(1))
    entries = len([e for e in box.events if isinstance(e, KvmEntry)])
    assert schedule.run(100 * TICK - 1 - box.machine.clock.now) == BUDGET
    assert len([e for e in box.events if isinstance(e, KvmEntry)]) == entries + 1
    assert second.pe.retired == 0
    schedule.run(30)
    assert second.pe.retired > 0


def test_a_timer_that_the_gic_holds_back_gives_nobody_a_turn() -> None:
    box = IrqBox(BUSY, SLEEP)
    open_gic(box.gic, enabled=False)
    schedule = Schedule(box.vm, 10, 0)
    schedule.run(20)
    box.vcpus[1].write(CNTV_CVAL_EL0(5))
    box.vcpus[1].write(CNTV_CTL_EL0(1))
    assert schedule.run(500) == BUDGET
    assert box.vcpus[1].pe.retired == 0


def test_time_passes_when_all_wait_and_the_one_whose_timer_fires_runs() -> None:
    box = IrqBox(SLEEP, (WFI, *BUSY))
    schedule = Schedule(box.vm, 10, 0)
    assert schedule.run(10) == WAITING
    assert box.machine.clock.now == 0
    box.vcpus[1].write(CNTV_CVAL_EL0(50))
    box.vcpus[1].write(CNTV_CTL_EL0(1))
    assert schedule.run(20) == BUDGET
    assert schedule.current is box.vcpus[1]
    assert box.machine.clock.now == 50 * TICK + 20


def test_a_line_from_outside_wakes_a_vcpu_between_two_runs() -> None:
    box = IrqBox((WFI, *BUSY), SLEEP)
    schedule = Schedule(box.vm, 10, 0)
    assert schedule.run(10) == WAITING
    box.vm.irq_line(IrqLine.build(type=IrqLineType.SPI, num=40), level=True)
    assert schedule.run(10) == BUDGET
    assert [pe.retired for pe in box.machine.pes] == [10, 0]


def cpu_on(index: int) -> tuple[int, ...]:
    return (
        *a64.load_immediate(0, 0xC400_0003),
        *a64.load_immediate(1, index),
        *a64.load_immediate(2, RAM + 0x1000 * index),
        a64.hvc(0),
    )


def test_cpu_on_gives_a_vcpu_its_turns() -> None:
    box = IrqBox((*cpu_on(1), *BUSY), BUSY)
    box.vcpus[1].init(power_off=True)
    schedule = Schedule(box.vm, 10, 0)
    assert schedule.run(len(cpu_on(1))) == BUDGET
    assert not box.vcpus[1].powered_off
    assert schedule.run(40) == BUDGET
    assert box.vcpus[1].pe.retired in range(10, 31)


def test_a_vcpu_that_turns_itself_off_has_no_more_turns() -> None:
    box = IrqBox((NOP, *CPU_OFF), BUSY)
    schedule = Schedule(box.vm, 100, 0)
    assert schedule.run(1000) == BUDGET
    done = box.vcpus[0].pe.retired
    assert done == 1 + len(CPU_OFF)
    assert box.vcpus[1].pe.retired == 1000 - done


def test_all_being_off_ends_the_run() -> None:
    box = IrqBox(CPU_OFF, CPU_OFF)
    assert Schedule(box.vm, 100, 0).run(1000) == STOPPED


def test_an_exit_for_user_space_keeps_the_turn() -> None:
    device = (*a64.load_immediate(1, 0x0B00_0000), a64.ldr(3, 1, 0, 4), *BUSY)
    box = IrqBox(device, BUSY)
    schedule = Schedule(box.vm, 100, 0)
    exit_: Exit = schedule.run(1000)
    assert isinstance(exit_, Mmio)
    assert schedule.current is box.vcpus[0]
    schedule.set_mmio_data(b"\x2a\0\0\0")
    schedule.run(20)
    assert schedule.current is box.vcpus[0]
    assert box.vcpus[0].read_x(3) == 42


def test_an_exit_at_the_end_of_a_turn_is_completed_in_the_next_one() -> None:
    load = a64.load_immediate(1, 0x0B00_0000)
    box = IrqBox((*load, a64.ldr(3, 1, 0, 4), *BUSY), BUSY)
    schedule = Schedule(box.vm, len(load), 0)
    exit_ = schedule.run(1000)
    assert isinstance(exit_, Mmio)
    schedule.set_mmio_data(b"\x2a\0\0\0")
    schedule.run(60)
    assert box.vcpus[0].read_x(3) == 42
    assert all(pe.retired > 10 for pe in box.machine.pes)


def test_system_off_of_one_ends_the_run_of_all() -> None:
    box = IrqBox((*a64.load_immediate(0, 0x8400_0008), a64.hvc(0)), BUSY)
    schedule = Schedule(box.vm, 10, 0)
    assert isinstance(schedule.run(1000), SystemEvent)
    assert schedule.run(1000) == STOPPED


SPIN_ON_LOCK = (
    *a64.load_immediate(1, RAM + 0x8000),
    a64.ldxr(2, 1),
    a64.add(2, 2, 1),
    a64.stxr(3, 2, 1),
    a64.cbnz(3, -12),
    *BUSY,
)


@pytest.mark.parametrize("quantum", [1, 2, 3])
def test_exclusives_succeed_in_turns_that_are_shorter_than_their_loop(quantum: int) -> None:
    box = IrqBox(SPIN_ON_LOCK, SPIN_ON_LOCK, SPIN_ON_LOCK)
    for vcpu in box.vcpus:
        vcpu.write(type(vcpu.pstate)(0x3C5))
    Schedule(box.vm, quantum, 0).run(400)
    counted = box.vm.read_guest(type(RAM)(RAM + 0x8000), 8)
    assert counted is not None
    assert int.from_bytes(counted, "little") == 3
