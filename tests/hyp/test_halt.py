"""vCPUs that wait for an interrupt, alone or beside others."""

from __future__ import annotations

import pytest

from emu.arch.address import VA
from emu.arch.registers.timer import CNTV_CTL_EL0, CNTV_CVAL_EL0
from emu.arch.registers.virtualization import HCR_EL2
from hyp import one_reg
from hyp.events import IrqLineType
from hyp.exits import Intr, IntrCause
from hyp.halt import kvm_arch_vcpu_runnable, kvm_idle
from hyp.vgic import IrqLine
from tests.emu.cpu import a64
from tests.hyp.irq_box import NOP, RAM, TICK, WFI, IrqBox, open_gic

WAITS = (NOP, WFI, *(NOP,) * 50)
WAITING, BUDGET = Intr(IntrCause.WAITING), Intr(IntrCause.BUDGET)
SPI = IrqLine.build(type=IrqLineType.SPI, num=40)


def arm(box: IrqBox, vcpu: int, count: int) -> None:
    box.vcpus[vcpu].write(CNTV_CVAL_EL0(count))
    box.vcpus[vcpu].write(CNTV_CTL_EL0(1))


@pytest.mark.parametrize("gic", [0, 2, 3])
def test_a_vcpu_that_nothing_will_wake_returns_and_goes_on_waiting(gic: int) -> None:
    box = IrqBox(WAITS, gic=gic)
    (vcpu,) = box.vcpus
    for _ in range(3):
        assert vcpu.run(10) == WAITING
        assert vcpu.halted
        assert vcpu.get_one_reg(one_reg.PC) == RAM + 8
    assert box.machine.clock.now == 1


@pytest.mark.parametrize("gic", [2, 3])
def test_a_line_from_user_space_ends_the_wait(gic: int) -> None:
    box = IrqBox(WAITS, gic=gic)
    (vcpu,) = box.vcpus
    assert vcpu.run(10) == WAITING
    box.vm.irq_line(SPI, level=True)
    assert box.vm.woken
    assert vcpu.run(10) == BUDGET
    assert not vcpu.halted
    assert vcpu.get_one_reg(one_reg.PC) == RAM + 8 + 4 * 10


def test_a_line_that_the_gic_holds_back_does_not_end_the_wait() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    open_gic(box.gic, enabled=False)
    vcpu.run(10)
    box.vm.irq_line(SPI, level=True)
    assert not box.vm.woken
    assert vcpu.run(10) == WAITING
    open_gic(box.gic)
    assert vcpu.run(10) == BUDGET


def test_a_line_that_falls_in_time_leaves_the_vcpu_waiting() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    vcpu.run(10)
    box.vm.irq_line(SPI, level=True)
    box.vm.irq_line(SPI, level=False)
    assert vcpu.run(10) == WAITING


def test_a_wait_is_over_at_once_when_an_interrupt_is_pending() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    box.vm.irq_line(SPI, level=True)
    assert vcpu.run(10) == BUDGET
    assert box.machine.clock.idle == 0


def test_a_virtual_serror_ends_the_wait() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    vcpu.run(10)
    vcpu.set_vcpu_events(serror_pending=True)
    assert vcpu.read(HCR_EL2).VSE
    assert vcpu.run(10) == BUDGET


@pytest.mark.parametrize("gic", [0, 2, 3])
def test_time_passes_to_the_timer_of_a_vcpu_that_has_the_machine_for_itself(gic: int) -> None:
    box = IrqBox(WAITS, gic=gic)
    (vcpu,) = box.vcpus
    arm(box, 0, 1000)
    assert vcpu.run(10) == BUDGET
    assert box.machine.clock.now - 9 == 1000 * TICK


def test_a_timer_that_the_gic_holds_back_lets_time_pass_and_ends_nothing() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    open_gic(box.gic, enabled=False)
    arm(box, 0, 1000)
    assert vcpu.run(10) == WAITING
    assert box.machine.clock.now == 1000 * TICK


def test_a_vcpu_that_shares_the_machine_lets_no_time_pass() -> None:
    box = IrqBox(WAITS, WAITS)
    first, second = box.vcpus
    arm(box, 0, 1000)
    for vcpu in (first, second):
        assert vcpu.run(10, shares_machine=True) == WAITING
    assert box.machine.clock.idle == 0
    assert not kvm_arch_vcpu_runnable(first)
    assert kvm_idle(box.vcpus)
    assert box.machine.clock.now == 1000 * TICK
    assert [kvm_arch_vcpu_runnable(vcpu) for vcpu in box.vcpus] == [True, False]
    assert not kvm_idle(box.vcpus)
    box.vm.woken = False
    assert first.run(10, shares_machine=True) == BUDGET


def test_the_first_timer_ends_the_idle_time_of_several() -> None:
    box = IrqBox(WAITS, WAITS, WAITS)
    for number, count in enumerate((300, 100, 200)):
        box.vcpus[number].run(10, shares_machine=True)
        arm(box, number, count)
    assert kvm_idle(box.vcpus)
    assert box.machine.clock.now == 100 * TICK
    assert [kvm_arch_vcpu_runnable(vcpu) for vcpu in box.vcpus] == [False, True, False]


def test_a_vcpu_that_is_off_wakes_for_nothing() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    vcpu.run(10)
    arm(box, 0, 100)
    vcpu.powered_off = True
    assert not kvm_idle(box.vcpus)
    box.vm.irq_line(SPI, level=True)
    assert not kvm_arch_vcpu_runnable(vcpu)
    assert vcpu.run(10) == Intr(IntrCause.STOPPED)


def test_a_vcpu_that_is_turned_on_does_not_wait() -> None:
    box = IrqBox(WAITS)
    (vcpu,) = box.vcpus
    vcpu.run(10)
    box.vm.woken = False
    vcpu.power_on(VA(RAM), 0)
    assert (vcpu.halted, box.vm.woken) == (False, True)
    assert vcpu.run(10) == WAITING


CPU_SUSPEND = (
    *a64.load_immediate(0, 0xC400_0001),
    a64.hvc(0),
    *(NOP,) * 20,
)


def test_cpu_suspend_waits_as_wfi_does() -> None:
    box = IrqBox(CPU_SUSPEND)
    (vcpu,) = box.vcpus
    assert vcpu.run(20) == WAITING
    assert vcpu.get_one_reg(one_reg.core_x(0)) == 0
    box.vm.irq_line(SPI, level=True)
    assert vcpu.run(5) == BUDGET
    assert vcpu.get_one_reg(one_reg.core_x(0)) == 0


def test_a_vcpu_returns_when_it_has_woken_another_one() -> None:
    calls = (NOP, *a64.load_immediate(0, 0x8400_0000), a64.hvc(0), *(NOP,) * 20)
    box = IrqBox(calls, WAITS)
    first, second = box.vcpus
    second.run(10, shares_machine=True)
    box.vm.irq_line(SPI, level=True)  # SPIs go to vCPU 0
    assert not box.vm.woken
    second.power_on(VA(RAM), 0)
    assert first.run(20, shares_machine=True) == Intr(IntrCause.YIELD)
    box.vm.woken = False
    assert first.run(20, shares_machine=True) == BUDGET
