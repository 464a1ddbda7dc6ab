"""A virtual GIC in a VM: how it is made, and what it does while vCPUs run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.fields import Encoding
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, SPSR_EL2
from emu.arch.registers.gic import ICC_PMR_EL1, ICC_SRE_EL1
from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.machine import Machine
from hyp import one_reg
from hyp.errors import Errno, KvmError
from hyp.events import IrqLineType
from hyp.exits import Intr, IntrCause
from hyp.vgic import DeviceType, IrqLine
from hyp.vgic.attributes import Address, Control, Group
from hyp.vm import VM
from tests.emu.cpu import a64
from tests.hyp.irq_box import (
    EL1H_MASKED,
    EL1H_UNMASKED,
    NOP,
    RAM,
    UNMASK_IRQ,
    VECTORS,
    IrqBox,
    create_gic,
    unmask,
)

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

SPI: Final = IrqLine.build(type=IrqLineType.SPI, num=40)
BUDGET: Final = Intr(IntrCause.BUDGET)
IRQ_VECTOR: Final = VECTORS + 0x280
BUSY: Final = (NOP,) * 100


def errno(call: object, *args: object, **kwargs: object) -> Errno:
    assert callable(call)
    with pytest.raises(KvmError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return caught.value.errno


# --- how it is made


def new_vm(gic_registers: bool = True) -> VM:
    pfr0 = CORTEX_A72.read(ID_AA64PFR0_EL1).replace(GIC=int(gic_registers))
    return VM(Machine(4 << 20, 2, CORTEX_A72.replace(pfr0)))


def test_a_vm_has_one_gic_at_most() -> None:
    vm = new_vm()
    vm.create_device(DeviceType.VGIC_V2)
    first = vm.vgic
    for type_ in (DeviceType.VGIC_V2, DeviceType.VGIC_V3):
        assert errno(vm.create_device, type_) is Errno.EEXIST
    assert vm.vgic is first


def test_there_is_no_other_kind_of_device() -> None:
    vm = new_vm()
    assert errno(vm.create_device, 99) is Errno.ENODEV
    assert vm.vgic is None


def test_a_gicv3_needs_a_cpu_with_its_registers() -> None:
    vm = new_vm(gic_registers=False)
    assert errno(vm.create_device, DeviceType.VGIC_V3) is Errno.ENODEV
    assert errno(vm.create_device, DeviceType.VGIC_V3, 1) is Errno.ENODEV
    assert vm.create_device(DeviceType.VGIC_V2) is not None


def test_to_ask_creates_nothing() -> None:
    vm = new_vm()
    assert vm.create_device(DeviceType.VGIC_V3, 1) is None
    assert vm.vgic is None
    assert ID_AA64PFR0_EL1(vm.id_registers[ID_AA64PFR0_EL1.encoding]).GIC == 0


def test_a_gic_comes_before_the_first_run() -> None:
    box = IrqBox(BUSY, gic=0)
    box.vcpus[0].run(10)
    assert errno(box.vm.create_device, DeviceType.VGIC_V2) is Errno.EBUSY


@pytest.mark.parametrize(("version", "cpus"), [(2, 8)])
def test_a_gic_is_for_so_many_vcpus(version: int, cpus: int) -> None:
    vm = new_vm()
    vm.create_device(DeviceType.VGIC_V2 if version == 2 else DeviceType.VGIC_V3)
    for index in range(cpus):
        vm.create_vcpu(index)
    assert errno(vm.create_vcpu, cpus) is Errno.E2BIG
    assert list(vm.vcpus) == list(range(cpus))


def test_a_vm_with_too_many_vcpus_gets_no_gicv2() -> None:
    vm = new_vm()
    for index in range(9):
        vm.create_vcpu(index)
    assert errno(vm.create_device, DeviceType.VGIC_V2) is Errno.E2BIG
    assert vm.create_device(DeviceType.VGIC_V3) is not None


def test_no_vcpu_comes_after_the_gic_is_initialised() -> None:
    box = IrqBox(BUSY)
    assert errno(box.vm.create_vcpu, 1) is Errno.EBUSY
    assert list(box.vm.vcpus) == [0]


@pytest.mark.parametrize(("version", "shown"), [(0, 0), (2, 0), (3, 1)])
def test_the_id_register_names_a_gicv3_alone(version: int, shown: int) -> None:
    box = IrqBox((a64.mrs(3, ID_AA64PFR0_EL1), *BUSY), gic=version)
    (vcpu,) = box.vcpus
    vcpu.run(5)
    read = vcpu.get_one_reg(one_reg.core_x(3))
    assert (read >> ID_AA64PFR0_EL1.GIC.lsb) & 0xF == shown
    assert read == vcpu.get_one_reg(one_reg.system(ID_AA64PFR0_EL1.encoding))


def test_a_vcpu_does_not_run_while_the_gic_lacks_its_addresses() -> None:
    vm = new_vm()
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    device = vm.create_device(DeviceType.VGIC_V2)
    assert device is not None
    assert errno(vcpu.run, 1) is Errno.ENXIO
    assert not vcpu.has_run_once
    device.set_attr(Group.ADDR, Address.V2_DIST, 0x0800_0000)
    device.set_attr(Group.ADDR, Address.V2_CPU, 0x0801_0000)
    assert vcpu.run(1) is not None  # a GICv2 is initialised when it is needed


def test_a_vcpu_does_not_run_while_a_gicv3_is_not_initialised() -> None:
    vm = new_vm()
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    device = vm.create_device(DeviceType.VGIC_V3)
    assert device is not None
    device.set_attr(Group.ADDR, Address.V3_DIST, 0x0800_0000)
    device.set_attr(Group.ADDR, Address.V3_REDIST, 0x080A_0000)
    assert errno(vcpu.run, 1) is Errno.EBUSY
    assert errno(vm.irq_line, SPI, level=True) is Errno.EBUSY
    device.set_attr(Group.CTRL, Control.INIT)
    assert vcpu.run(1) is not None


def test_lines_without_a_gic_lead_nowhere() -> None:
    assert errno(new_vm().irq_line, SPI, level=True) is Errno.ENXIO


def test_a_line_that_there_is_not_is_refused() -> None:
    box = IrqBox(BUSY)
    no_such = IrqLine.build(type=IrqLineType.SPI, num=64)
    assert errno(box.vm.irq_line, no_such, level=True) is Errno.EINVAL


# --- system registers


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize("register", [ICC_PMR_EL1, ICC_SRE_EL1])
@pytest.mark.parametrize("access", [a64.mrs, a64.msr])
def test_without_a_gicv3_its_registers_are_undefined(
    version: int, register: type[SystemRegister], access: object
) -> None:
    word = a64.mrs(3, register) if access is a64.mrs else a64.msr(register, 3)
    box = IrqBox((NOP, word), gic=version)
    (vcpu,) = box.vcpus
    vcpu.run(1)
    vcpu.run(1)
    assert vcpu.read(ESR_EL1) == 0x0200_0000
    assert vcpu.read(ELR_EL1) == RAM + 4


def test_with_a_gicv3_they_are_the_virtual_cpu_interfaces() -> None:
    box = IrqBox((a64.mrs(3, ICC_PMR_EL1), a64.msr(ICC_PMR_EL1, 4), a64.mrs(5, ICC_SRE_EL1)), gic=3)
    (vcpu,) = box.vcpus
    vcpu.set_one_reg(one_reg.core_x(4), 0x55)
    vcpu.run(3)
    assert vcpu.get_one_reg(one_reg.core_x(3)) == 0xF0
    assert box.gic.distributor.cpus[0].state.pmr == 0x50
    assert vcpu.get_one_reg(one_reg.core_x(5)) == 7


def test_an_active_priority_register_that_does_not_exist_is_undefined() -> None:
    op0, op1, crn, crm, op2 = Encoding(3, 0, 12, 9, 1)
    mrs = 0xD520_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | 3
    box = IrqBox((mrs,), gic=3)
    box.vcpus[0].run(1)
    assert box.vcpus[0].read(ESR_EL1) == 0x0200_0000


# --- delivery


@pytest.mark.parametrize("gic", [2, 3])
def test_an_interrupt_is_taken_when_it_is_unmasked(gic: int) -> None:
    box = IrqBox((NOP, NOP, NOP, UNMASK_IRQ, NOP, NOP), gic=gic)
    (vcpu,) = box.vcpus
    box.vm.irq_line(SPI, level=True)
    assert vcpu.run(4) == BUDGET
    assert vcpu.pc in (RAM + 16, IRQ_VECTOR)
    vcpu.run(1)
    assert vcpu.read(ELR_EL1) == RAM + 16


@pytest.mark.parametrize("pstate", [EL1H_MASKED, EL1H_UNMASKED])
def test_a_line_that_falls_before_the_next_entry_interrupts_nothing(pstate: int) -> None:
    box = IrqBox(BUSY)
    (vcpu,) = box.vcpus
    vcpu.run(10)
    vcpu.write(SPSR_EL2(pstate))
    box.vm.irq_line(SPI, level=True)
    box.vm.irq_line(SPI, level=False)
    vcpu.run(10)
    assert vcpu.pc == RAM + 80


def test_a_line_that_moves_while_the_vcpu_is_not_loaded_is_seen_when_it_is() -> None:
    box = IrqBox(BUSY, BUSY, pes=1)
    first, second = box.vcpus
    first.run(5)
    second.run(5)
    unmask(first)
    box.vm.irq_line(SPI, level=True)
    assert first.loaded_on is None
    assert first.read(HCR_EL2).VI
    second.run(5)
    assert second.pc == RAM + 0x1000 + 40
    first.run(1)
    assert first.read(ELR_EL1) == RAM + 20


def test_vcpus_that_a_gic_has_are_told_apart() -> None:
    box = IrqBox(BUSY, BUSY)
    first, second = box.vcpus
    ppi = IrqLine.build(type=IrqLineType.PPI, num=27, vcpu_index=1)
    box.vm.irq_line(ppi, level=True)
    assert [bool(vcpu.read(HCR_EL2).VI) for vcpu in (first, second)] == [False, True]


def test_a_run_within_a_run_leaves_the_outer_vcpu_as_the_one_that_accesses() -> None:
    box = IrqBox((NOP, a64.hvc(0), *BUSY), BUSY)
    first, second = box.vcpus
    gic = box.gic
    seen: list[int] = []

    def when_first_traps(event: object) -> None:
        if type(event).__name__ == "KvmHvcArm64" and not seen:
            seen.append(gic.event_origin()[0])
            second.run(5)
            seen.append(gic.event_origin()[0])
            assert gic.is_busy

    box.vm.events.subscribe(when_first_traps)
    assert not gic.is_busy
    first.run(10)
    assert seen == [0, 0]
    assert not gic.is_busy
    assert second.pe.retired == 5


def test_a_run_that_fails_leaves_the_gic_free() -> None:
    box = IrqBox((NOP, a64.hvc(0), *BUSY))

    def fail(event: object) -> None:
        if type(event).__name__ == "KvmHvcArm64":
            raise ZeroDivisionError

    box.vm.events.subscribe(fail)
    with pytest.raises(ZeroDivisionError):
        box.vcpus[0].run(10)
    assert not box.gic.is_busy


def test_create_gic_is_what_the_vmm_does() -> None:
    vm = new_vm()
    vm.create_vcpu(0)
    create_gic(vm, 3)
    assert vm.vgic is not None
    assert vm.vgic.initialized
