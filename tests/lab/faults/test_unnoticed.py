"""Whatever is waited for, a run in which nothing is changed is the same run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.faults.planned import PlannedFault
from lab.faults.triggers.access import Access
from lab.faults.triggers.code import Pc
from lab.faults.triggers.combined import All, Any, Delay, Then
from lab.faults.triggers.event import EVENTS, Event
from lab.faults.triggers.exceptions import ExceptionTaken, Level
from lab.faults.triggers.maintenance import Maintenance
from lab.faults.triggers.retired import Retired
from tests.lab.faults.observed import Nothing, Observed, observe

if TYPE_CHECKING:
    from lab.faults.trigger import Trigger
    from tests.lab.faults.observed import Options

CODE = 0x4008_0000
COUNTS = st.integers(1, 60)
SIMPLE = st.one_of(
    st.builds(Retired, st.integers(0, 6000)),
    st.builds(Pc, st.integers(0, 0x700).map(lambda n: CODE + 4 * n), nth=COUNTS),
    st.builds(Event, st.sampled_from(sorted(EVENTS)), nth=COUNTS),
    st.builds(ExceptionTaken, st.sampled_from([None, 1, 2]), nth=COUNTS),
    st.builds(Level, st.sampled_from([None, 0, 1]), nth=COUNTS),
    st.builds(Maintenance, st.sampled_from(["TLBI", "DC", "IC"]), nth=COUNTS),
)
TRIGGERS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(All, st.tuples(inner, inner)),
        st.builds(Any, st.tuples(inner, inner)),
        st.builds(Then, inner, inner),
        st.builds(Delay, inner, st.integers(1, 500)),
    ),
    max_leaves=4,
)
GUESTS = ("remap", "el0", "timer_irq", "self_modify")
FOUR: Options = {"smp": 4, "seed": 3, "quantum": 50}


@cache
def alone(guest: str) -> Observed:
    return observe(guest, armed=False)[0]


@given(
    guest=st.sampled_from(GUESTS),
    triggers=st.lists(TRIGGERS, min_size=1, max_size=3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_triggers_are_not_noticed(guest: str, triggers: list[Trigger]) -> None:
    seen, _ = observe(guest, [PlannedFault(trigger, Nothing()) for trigger in triggers])
    assert seen == alone(guest)


@given(triggers=st.lists(TRIGGERS, min_size=1, max_size=3), seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_triggers_are_not_noticed_by_several_cpus(triggers: list[Trigger], seed: int) -> None:
    options: Options = {**FOUR, "seed": seed}
    quiet, _ = observe("smp_tlbi", options=options, armed=False)
    faults = [PlannedFault(trigger, Nothing()) for trigger in triggers]
    assert observe("smp_tlbi", faults, options)[0] == quiet


@given(
    guest=st.sampled_from(GUESTS),
    trigger=SIMPLE,
    address=st.sampled_from([0, 0x0900_0000, 0x4008_0000, 0x4100_1000]),
    kind=st.sampled_from(["read", "write", "any"]),
    space=st.sampled_from(["va", "pa", "ipa"]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_watching_memory_shows_in_no_trace(
    guest: str, trigger: Trigger, address: int, kind: str, space: str
) -> None:
    watching = Access(address, 0x1000, space, kind, nth=5)
    seen, _ = observe(guest, [PlannedFault(Any((watching, trigger)), Nothing())])
    assert seen.trace == alone(guest).trace
    assert seen.registers == alone(guest).registers
