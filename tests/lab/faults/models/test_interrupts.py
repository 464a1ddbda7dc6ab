"""Interrupts that are lost, or that nobody sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.registers.timer import CNTV_CTL_EL0, CNTV_CVAL_EL0
from lab.faults.fault import Status
from lab.faults.models.interrupts import InterruptLost, InterruptSpurious
from lab.faults.target import Target
from tests.hyp.irq_box import NOP, VECTORS, IrqBox, unmask

if TYPE_CHECKING:
    from hyp.vgic.irq import Irq
    from lab.faults.fault import Fault, Injection

BUSY = (NOP,) * 400
IRQ_VECTOR = VECTORS + 0x280
VIRTUAL_TIMER = 27


def inject(box: IrqBox, fault: Fault, vcpu: int = 0) -> Injection:
    return fault.inject(Target(box.vm, box.vcpus[vcpu]))


def changed(box: IrqBox, fault: Fault, vcpu: int = 0) -> dict[tuple[int | None, int], Any]:
    """Inject a fault; return the interrupts whose state is not as before, by owner and INTID."""
    before = box.gic.save()
    assert inject(box, fault, vcpu).status is Status.INJECTED
    after = box.gic.save()
    assert before.cpus == after.cpus
    return {
        (irq.owner, irq.intid): irq
        for irq, old in zip(_all(after.dist), _all(before.dist), strict=True)
        if irq != old
    }


def _all(dist: Any) -> list[Irq]:  # noqa: ANN401  # DistState
    return [irq for cpu in dist.private for irq in cpu] + list(dist.spis)


def taken(box: IrqBox, vcpu: int = 0) -> bool:
    return int(box.vcpus[vcpu].pc) == IRQ_VECTOR


@pytest.mark.parametrize("intid", [3, 27, 40])
def test_spurious_interrupt_is_taken_by_its_vcpu(intid: int) -> None:
    box = IrqBox(BUSY, BUSY)
    unmask(box.vcpus[0])
    box.vcpus[0].run(10)
    found = changed(box, InterruptSpurious(intid=intid))
    assert list(found) == [(0 if intid < 32 else None, intid)]
    assert next(iter(found.values())).pending_latch
    box.vcpus[0].run(10)
    assert taken(box)
    box.vcpus[1].run(10)
    assert not taken(box, 1)
    refused = inject(box, InterruptSpurious(intid=intid))
    assert refused.status is Status.INVALID
    assert "is pending already" in refused.detail


def test_spurious_interrupt_that_is_disabled_only_waits() -> None:
    box = IrqBox(BUSY)
    irq = box.gic.distributor.irq(0, 16)
    assert irq is not None
    assert not irq.enabled
    injection = inject(box, InterruptSpurious(intid=16))
    assert injection.detail == "interrupt 16 of vCPU 0 is pending, and disabled"
    assert irq.is_pending


def armed_timer() -> IrqBox:
    """Return a VM whose virtual timer fires soon."""
    box = IrqBox(BUSY)
    vcpu = box.vcpus[0]
    unmask(vcpu)
    vcpu.run(1)
    vcpu.write(CNTV_CVAL_EL0(6))
    vcpu.write(CNTV_CTL_EL0.build(ENABLE=1))
    return box


def test_timer_interrupt_that_is_lost_is_never_taken() -> None:
    box = armed_timer()
    assert changed(box, InterruptLost(intid=VIRTUAL_TIMER)) == {}
    box.vcpus[0].run(300)
    assert box.levels(VIRTUAL_TIMER) == [True]
    assert not taken(box)
    assert not box.gic.distributor.losing


def test_without_the_fault_it_is_taken() -> None:
    box = armed_timer()
    injection = inject(box, InterruptLost(intid=VIRTUAL_TIMER))
    assert injection.end is not None
    injection.end()
    injection.end()
    box.vcpus[0].run(300)
    assert taken(box)


def test_pending_interrupt_is_lost_at_once_and_others_are_not() -> None:
    box = IrqBox(BUSY)
    for intid in (40, 41):
        box.gic.kvm_vgic_inject_irq(None, intid, level=True)
    found = changed(box, InterruptLost(intid=40, count=2))
    assert list(found) == [(None, 40)]
    assert not found[None, 40].is_pending
    for level, pending in ((False, False), (True, False), (False, False), (True, True)):
        box.gic.kvm_vgic_inject_irq(None, 40, level=level)
        irq = box.gic.distributor.irq(0, 40)
        assert irq is not None
        assert irq.is_pending is pending


def test_sgi_of_one_vcpu_is_lost_and_that_of_another_arrives() -> None:
    box = IrqBox(BUSY, BUSY)
    dist = box.gic.distributor
    assert inject(box, InterruptLost(intid=1), vcpu=1).status is Status.INJECTED
    for cpu, pending in ((0, True), (1, False)):
        irq = dist.irq(cpu, 1)
        assert irq is not None
        dist.send_v2_sgi(irq, 0)
        assert irq.is_pending is pending
        assert irq.source == int(pending)


def test_interrupts_that_do_not_exist() -> None:
    assert inject(IrqBox(BUSY, gic=0), InterruptLost(intid=1)).detail == (
        "the VM has no GIC that is initialised"
    )
    refused = inject(IrqBox(BUSY), InterruptSpurious(intid=64))
    assert refused.detail == "there is no interrupt 64; the GIC has 64"
    assert inject(IrqBox(BUSY), InterruptLost(intid=999)).status is Status.INVALID
