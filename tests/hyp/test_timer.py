"""The timers of a vCPU and their outputs to the virtual GIC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import VA
from emu.arch.registers.timer import (
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTVOFF_EL2,
)
from emu.arch.registers.virtualization import HCR_EL2
from hyp import one_reg
from hyp.events import KvmTimerUpdateIrq
from hyp.exits import Intr, IntrCause
from hyp.timer import PHYSICAL_TIMER_PPI, VIRTUAL_TIMER_PPI
from tests.hyp.irq_box import NOP, RAM, TICK, WFI, IrqBox, open_gic

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

ENABLE, IMASK = 1, 2
BUSY = (NOP,) * 1000
BUDGET = Intr(IntrCause.BUDGET)


def set_virtual(vcpu: VCPU, compare: int, control: int = ENABLE) -> None:
    vcpu.write(CNTV_CVAL_EL0(compare))
    vcpu.write(CNTV_CTL_EL0(control))


def set_physical(vcpu: VCPU, compare: int, control: int = ENABLE) -> None:
    vcpu.timer.set_cval(compare)
    vcpu.timer.control = CNTP_CTL_EL0(control)


SETTERS = [(set_virtual, VIRTUAL_TIMER_PPI), (set_physical, PHYSICAL_TIMER_PPI)]
timers = pytest.mark.parametrize(("program", "ppi"), SETTERS, ids=["virtual", "physical"])


def vi(vcpu: VCPU) -> bool:
    """Whether the vCPU's virtual IRQ is asserted."""
    return bool(vcpu.read(HCR_EL2).VI)


@timers
@pytest.mark.parametrize("gic", [2, 3])
def test_a_timer_interrupts_at_the_instruction_at_which_it_expires(
    program: type, ppi: int, gic: int
) -> None:
    box = IrqBox(BUSY, gic=gic)
    (vcpu,) = box.vcpus
    program(vcpu, 10)
    assert vcpu.run(10 * TICK - 1) == BUDGET
    assert (vi(vcpu), box.levels(ppi)) == (False, [])
    assert vcpu.run(2) == BUDGET
    assert (vi(vcpu), box.levels(ppi)) == (True, [True])


@timers
def test_a_line_that_is_high_does_not_interrupt_el2_again(program: type, ppi: int) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    program(vcpu, 10)
    vcpu.run(500)
    before = len(box.events)
    vcpu.run(400)
    # An entry, the exit when the budget is spent, and the return to user space.
    assert len(box.events) - before == 3
    assert box.levels(ppi) == [True]


@timers
@pytest.mark.parametrize("control", [0, IMASK, ENABLE | IMASK])
def test_a_timer_that_is_off_or_masked_does_not_interrupt(
    program: type, ppi: int, control: int
) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    program(vcpu, 10, control)
    vcpu.run(500)
    assert (vi(vcpu), box.levels(ppi)) == (False, [])


@timers
def test_a_line_that_falls_before_it_is_taken_asserts_nothing_any_more(
    program: type, ppi: int
) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    program(vcpu, 10)
    vcpu.run(500)
    assert vi(vcpu)
    program(vcpu, 1 << 40)
    vcpu.timer_lines.sync()
    assert (vi(vcpu), box.levels(ppi)) == (False, [True, False])
    program(vcpu, 40)
    vcpu.run(200)
    assert (vi(vcpu), box.levels(ppi)) == (True, [True, False, True])


@timers
def test_a_level_that_is_still_high_is_pending_again_behind_its_end(
    program: type, ppi: int
) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    program(vcpu, 1)
    vcpu.run(100)
    before = box.gic.load(vcpu)
    frame = box.gic.cpu_frame()
    assert frame.read(0x0C, 4) == ppi
    assert not vi(vcpu)
    frame.write(0x10, 4, ppi)
    assert vi(vcpu)
    assert frame.read(0x0C, 4) == ppi
    program(vcpu, 1, 0)  # nobody tells the GIC: it looks when the interrupt is ended
    assert box.levels(ppi) == [True] if program is set_virtual else [True, False]
    frame.write(0x10, 4, ppi)
    assert not vi(vcpu)
    assert box.levels(ppi) == [True, False]
    box.gic.put(before)


def test_the_output_of_the_virtual_timer_follows_the_offset() -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    vcpu.run(6 * TICK)
    vcpu.write(CNTVOFF_EL2(5))
    set_virtual(vcpu, 10)
    assert vcpu.timer_lines.next_expiry() == 15
    vcpu.run(9 * TICK - 1)
    assert not vi(vcpu)
    vcpu.run(2)
    assert vi(vcpu)


def test_the_next_expiry_is_that_of_the_timer_that_is_first_and_has_not_expired() -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    lines = vcpu.timer_lines
    assert lines.next_expiry() is None
    set_virtual(vcpu, 30)
    set_physical(vcpu, 20)
    assert lines.next_expiry() == 20
    vcpu.run(20 * TICK)
    assert lines.next_expiry() == 30
    set_virtual(vcpu, 30, ENABLE | IMASK)
    assert lines.next_expiry() is None
    set_virtual(vcpu, (1 << 64) - 1)
    assert lines.next_expiry() == (1 << 64) - 1
    vcpu.write(CNTVOFF_EL2(1 << 63))
    set_virtual(vcpu, 0)  # the virtual count is beyond it
    assert lines.next_expiry() is None


@timers
def test_timers_go_with_the_vcpu_from_one_pe_to_another(program: type, ppi: int) -> None:
    box = IrqBox(BUSY, BUSY)
    first, second = box.vcpus
    program(first, 40)
    first.run(100, cpu=0)
    first.run(100, cpu=1)
    second.run(300, cpu=0)  # where the timer was left
    assert box.levels(ppi, 1) == []
    assert box.levels(ppi, 0) == []
    first.run(139, cpu=1)
    assert box.levels(ppi, 0) == []
    first.run(2, cpu=0)
    assert (vi(first), box.levels(ppi, 0)) == (True, [True])


def test_a_pe_that_two_vcpus_share_has_the_timer_of_neither_left() -> None:
    box = IrqBox(BUSY, BUSY, pes=1)
    first, second = box.vcpus
    set_physical(first, 10)
    first.run(100)
    second.run(200)
    assert second.pe.read(CNTP_CTL_EL0) & ENABLE == 0
    assert second.pe.read(CNTV_CTL_EL0) & ENABLE == 0
    assert not vi(second)
    first.run(1)
    assert vi(first)
    assert first.pe.read(CNTP_CVAL_EL0) == 10


@timers
def test_a_reset_lowers_the_lines(program: type, ppi: int) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    program(vcpu, 1)
    vcpu.run(100)
    assert vi(vcpu)
    vcpu.power_on(VA(RAM), 0)
    assert (vi(vcpu), box.levels(ppi)) == (False, [True, False])
    vcpu.run(100)
    assert not vi(vcpu)


def test_what_the_lines_do_is_traced() -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    set_virtual(vcpu, 10)
    vcpu.run(200)
    (event,) = [event for event in box.events if isinstance(event, KvmTimerUpdateIrq)]
    assert event.text() == "VCPU: 0, IRQ 27, level 1"


@timers
def test_without_a_gic_nobody_listens_but_a_wait_ends(program: type, ppi: int) -> None:
    box = IrqBox((WFI, *BUSY), gic=0)
    (vcpu,) = box.vcpus
    program(vcpu, 100)
    assert vcpu.run(10) == BUDGET
    assert (vi(vcpu), box.levels(ppi)) == (False, [])
    assert box.machine.clock.idle == 100 * TICK
    assert vcpu.get_one_reg(one_reg.PC) == RAM + 4 * 11


@timers
def test_an_interrupt_that_the_gic_holds_back_is_pending_there(program: type, ppi: int) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    open_gic(box.gic, enabled=False)
    program(vcpu, 1)
    vcpu.run(100)
    assert (vi(vcpu), box.levels(ppi)) == (False, [True])
    open_gic(box.gic)
    assert vi(vcpu)
