"""What becomes of the planned faults of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from lab.faults.fault import Fault, Injection, Status, invalid
from lab.faults.injector import Injector
from lab.faults.planned import PlannedFault
from lab.faults.triggers.retired import Retired
from tests.lab.faults.observed import Nothing, machine, observe

if TYPE_CHECKING:
    from lab.faults.target import Target


@dataclass(frozen=True, slots=True)
class Recorded(Fault):
    """Notes what is called, and at which instruction."""

    label: str
    log: list[tuple[str, str, int]] = field(default_factory=list)
    holds: bool = True
    ends: bool = True

    def inject(self, target: Target) -> Injection:
        """Note the call."""
        clock = target.vm.machine.clock

        def note(what: str) -> None:
            self.log.append((self.label, what, clock.retired))

        note("inject")
        return Injection(
            Status.INJECTED,
            self.label,
            (lambda: note("hold")) if self.holds else None,
            (lambda: note("end")) if self.ends else None,
        )


@dataclass(frozen=True, slots=True)
class Impossible(Fault):
    """Finds nothing that it could change."""

    def inject(self, target: Target) -> Injection:
        """Refuse."""
        return invalid(f"vCPU {target.vcpu.index} has no such register")


def run(*faults: PlannedFault, guest: str = "remap") -> Injector:
    vmm = machine(guest)
    with Injector(vmm.vm, faults) as injector:
        vmm.run(guest)
    return injector


def test_every_fault_ends_as_injected_not_reached_or_invalid() -> None:
    injector = run(
        PlannedFault(Retired(10), Nothing()),
        PlannedFault(Retired(1 << 40), Nothing()),
        PlannedFault(Retired(11), Impossible()),
    )
    injected, missed, refused = injector.records
    assert injected[:3] == (Status.INJECTED, "nothing", 10)
    assert injected.vcpu == 0
    assert missed == (Status.NOT_REACHED, "its trigger did not come", None, None, None)
    assert refused[:3] == (Status.INVALID, "vCPU 0 has no such register", 11)


def test_faults_of_one_moment_are_injected_in_their_order() -> None:
    log: list[tuple[str, str, int]] = []
    faults = [
        PlannedFault(Retired(5), Recorded(label, log, holds=False, ends=False)) for label in "bca"
    ]
    run(*faults)
    assert [label for label, _, _ in log] == ["b", "c", "a"]


def test_a_fault_is_held_before_each_instruction_of_its_life_and_then_taken_away() -> None:
    fault = Recorded("x")
    run(PlannedFault(Retired(2000), fault, lifespan=5))
    held = [("x", "hold", n) for n in range(2001, 2005)]
    assert fault.log == [("x", "inject", 2000), *held, ("x", "end", 2005)]


def test_a_fault_without_an_end_to_its_life_is_held_to_the_end_of_the_run() -> None:
    total = observe("remap")[0].result.instructions
    fault = Recorded("x")
    run(PlannedFault(Retired(total - 3), fault))
    assert [what for _, what, _ in fault.log] == ["inject", "hold", "hold", "end"]


def test_a_fault_that_does_not_stay_costs_no_steps_for_its_life() -> None:
    vmm = machine("remap")
    fault = Recorded("x", holds=False)
    with Injector(vmm.vm, [PlannedFault(Retired(10), fault, lifespan=100)]):
        vmm.monitor.run(50)
        assert not vmm.pe.probe.each
        vmm.monitor.run(200)
    assert fault.log == [("x", "inject", 10), ("x", "end", 110)]


def test_lives_of_two_faults_do_not_meddle_with_each_other() -> None:
    log: list[tuple[str, str, int]] = []
    run(
        PlannedFault(Retired(100), Recorded("a", log), lifespan=3),
        PlannedFault(Retired(101), Recorded("b", log), lifespan=1),
    )
    assert log == [
        ("a", "inject", 100),
        ("b", "inject", 101),
        ("a", "hold", 101),
        ("b", "end", 102),
        ("a", "hold", 102),
        ("a", "end", 103),
    ]


def test_disarming_takes_away_what_lasts_and_waits_for_nothing_more() -> None:
    vmm = machine("remap")
    lasting, later = Recorded("a", holds=False), Nothing()
    faults = [PlannedFault(Retired(10), lasting), PlannedFault(Retired(1000), later)]
    injector = Injector(vmm.vm, faults)
    injector.arm()
    vmm.monitor.run(500)
    injector.disarm()
    injector.disarm()
    assert lasting.log == [("a", "inject", 10), ("a", "end", 500)]
    vmm.run("remap")
    assert not later.seen
    assert injector.records[1].status is Status.NOT_REACHED
    assert not vmm.pe.probe.armed


def test_two_injectors_cannot_be_armed_at_once() -> None:
    vmm = machine("hello")
    with Injector(vmm.vm, []), pytest.raises(ValueError, match="disarm"):
        Injector(vmm.vm, []).arm()
    Injector(vmm.vm, []).arm()


def test_an_injector_can_be_armed_for_one_run_after_the_other() -> None:
    vmm = machine("remap")
    injector = Injector(vmm.vm, [])
    for n in range(5, 500, 7):
        fault = Nothing()
        injector.arm([PlannedFault(Retired(n), fault)])
        assert injector.records[0].status is Status.NOT_REACHED
        vmm.monitor.run(n + 1)
        assert injector.records[0].at == n
        injector.disarm()


def test_an_error_of_a_fault_model_comes_out_of_the_run() -> None:
    @dataclass(frozen=True)
    class Broken(Fault):
        def inject(self, _target: Target) -> Injection:
            raise ZeroDivisionError

    vmm = machine("hello")
    with (
        pytest.raises(ZeroDivisionError),
        Injector(vmm.vm, [PlannedFault(Retired(5), Broken())]),
    ):
        vmm.run("hello")
    assert not vmm.pe.probe.armed


def test_a_fault_may_change_where_the_guest_goes_on() -> None:
    from emu.arch.registers.exceptions import ELR_EL2  # noqa: PLC0415

    @dataclass(frozen=True)
    class Skip(Fault):
        def inject(self, target: Target) -> Injection:
            target.vcpu.write(ELR_EL2(target.vcpu.pc + 4))
            return Injection(Status.INJECTED, "skipped")

    vmm = machine("hello")
    after = Nothing()
    with Injector(
        vmm.vm, [PlannedFault(Retired(5), Skip()), PlannedFault(Retired(5), after)]
    ) as injector:
        vmm.monitor.run(6)
    at = injector.records[0].pc
    assert at is not None
    assert after.seen == [(5, at + 4, 0)]
    assert vmm.vcpu.pc == at + 8
