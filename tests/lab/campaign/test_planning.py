from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.address import IPA
from lab.campaign.draw import draw
from lab.campaign.estimate import MASKED
from lab.campaign.identity import identity
from lab.campaign.outcome import RunFacts
from lab.campaign.plan import Experiment, Experiments, Plan
from lab.campaign.planning import Golden, make_plan, plan_campaign
from lab.campaign.prepare import Prepared, prepare
from lab.campaign.spec import Campaign, FaultSpace, Sampling, When
from lab.campaign.statistics import Interval
from lab.campaign.trace import Trace
from lab.config import RunConfig
from lab.errors import UserError
from lab.faults.models.registers import RegisterFlip
from lab.faults.planned import PlannedFault
from lab.faults.triggers.code import Pc
from lab.faults.triggers.retired import Retired
from lab.loader.image import Image, ImageKind
from lab.monitor import EndReason

if TYPE_CHECKING:
    from pathlib import Path

X0 = FaultSpace(model="register-flip", parameters={"register": ["x0", "x1"], "bit": range(3)})


def small_trace() -> Trace:
    """Return ten instructions: x0 is written by 2, read by 6 and 7; x1 is read by 9."""
    trace = Trace()
    for time in range(10):
        trace.instruction(0, 0x1000 + 4 * time)
    trace.register(2, 0, "x0", reads=False)
    trace.register(6, 0, "x0", reads=True)
    trace.register(7, 0, "x0", reads=True)
    trace.register(9, 0, "x1", reads=True)
    return trace


def campaign(*spaces: FaultSpace, **given: Any) -> Campaign:  # noqa: ANN401  # its fields
    return Campaign(name="c", guest="g", spaces=spaces or (X0,), **given)


@pytest.fixture(name="image")
def image_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "guest"
    path.write_bytes(b"guest")
    return path


FACTS = RunFacts(EndReason.POWER_OFF, "PSCI SYSTEM_OFF", 0, "", 10)


def plan_of(
    image: Path, what: Campaign, trace: Trace | None = None, config: RunConfig | None = None
) -> Plan:
    config = config or RunConfig()
    known = identity(what, config, image)
    prepared = Prepared(what, config, Image((), IPA(0), ImageKind.FLAT), None, "", (), known)
    return make_plan(prepared, Golden(trace or small_trace(), FACTS))


def test_one_fault_of_each_class_is_run(image: Path) -> None:
    plan = plan_of(image, campaign())
    assert (plan.size, plan.classes, plan.masked) == (60, 9, 15)
    assert [(e.location, e.bit, e.time, e.weight) for e in plan.experiments] == [
        *(("x0", bit, time, weight) for bit in range(3) for time, weight in ((6, 4), (7, 1))),
        *(("x1", bit, 9, 10) for bit in range(3)),
    ]
    assert sum(e.weight for e in plan.experiments) + plan.masked == plan.size
    assert [e.id for e in plan.experiments] == list(range(9))
    assert plan.experiments[1].faults == (
        PlannedFault(Retired(count=7), RegisterFlip(register="x0", bit=0)),
    )


def test_every_fault_is_run_where_nothing_is_pruned(image: Path) -> None:
    plan = plan_of(image, campaign(prune=False))
    assert (plan.size, plan.classes, plan.masked) == (60, 60, 0)
    assert [e.time for e in plan.experiments[:10]] == list(range(10))


def test_each_vcpu_has_registers_of_its_own(image: Path) -> None:
    trace = Trace()
    for time in range(8):
        trace.instruction(time // 2 % 2, 0x1000)  # 0 0 1 1 0 0 1 1
    trace.register(5, 0, "x0", reads=True)
    trace.register(6, 1, "x0", reads=False)
    trace.register(7, 1, "x0", reads=True)
    one = replace(X0, parameters={"register": "x0", "bit": 0})
    plan = plan_of(image, campaign(one), trace)
    # A fault at 0, 1, 4 and 5 is in vCPU 0; at 2, 3 and 6 it is overwritten in vCPU 1.
    assert [(e.time, e.weight) for e in plan.experiments] == [(5, 4), (7, 1)]
    assert (plan.size, plan.masked) == (8, 3)


def test_windows_cut_classes(image: Path) -> None:
    when = When(windows=(range(4, 6), range(7, 9)))
    plan = plan_of(image, campaign(replace(X0, when=when)))
    assert [(e.time, e.weight) for e in plan.experiments[:2]] == [(5, 2), (7, 1)]
    assert (plan.size, plan.masked) == (24, 3)
    assert [(e.time, e.weight) for e in plan.experiments[6:]] == [(8, 4)] * 3


def test_a_window_behind_the_end_is_refused(image: Path) -> None:
    when = When(windows=(range(4, 11),))
    with pytest.raises(UserError, match=r"the window 4 to 10 goes beyond .* is number 9; end it"):
        plan_of(image, campaign(replace(X0, when=when)))


def test_a_fault_that_stays_has_no_classes(image: Path) -> None:
    space = FaultSpace(
        model="register-stuck",
        parameters={"register": "x0", "bit": 0, "stuck_at": [0, 1]},
        lifespans=(None, 5),
    )
    plan = plan_of(image, campaign(space))
    assert (plan.size, plan.classes) == (40, 40)
    assert {e.faults[0].lifespan for e in plan.experiments} == {None, 5}


def test_other_triggers_are_taken_one_by_one(image: Path) -> None:
    when = When(trigger="pc", parameters={"address": [0x1000, 0x1008], "nth": range(1, 4)})
    plan = plan_of(image, campaign(replace(X0, when=when)))
    assert (plan.size, plan.classes, plan.masked) == (36, 36, 0)
    triggers = [e.faults[0].trigger for e in plan.experiments[:6]]
    assert triggers == [Pc(address=a, nth=n) for a in (0x1000, 0x1008) for n in (1, 2, 3)]
    assert [e.time for e in plan.experiments[:6]] == list(range(6))


def test_several_faults_a_run_are_all_combinations(image: Path) -> None:
    one = FaultSpace(
        model="register-flip",
        parameters={"register": "x0", "bit": 0},
        when=When(windows=(range(2),)),
    )
    other = replace(one, parameters={"register": "x1", "bit": range(3)})
    plan = plan_of(image, campaign(replace(one, also=(other,))))
    assert plan.size == len(plan.experiments) == 2 * 6
    assert len({e.faults for e in plan.experiments}) == 12
    assert all(len(e.faults) == 2 for e in plan.experiments)
    assert plan.experiments[0].location == "x0 + x1"


def test_spaces_stand_one_after_the_other(image: Path) -> None:
    stuck = FaultSpace(
        model="register-stuck", parameters={"register": "x3", "bit": 1, "stuck_at": 0}
    )
    plan = plan_of(image, campaign(X0, stuck))
    assert [e.location.split()[0] for e in plan.experiments] == [
        *["x0"] * 6,
        *["x1"] * 3,
        *["register"] * 10,
    ]


def trace_with_memory() -> Trace:
    trace = small_trace()
    trace.pages = {0x40001: 0x8_0000_5000}
    trace.table_shifts = (39, 30, 21, 12)
    trace.tables = {
        (2, 0x4000_0000): range(0x8_0000_8000, 0x8_0000_9000),
        (3, 0x4000_0000): range(0x8_0000_9000, 0x8_0000_A000),
    }
    trace.memory(1, 0x8_0000_9000, 4096, reads=False)
    trace.memory(3, 0x8_0000_8000, 8, reads=True)
    trace.memory(3, 0x8_0000_9008, 8, reads=True)
    trace.memory(4, 0x8_0000_500A, 4, reads=True)
    trace.memory(5, 0x8_0000_7000, 8, reads=True)  # in no slot
    return trace


def test_addresses_may_be_those_that_the_golden_run_touches(image: Path) -> None:
    def addresses(model: str, **parameters: Any) -> set[int]:  # noqa: ANN401  # of the model
        space = FaultSpace(model=model, parameters={**parameters, "bit": 0, "address": "touched"})
        plan = plan_of(image, campaign(space, prune=False), trace_with_memory())
        return {e.faults[0].fault.address for e in plan.experiments}  # type: ignore[attr-defined]  # of these models

    assert addresses("memory-flip", space="pa") == set(range(0x8_0000_500A, 0x8_0000_500E))
    assert addresses("memory-flip", space="ipa", size=8) == {0x4000_1008}
    assert addresses("descriptor-flip", stage=2, level=3) == {0x4000_1000}
    assert addresses("descriptor-flip", stage=2, level=[1, 2, 3]) == {0x4000_0000, 0x4000_1000}


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("memory-flip", {"space": "va"}, 'is for memory with space "pa" or "ipa"'),
        ("descriptor-flip", {"stage": 1, "level": 3}, "and for descriptors with stage 2"),
        ("descriptor-flip", {"stage": 2}, "stage 2 and a level from 0 to 3"),
        ("descriptor-flip", {"stage": 2, "level": 1}, "is accessed in the golden run; give"),
    ],
)
def test_addresses_that_nothing_touches_are_refused(
    image: Path, model: str, parameters: dict[str, Any], message: str
) -> None:
    space = FaultSpace(model=model, parameters={**parameters, "bit": 0, "address": "touched"})
    with pytest.raises(UserError, match=message):
        plan_of(image, campaign(space), trace_with_memory())


def test_other_faults_have_no_touched_addresses(image: Path) -> None:
    with pytest.raises(UserError, match='address = "touched" is for faults of memory and desc'):
        FaultSpace(model="instruction-flip", parameters={"address": "touched", "bit": 0})
    touched = FaultSpace(
        model="memory-flip", parameters={"space": "pa", "address": "touched", "bit": 0}
    )
    with pytest.raises(UserError, match="is for the first fault of a run; give addresses"):
        plan_of(image, campaign(replace(X0, also=(touched,))), trace_with_memory())


@pytest.mark.parametrize("weighting", ["lifetime", "uniform"])
def test_a_sample_of_everything_is_everything(image: Path, weighting: str) -> None:
    sample = Sampling(n=1000, weighting=weighting)
    plan = plan_of(image, campaign(mode="sample", sample=sample))
    everything = plan_of(image, campaign())
    assert {e[1:] for e in plan.experiments} == {e[1:] for e in everything.experiments}
    assert (plan.size, plan.classes, plan.masked) == (60, 9, 15)
    assert plan.draws is not None
    assert len(plan.draws) == (45 if weighting == "lifetime" else 9)


def test_a_sample_follows_from_its_seed(image: Path) -> None:
    def sampled(seed: int) -> list[Experiment]:
        sample = Sampling(n=4, weighting="uniform")
        return list(plan_of(image, campaign(mode="sample", seed=seed, sample=sample)).experiments)

    assert sampled(1) == sampled(1)
    assert any(sampled(1) != sampled(seed) for seed in (2, 3, 4))


def test_a_margin_gives_the_number_of_draws(image: Path) -> None:
    sample = Sampling(margin=0.1, confidence=0.9)
    plan = plan_of(image, campaign(mode="sample", sample=sample))
    assert plan.draws is not None
    assert len(plan.draws) == 28  # of 45
    assert plan.confidence == 0.9
    assert plan.stop_margin is None


def test_all_that_matters_is_in_the_hash(image: Path) -> None:
    def hash_of(what: Campaign, config: RunConfig | None = None) -> str:
        return plan_of(image, what, config=config).hash

    first = hash_of(campaign())
    assert first == hash_of(campaign())
    assert len(first) == 64
    others = {
        hash_of(campaign(seed=1)),
        hash_of(campaign(replace(X0, lifespans=(3,)))),
        hash_of(campaign(), RunConfig(seed=1)),
        plan_of(image, campaign(), Trace.of_length(10)).hash,
    }
    image.write_bytes(b"another")
    others.add(hash_of(campaign()))
    assert len(others | {first}) == 6


def test_where_the_guest_lies_is_not_in_the_hash(image: Path) -> None:
    moved = image.rename(image.with_name("moved"))
    copy = image
    copy.write_bytes(moved.read_bytes())
    elsewhere = replace(campaign(), guest="elsewhere/g")
    assert plan_of(moved, elsewhere).hash == plan_of(copy, campaign()).hash


def test_experiments_are_a_sequence_that_can_be_sent(image: Path) -> None:
    experiments = plan_of(image, campaign()).experiments
    assert pickle.loads(pickle.dumps(experiments[3])) == experiments[3]  # noqa: S301  # our own
    assert experiments[-1] == experiments[8]
    assert [e.id for e in experiments[2:5]] == [2, 3, 4]
    with pytest.raises(IndexError, match="the plan has 9 experiments, and none of number 9"):
        experiments[9]


def test_a_real_guest_is_planned_without_running_a_fault() -> None:
    space = FaultSpace(
        model="register-flip",
        parameters={"register": ["x0", "x19"], "bit": range(64)},
        when=When(windows=(range(100, 300),)),
    )
    what = Campaign(name="c", guest="hello", spaces=(space,))
    plan, again = plan_campaign(prepare(what)), plan_campaign(prepare(what))
    assert plan.size == 200 * 2 * 64
    assert sum(e.weight for e in plan.experiments) + plan.masked == plan.size
    assert 0 < plan.classes < plan.size / 4
    assert plan.hash == again.hash
    assert list(plan.experiments) == list(again.experiments)
    unpruned = plan_campaign(prepare(replace(what, prune=False)))
    assert unpruned.classes == unpruned.size == plan.size


def test_a_guest_that_does_not_end_has_no_golden_run() -> None:
    what = Campaign(
        name="c", guest="hello", spaces=(X0,), prune=False, machine=("--max-insns", "1")
    )
    limits = replace(what.limits, max_insns=50)
    with pytest.raises(UserError, match=r"the golden run of hello never ended: .*within 50"):
        plan_campaign(prepare(replace(what, limits=limits)))


# --- estimates


def fake(
    weights: list[int],
    masked: int = 0,
    draws: list[int] | None = None,
    **given: Any,  # noqa: ANN401  # of the plan
) -> Plan:
    return Plan(
        experiments=Experiments(
            len(weights), lambda i: Experiment(i, (), weights[i], "x0", None, i)
        ),
        size=sum(weights) + masked if draws is None else 1000,
        classes=len(weights),
        masked=masked,
        hash="",
        draws=draws,
        **given,
    )


def test_an_exhaustive_campaign_is_certain() -> None:
    plan = fake([4, 1, 5], masked=10)
    assert plan.estimate({0: "crash", 1: "masked", 2: "crash"}) == {
        "crash": Interval(0.45, 0.45, 0.45),
        "masked": Interval(0.55, 0.55, 0.55),
    }
    assert not plan.is_enough({0: "crash", 1: "masked", 2: "crash"})


def test_what_is_masked_without_a_run_is_certain_in_a_sample_too() -> None:
    plan = fake([1, 1], masked=600, draws=[0, 1, 0, 0])
    found = plan.estimate({0: "crash", 1: MASKED})
    assert found["crash"].estimate == pytest.approx(0.4 * 0.75)
    assert found[MASKED].estimate == pytest.approx(0.6 + 0.4 * 0.25)
    assert found[MASKED].low > 0.6


def test_a_sample_counts_up_to_the_first_run_that_is_missing() -> None:
    plan = fake([1, 1, 1], draws=[0, 1, 2, 2, 2])
    assert plan.estimate({0: "crash", 2: "hang"}).keys() == {"crash"}


def test_a_sample_of_classes_counts_them_by_their_lifetime() -> None:
    plan = fake([1, 99], draws=[0, 1], by_lifetime=False)
    assert plan.estimate({0: "crash", 1: "hang"})["hang"].estimate == 0.99


def test_a_sample_ends_when_its_intervals_are_narrow() -> None:
    draws = list(range(400))
    plan = fake([1] * 400, draws=draws, stop_margin=0.05)
    few = dict.fromkeys(range(40), "crash")
    assert not plan.is_enough(few)
    assert plan.is_enough(dict.fromkeys(range(200), "crash"))
    mixed = {i: "crash" if i % 2 else "hang" for i in range(200)}
    assert not plan.is_enough(mixed)
    assert not replace(plan, stop_margin=None).is_enough(dict.fromkeys(range(400), "crash"))


def test_a_sample_that_ends_early_still_covers_the_truth() -> None:
    size, share = 20_000, 0.1
    covered = []
    for seed in range(200):
        drawn = list(draw(size, 1000, seed))
        plan = replace(fake([1] * 1000, draws=list(range(1000)), stop_margin=0.04), size=size)
        outcomes: dict[int, str] = {}
        for number, fault in enumerate(drawn):
            outcomes[number] = "crash" if fault < share * size else MASKED
            if number % 50 == 49 and plan.is_enough(outcomes):
                break
        assert 100 <= len(outcomes) < 1000
        found = plan.estimate(outcomes)["crash"]
        covered.append(found.low <= share <= found.high)
    assert 0.9 <= sum(covered) / len(covered) <= 0.99


def test_nothing_is_known_of_an_empty_space() -> None:
    assert fake([]).estimate({}) == {}
