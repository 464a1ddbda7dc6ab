"""Each trigger comes before the instruction that it names, and is not noticed."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import VA
from emu.arch.registers.exceptions import ELR_EL2, ESR_EL1, ESR_EL2
from lab.errors import UserError
from lab.faults.fault import Fault, Injection, Status
from lab.faults.injector import Injector
from lab.faults.planned import PlannedFault
from lab.faults.triggers.code import Pc, Symbol
from lab.faults.triggers.combined import All, Any, Delay, Then
from lab.faults.triggers.event import Event
from lab.faults.triggers.exceptions import ExceptionTaken, Level
from lab.faults.triggers.maintenance import Maintenance
from lab.faults.triggers.predicate import Predicate
from lab.faults.triggers.retired import Retired
from lab.loader import symbols
from tests.lab.faults.observed import SMP, Nothing, machine, observe, once

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.events import Event as HypervisorEvent
    from lab.faults.target import Target
    from lab.faults.trigger import Trigger
    from lab.vmm import Vmm
    from tests.lab.faults.observed import Options

HELPER = "tests.lab.faults.test_triggers"
SVC64 = 0x15
UNFETCHABLE = 0xC000_0000
"""Where one guest jumps, and must not."""
ENTRY = 0x4008_0000
ALONE: Options = {}
STEPS: dict[tuple[str, int], list[tuple[int, int, int, int]]] = {}
"""By guest and number of options."""


def steps(guest: str, options: Options = ALONE) -> list[tuple[int, int, int, int]]:
    """Return what is executed, one by one: retired before it, PC, vCPU and Exception level."""
    if (guest, len(options)) in STEPS:
        return STEPS[guest, len(options)]
    found = STEPS[guest, len(options)] = []

    def note(target: Target) -> bool:
        vcpu = target.vcpu
        level = int(vcpu.pstate) >> 2 & 3
        found.append((target.vm.machine.clock.retired, vcpu.pc, vcpu.index, level))
        return False

    globals()["note"] = note
    observe(guest, [PlannedFault(Predicate(f"{HELPER}:note"), Nothing())], options)
    return found


@dataclass(frozen=True, slots=True)
class Look(Fault):
    """Looks at the machine."""

    look: Callable[[Target], object]
    seen: list[object]

    def inject(self, target: Target) -> Injection:
        """Change nothing."""
        self.seen.append(self.look(target))
        return Injection(Status.INJECTED, "looked")


def looked(guest: str, trigger: Trigger, look: Callable[[Target], object]) -> list[object]:
    seen: list[object] = []
    observe(guest, [PlannedFault(trigger, Look(look, seen))])
    return seen


@pytest.mark.parametrize(("guest", "options"), [("el0", {}), ("smp_lock", SMP)])
def test_a_predicate_is_asked_before_each_instruction_and_changes_nothing(
    guest: str, options: Options
) -> None:
    alone, _ = observe(guest, options=options, armed=False)
    executed = steps(guest, options)
    assert sorted({retired for retired, *_ in executed}) == list(range(alone.result.instructions))


@pytest.mark.parametrize(("guest", "options"), [("el0", {}), ("smp_lock", SMP)])
@pytest.mark.parametrize("nth", [1, 30])
def test_an_address_is_counted_each_time_that_it_is_executed(
    guest: str, options: Options, nth: int
) -> None:
    executed = steps(guest, options)
    counts: dict[int, int] = {}
    for _, pc, _, _ in executed:
        if pc == UNFETCHABLE:
            continue  # there is no instruction
        counts[pc] = counts.get(pc, 0) + 1
    busy = [pc for pc in sorted(counts) if counts[pc] >= nth]
    for pc in busy[:: max(1, len(busy) // 3)]:
        retired, _, vcpu, _ = [step for step in executed if step[1] == pc][nth - 1]
        assert once(Pc(pc, nth=nth), guest, options) == (retired, pc, vcpu)


def test_an_address_can_be_awaited_on_one_vcpu() -> None:
    executed = [step for step in steps("smp_lock", SMP) if step[2] == 2]
    retired, pc, _, _ = executed[len(executed) // 2]
    nth = [step[1] for step in executed if step[0] <= retired].count(pc)
    assert once(Pc(pc, nth=nth, vcpu=2), "smp_lock", SMP) == (retired, pc, 2)


def test_an_address_can_be_awaited_at_one_exception_level_or_with_one_asid() -> None:
    pc = next(pc for _, pc, _, level in steps("el0") if level == 0)
    assert once(Pc(pc, el=0), "el0") is not None
    assert once(Pc(pc, el=1), "el0") is None
    found = looked("el0", Pc(pc), lambda target: target.pe.probe.asid)
    assert isinstance(found[0], int)
    assert once(Pc(pc, asid=found[0]), "el0") is not None
    assert once(Pc(pc, asid=found[0] + 1), "el0") is None


def test_an_address_that_is_passed_no_more_costs_no_calls() -> None:
    vmm = machine("remap")
    with Injector(vmm.vm, [PlannedFault(Pc(ENTRY), Nothing())]):
        vmm.monitor.run(5)
        assert vmm.pe.probe.addresses == frozenset()
    assert not vmm.pe.probe.armed


def test_hooks_do_not_become_more_with_each_address() -> None:
    vmm = machine("remap")
    injector = Injector(vmm.vm, [])
    engine = vmm.pe.engine
    for n in range(20):
        injector.arm([PlannedFault(Pc(ENTRY + 0x1000 + 4 * n), Nothing())])
        vmm.monitor.run(vmm.retired + 10)
        injector.disarm()
    assert len(engine._breaks) + len(engine._spare_breaks) == 1  # what is counted


def test_a_symbol_is_an_address() -> None:
    table = symbols.Symbols([symbols.Symbol("start", VA(ENTRY), 64)])
    vmm, fault = machine("hello"), Nothing()
    trigger = Symbol("start", 8)
    with Injector(vmm.vm, [PlannedFault(trigger, fault)], table):
        vmm.run("hello")
    assert fault.seen == [(2, ENTRY + 8, 0)]
    with pytest.raises(UserError, match="no symbol strat; did you mean start"):
        Injector(vmm.vm, [PlannedFault(Symbol("strat"), fault)], table).arm()
    with pytest.raises(UserError, match="no symbol table"):
        Injector(vmm.vm, [PlannedFault(trigger, fault)]).arm()


def test_changes_of_the_exception_level_are_noticed_at_the_first_instruction() -> None:
    executed = steps("el0")
    changes = [now for before, now in pairwise(executed) if before[3] != now[3]]
    assert len(changes) > 3
    for nth, (retired, pc, vcpu, _) in enumerate(changes, 1):
        assert once(Level(nth=nth), "el0") == (retired, pc, vcpu)
    to_user = [change for change in changes if change[3] == 0]
    assert once(Level(0, nth=len(to_user)), "el0") == to_user[-1][:3]
    assert once(Level(0, nth=len(to_user) + 1), "el0") is None


def test_an_exception_to_el1_has_been_taken_and_its_handler_not_begun() -> None:
    svc = ExceptionTaken(ec="SVC64")
    (found,) = looked("el0", svc, lambda target: (target.pe.read(ESR_EL1) >> 26, target.vcpu.pc))
    assert isinstance(found, tuple)
    assert found[0] == SVC64
    assert found[1] % 0x80 == 0
    assert looked("el0", ExceptionTaken(ec=SVC64), lambda target: target.vcpu.pc) == [found[1]]


def test_an_exception_to_el2_has_been_taken_and_nothing_done_about_it() -> None:
    trigger = ExceptionTaken(target=2, ec="DABT_LOW", nth=2)
    seen = looked(
        "remap",
        trigger,
        lambda target: (
            target.pe.read(ESR_EL2) >> 26,
            target.vm.stats.traps[0x24],
            int(target.pe.read(ELR_EL2)) == int(target.vcpu.pc),
        ),
    )
    assert seen == [(0x24, 1, True)]


def test_what_the_hypervisor_injects_is_an_exception_too() -> None:
    assert (
        once(ExceptionTaken(target=1, kind="synchronous"), "mmio_nisv", {"nisv_to_user": 1})
        is not None
    )


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_maintenance_has_not_been_done(nth: int) -> None:
    seen = looked("remap", Maintenance("TLBI", nth=nth), lambda target: target.pe.tlbi_count)
    assert seen == [nth]  # the hypervisor's own comes first


def test_maintenance_is_awaited_by_its_name() -> None:
    assert once(Maintenance("IC IVAU"), "self_modify") is not None
    assert once(Maintenance("IC IALLU"), "self_modify") is None
    assert once(Maintenance("DC"), "self_modify") is not None
    with pytest.raises(UserError, match="no operation 'IC IVAC'; did you mean"):
        Maintenance("IC IVAC")


def test_an_event_is_awaited_by_its_fields() -> None:
    def exits(target: Target) -> int:
        return target.vm.stats.traps[0x24]

    second = Event("kvm_exit", {"esr_ec": 0x24}, nth=2)
    assert looked("remap", second, exits) == [1]
    assert looked("remap", Event("kvm_exit", where={"ret": "irq"}), exits) == []
    found = observe("remap", [PlannedFault(Event("kvm_guest_fault", nth=3), Nothing())])[1]
    faults = [line for line in observe("remap")[0].trace.splitlines() if "guest_fault" in line]
    assert f"pc {found[0].pc:#016x}" in faults[2]


def test_an_event_can_be_chosen_by_a_function() -> None:
    trigger = Event("kvm_guest_fault", function=f"{HELPER}:is_late")
    (found,) = looked("remap", trigger, lambda target: target.pe.retired)
    assert isinstance(found, int)
    assert found > 1000


def is_late(event: HypervisorEvent) -> bool:
    return event.time > 1000


def test_a_tlb_fill_is_there_and_the_access_is_still_to_come() -> None:
    va = 0x4008_1000
    trigger = Event("tlb_fill", {"va": va})
    (found,) = looked("remap", trigger, lambda t: (t.pe.mmu.holds(VA(va)), t.pe.retired))
    line = next(x for x in observe("remap")[0].trace.splitlines() if "va 0x4008_1000" in x)
    assert found == (True, int(line.split()[2].rstrip(":")))


def test_a_guests_tlbi_is_done_and_nothing_behind_it() -> None:
    before = once(Maintenance("TLBI", nth=2), "remap")
    behind = once(Event("tlb_invalidate", nth=3), "remap")  # the hypervisor's own is the first
    assert before is not None
    assert behind == (before[0] + 1, before[1] + 4, 0)


def test_events_that_there_are_not_are_refused() -> None:
    with pytest.raises(UserError, match="no event is called 'kvm_exits'; did you mean kvm_exit"):
        Event("kvm_exits")
    with pytest.raises(UserError, match="has no field 'ec'; its fields are vcpu, time, ret"):
        Event("kvm_exit", {"ec": 1})


CASES: list[tuple[str, Options, Trigger]] = [
    ("remap", {}, Pc(1074271816, nth=20)),
    ("remap", {}, ExceptionTaken()),
    ("remap", {}, ExceptionTaken(nth=3, target=2)),
    ("remap", {}, ExceptionTaken(target=1)),
    ("remap", {}, Maintenance("TLBI", nth=3)),
    ("el0", {}, Level(nth=1)),
    ("el0", {}, Level(nth=4)),
    ("el0", {}, Level(nth=1000)),
    ("timer_irq", {}, ExceptionTaken(kind="irq", target=1, nth=3)),
    ("timer_irq", {}, ExceptionTaken(kind="irq", target=2, nth=3)),
    ("smp_tlbi", SMP, Maintenance("TLBI", nth=5)),
    ("smp_tlbi", SMP, Maintenance("TLBI", nth=500)),
    ("smp_tlbi", SMP, Delay(Maintenance("TLBI", nth=3), 17)),
    ("self_modify", {}, Maintenance("IC")),
    ("self_modify", {}, Maintenance("DC")),
    ("remap", {}, Event("kvm_exit", nth=3)),
    ("remap", {}, Event("stage2_install", nth=3)),
    ("remap", {}, Event("tlb_fill", nth=9)),
    ("remap", {}, Event("tlb_invalidate", nth=3)),
    ("smp_tlbi", SMP, Event("tlb_invalidate", nth=9)),
    ("self_modify", {}, Event("cache_maintenance_op", {"operation": "IVAU"})),
    ("timer_irq", {}, Event("kvm_timer_update_irq", nth=2)),
]


@pytest.mark.parametrize(("guest", "options", "trigger"), CASES)
def test_injecting_nothing_changes_nothing(guest: str, options: Options, trigger: Trigger) -> None:
    alone, _ = observe(guest, options=options, armed=False)
    seen, _ = observe(guest, [PlannedFault(trigger, Nothing())], options)
    assert seen == alone


@pytest.mark.parametrize("trigger", [case[2] for case in CASES])
def test_triggers_can_be_pickled(trigger: Trigger) -> None:
    assert pickle.loads(pickle.dumps(trigger)) == trigger  # noqa: S301  # our own


A, B = Retired(100), Retired(200)


@pytest.mark.parametrize(
    ("trigger", "at"),
    [
        (All((B, A)), 200),
        (Any((B, A)), 100),
        (Then(A, B), 200),
        (Then(B, A), None),
        (Then(A, Predicate(f"{HELPER}:always")), 101),
        (Delay(A, 1), 101),
        (Delay(Any((A, B)), 150), 250),
        (Any((Then(A, Delay(B, 5)), Retired(300))), 205),
        (All((Predicate(f"{HELPER}:always"), A)), 100),
    ],
)
def test_combined_triggers(trigger: Trigger, at: int | None) -> None:
    found = once(trigger, "remap")
    assert (None if found is None else found[0]) == at


def always(_target: Target) -> bool:
    return True


NO_FUNCTION = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: Pc(ENTRY + 2), "multiple of 4"),
        (lambda _: Symbol("main", 2), "multiple of 4"),
        (lambda _: All(()), "at least one trigger"),
        (lambda _: Any(()), "at least one trigger"),
        (lambda _: ExceptionTaken(ec="DATA"), "ec is a number or one of UNKNOWN"),
        (lambda _: ExceptionTaken(ec=64), "ec is 0 to 63, not 64"),
        (lambda _: ExceptionTaken(target=3), "one of None, 1, 2"),
        (lambda vmm: arm(vmm, Predicate("nothing")), "module:name"),
        (lambda vmm: arm(vmm, Predicate("no_such_module:f")), "cannot import"),
        (lambda vmm: arm(vmm, Predicate(f"{HELPER}:nothing")), "has no nothing"),
        (lambda vmm: arm(vmm, Predicate(f"{HELPER}:NO_FUNCTION")), "no function but int"),
    ],
)
def test_impossible_triggers_are_refused(make: Callable[[Vmm], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(machine("hello"))


def arm(vmm: Vmm, trigger: Trigger) -> None:
    Injector(vmm.vm, [PlannedFault(trigger, Nothing())]).arm()
