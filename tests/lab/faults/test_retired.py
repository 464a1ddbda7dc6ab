"""The trigger by the number of an instruction."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from lab.errors import UserError
from lab.faults.fault import Status
from lab.faults.injector import Injector
from lab.faults.planned import PlannedFault
from lab.faults.triggers.retired import Retired
from tests.lab.faults.observed import SMP, Nothing, machine, observe, once

if TYPE_CHECKING:
    from tests.lab.faults.observed import Options


def test_it_comes_before_that_instruction_and_no_later() -> None:
    vmm = machine("hello")
    faults = [PlannedFault(Retired(n), Nothing()) for n in range(120)]
    with Injector(vmm.vm, faults) as injector:
        vmm.run("hello")
    alone = machine("hello")
    for number, record in enumerate(injector.records):
        while alone.retired < number:  # MMIO and traps retire nothing
            alone.monitor.run(alone.retired + 1)
        assert (record.status, record.at) == (Status.INJECTED, number)
        assert record.pc == alone.vcpu.pc


def test_the_last_instruction_is_reached_and_none_behind_it() -> None:
    last = observe("hello")[0].result.instructions - 1
    assert once(Retired(last), "hello") is not None
    assert once(Retired(last + 1), "hello") is None


@pytest.mark.parametrize("vcpu", range(4))
def test_the_instructions_of_one_vcpu_are_counted_alone(vcpu: int) -> None:
    vmm = machine("smp_lock", SMP)
    fault = Nothing()
    with Injector(vmm.vm, [PlannedFault(Retired(100, vcpu), fault)]):
        vmm.run("smp_lock")
    ((retired, pc, index),) = fault.seen
    assert index == vcpu
    again = machine("smp_lock", SMP)
    again.monitor.run(retired)
    assert again.vm.vcpus[vcpu].pe.retired == 100
    assert again.vm.vcpus[vcpu].pc == pc


@pytest.mark.parametrize(
    ("guest", "options"), [("remap", {}), ("timer_irq", {}), ("smp_lock", SMP)]
)
def test_injecting_nothing_changes_nothing(guest: str, options: Options) -> None:
    alone, _ = observe(guest, options=options, armed=False)
    total = alone.result.instructions
    faults = [PlannedFault(Retired(n), Nothing()) for n in range(0, total, max(1, total // 60))]
    seen, records = observe(guest, faults, options)
    assert seen == alone
    assert all(record.status is Status.INJECTED for record in records)
    assert [record.at for record in records] == [
        fault.trigger.count for fault in faults if isinstance(fault.trigger, Retired)
    ]


def test_waiting_for_what_never_comes_changes_nothing() -> None:
    alone, _ = observe("remap", armed=False)
    seen, (record,) = observe("remap", [PlannedFault(Retired(1 << 50), Nothing())])
    assert seen == alone
    assert record.status is Status.NOT_REACHED


def test_what_has_passed_does_not_come_again() -> None:
    vmm = machine("hello")
    vmm.monitor.run(50)
    faults = [PlannedFault(Retired(n), Nothing()) for n in (49, 50)]
    with Injector(vmm.vm, faults) as injector:
        vmm.monitor.run(60)
    assert [record.status for record in injector.records] == [Status.NOT_REACHED, Status.INJECTED]


def test_it_can_be_pickled() -> None:
    trigger = Retired(5, vcpu=1)
    assert pickle.loads(pickle.dumps(trigger)) == trigger  # noqa: S301  # our own


@pytest.mark.parametrize("arguments", [(-1,), (5, -1)])
def test_negative_numbers_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="is 0 or more, not -1"):
        Retired(*arguments)


def test_a_vcpu_that_is_not_there_is_refused_and_nothing_stays_armed() -> None:
    vmm = machine("hello")
    injector = Injector(vmm.vm, [PlannedFault(Retired(5, vcpu=3), Nothing())])
    with pytest.raises(UserError, match="the VM has no vCPU 3; use one of 0"):
        injector.arm()
    assert not vmm.pe.probe.armed
    assert vmm.pe.probe.observer is None
