"""The GIC as a whole: its life, its lines, KVM_IRQ_LINE, tracepoints, snapshots."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA
from emu.machine import Machine
from hyp.errors import Errno
from hyp.events import Event, IrqLineType, KvmIrqLine, VgicUpdateIrqPending
from hyp.vgic import Vgic, kvm_irq_line
from hyp.vm import VM
from tests.hyp.vgic.rig import (
    DIST,
    SYSREG,
    FakeVcpu,
    Gic,
    fake_vm,
    ready_gicv2,
    ready_gicv3,
    refusal,
)

SPI, PPI = 1 << 24, 2 << 24


@pytest.mark.parametrize("version", [0, 1, 4])
def test_there_are_two_versions(version: int) -> None:
    refusal(Errno.EINVAL, Vgic, fake_vm(1), version)


# --- its life --------------------------------------------------------------------------------


def test_a_gicv2_comes_to_life_when_it_is_needed() -> None:
    vgic = Vgic(fake_vm(1), 2)
    assert not vgic.pending(FakeVcpu(0))
    vgic.kvm_vgic_inject_irq(None, 32, level=True)
    assert vgic.initialized
    assert vgic.nr_irqs == 256


def test_a_gicv3_waits_for_user_space() -> None:
    vgic = Vgic(fake_vm(1), 3)
    refusal(Errno.EBUSY, vgic.kvm_vgic_inject_irq, None, 32, level=True)
    refusal(Errno.EBUSY, vgic.save)
    assert not vgic.write_sysreg(FakeVcpu(0), SYSREG["ICC_PMR_EL1"], 0xF0)
    assert vgic.read_sysreg(FakeVcpu(0), SYSREG["ICC_PMR_EL1"]) is None


def test_a_vcpu_that_comes_too_late_is_refused() -> None:
    vm = fake_vm(1)
    vgic = Vgic(vm, 3)
    vgic.vcpu_init()
    vgic.init()
    vm.vcpus[1] = FakeVcpu(1)
    refusal(Errno.EBUSY, vgic.vcpu_init)
    refusal(Errno.EINVAL, vgic.pending, vm.vcpus[1])


def test_a_ninth_vcpu_is_too_many_for_a_gicv2() -> None:
    vm = fake_vm(8)
    vgic = Vgic(vm, 2)
    vgic.vcpu_init()
    vm.vcpus[8] = FakeVcpu(8)
    refusal(Errno.E2BIG, vgic.vcpu_init)


def test_a_vcpu_whose_redistributor_reaches_the_distributor_is_refused() -> None:
    vm = fake_vm(1)
    vgic = Vgic(vm, 3)
    vgic.addresses.add_region(0, IPA(0x10_0000), 0, 1)
    vgic.addresses.set_dist(IPA(0x12_0000))
    vgic.vcpu_init()
    vm.vcpus[1] = FakeVcpu(1)
    refusal(Errno.EINVAL, vgic.vcpu_init)


def test_another_device_in_its_place_is_an_error_of_the_first_run() -> None:
    vm = fake_vm(1)
    vgic = Vgic(vm, 2)
    vgic.addresses.set_dist(DIST)
    vgic.addresses.set_cpu(IPA(DIST + 0x1_0000))
    other = Gic(2)
    vm.io_bus.register(DIST, 0x1000, other.vgic.distributor_frame())
    refusal(Errno.EEXIST, vgic.map_resources)


def test_a_vm_and_its_vcpus_are_what_a_gic_needs() -> None:
    vm = VM(Machine(memory_size=4 << 20))
    vcpu = vm.create_vcpu(0)
    assert not vcpu.has_run_once
    vgic = Vgic(vm, 3)
    vgic.addresses.set_dist(DIST)
    vgic.addresses.add_region(0, IPA(0x0900_0000), 0, 1)
    vgic.init()
    vgic.map_resources()
    vgic.load(vcpu)
    assert vm.io_bus.read(IPA(DIST), 4) == 0x50
    assert not vgic.pending(vcpu)
    vcpu.init()
    vcpu.run(1)
    assert vcpu.has_run_once


# --- lines and kicks -------------------------------------------------------------------------


def test_a_vcpu_is_kicked_when_its_line_changes_and_only_then() -> None:
    gic = ready_gicv2()
    gic.inject(32)
    assert gic.kicked == []
    gic.set_dist(0x104, 1)
    assert gic.kicked == [0]
    gic.inject(32)
    assert gic.kicked == [0]
    gic.cpu(0x0C)
    assert gic.kicked == [0, 0]
    assert not gic.pending()


def test_an_sgi_kicks_each_vcpu_that_gets_it() -> None:
    gic = ready_gicv3(4)
    gic.msr("ICC_SGI1R_EL1", 1 << 40, vcpu=2)
    assert gic.kicked == [0, 1, 3]


def test_a_gic_without_a_kick_works() -> None:
    vgic = Vgic(fake_vm(1), 2)
    vgic.init()
    frame = vgic.distributor_frame()
    frame.write(0, 4, 1)
    vgic.cpu_frame().write(0, 4, 1)
    vgic.cpu_frame().write(4, 4, 0xF0)
    frame.write(0xF00, 4, 2 << 24)
    assert vgic.pending(FakeVcpu(0))


def test_a_redistributor_frame_is_that_of_its_vcpu() -> None:
    gic = Gic(3)
    frame = gic.vgic.redistributor_frame(gic.vm.vcpus[1])
    assert frame.read(8, 8) == 1 << 32 | 1 << 8 | 1 << 4


@pytest.mark.parametrize(
    ("vcpu", "intid"), [(None, 31), (None, 0), (None, 96), (0, 96), (None, 1023), (0, -1)]
)
def test_an_interrupt_that_does_not_exist_is_refused(vcpu: int | None, intid: int) -> None:
    gic = Gic(2, nr_irqs=96)
    target = None if vcpu is None else gic.vm.vcpus[vcpu]
    refusal(Errno.EINVAL, gic.vgic.kvm_vgic_inject_irq, target, intid, level=True)


# --- KVM_IRQ_LINE ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("irq", "errno"),
    [
        (SPI | 32, Errno.OK),
        (SPI | 95, Errno.OK),
        (SPI | 31, Errno.EINVAL),
        (SPI | 96, Errno.EINVAL),
        (SPI | 0xFFFF, Errno.EINVAL),
        (PPI | 16, Errno.OK),
        (PPI | 1 << 16 | 31, Errno.OK),
        (PPI | 15, Errno.EINVAL),
        (PPI | 32, Errno.EINVAL),
        (PPI | 2 << 16 | 27, Errno.EINVAL),
        (PPI | 1 << 28 | 27, Errno.EINVAL),
        (0, Errno.ENXIO),
        (3 << 24 | 32, Errno.EINVAL),
        (15 << 24, Errno.EINVAL),
    ],
)
def test_irq_line_accepts(irq: int, errno: Errno) -> None:
    gic = Gic(3, nr_irqs=96)
    if errno:
        refusal(errno, kvm_irq_line, gic.vm, gic.vgic, irq, level=True)
    else:
        kvm_irq_line(gic.vm, gic.vgic, irq, level=True)


def test_irq_line_reaches_vcpus_beyond_255() -> None:
    gic = Gic(3, 258)
    kvm_irq_line(gic.vm, gic.vgic, 1 << 28 | PPI | 1 << 16 | 27, level=True)
    assert gic.redist(0x1_0200, vcpu=257) == 1 << 27


@pytest.mark.parametrize(("irq", "errno"), [(SPI | 32, Errno.ENXIO), (PPI | 27, Errno.ENXIO)])
def test_irq_line_without_a_gic_is_refused(irq: int, errno: Errno) -> None:
    refusal(errno, kvm_irq_line, fake_vm(1), None, irq, level=True)


def test_irq_line_before_initialisation_is_refused_for_a_gicv3() -> None:
    vm = fake_vm(1)
    refusal(Errno.EBUSY, kvm_irq_line, vm, Vgic(vm, 3), SPI | 32, level=True)
    kvm_irq_line(vm, Vgic(vm, 2), SPI | 32, level=True)


# --- tracepoints -----------------------------------------------------------------------------


def test_irq_line_and_injection_are_traced_before_they_are_checked() -> None:
    gic = Gic(2)
    gic.vm.vcpus[1].pe.retired = 77
    gic.vgic.load(gic.vm.vcpus[1])
    kvm_irq_line(gic.vm, gic.vgic, PPI | 1 << 16 | 27, level=True)
    gic.vgic.put()
    refusal(Errno.EINVAL, kvm_irq_line, gic.vm, gic.vgic, SPI | 500, level=False)
    refusal(Errno.EINVAL, kvm_irq_line, gic.vm, gic.vgic, 9 << 24 | 5, level=False)
    expected: list[Event] = [
        KvmIrqLine(1, 77, IrqLineType.PPI, 1, 27, 1),
        VgicUpdateIrqPending(1, 77, 1, 27, level=True),
        KvmIrqLine(-1, 0, IrqLineType.SPI, 0, 500, 0),
        VgicUpdateIrqPending(-1, 0, 0, 500, level=False),
        KvmIrqLine(-1, 0, 9, 0, 5, 0),
    ]
    assert gic.events == expected


def test_an_unheard_gic_traces_nothing() -> None:
    gic = Gic(2)
    gic.vm.events.unsubscribe(gic.events.append)
    kvm_irq_line(gic.vm, gic.vgic, SPI | 32, level=True)
    assert gic.events == []


# --- snapshots -------------------------------------------------------------------------------


def test_a_snapshot_is_a_copy_and_can_be_restored_twice() -> None:
    gic = ready_gicv3()
    gic.set_dist(0x104, 1)
    gic.inject(32)
    saved = gic.vgic.save()
    for _ in range(2):
        assert gic.mrs("ICC_IAR1_EL1") == 32
        gic.kicked.clear()
        gic.vgic.restore(saved)
        assert gic.kicked == [0]
        assert gic.pending()
        assert gic.vgic.save() == saved


def test_the_state_of_another_gic_is_refused() -> None:
    gic = Gic(3)
    for other in (Gic(3, 3), Gic(3, nr_irqs=64)):
        refusal(Errno.EINVAL, gic.vgic.restore, other.vgic.save())
