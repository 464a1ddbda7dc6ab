"""From a campaign to its plan."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING, NamedTuple

from lab.campaign.draw import draw
from lab.campaign.facts import check_golden, facts_of
from lab.campaign.golden import GoldenRecorder
from lab.campaign.plan import Experiment, Experiments, Plan
from lab.campaign.space import enumerate_space
from lab.campaign.spec import TOUCHED
from lab.campaign.statistics import planned_size
from lab.campaign.symbols import ranges
from lab.campaign.trace import Trace
from lab.disk import open_drives
from lab.vmm import Vmm

if TYPE_CHECKING:
    from lab.campaign.outcome import RunFacts
    from lab.campaign.prepare import Prepared
    from lab.campaign.space import Space
    from lab.campaign.spec import Campaign, FaultSpace, Sampling


class Golden(NamedTuple):
    """The golden run of a campaign, as the plan needs it."""

    trace: Trace
    """With nothing but its length where nothing else is asked for."""
    facts: RunFacts


def plan_campaign(prepared: Prepared) -> Plan:
    """Run the guest without faults, and plan what to run of the campaign's fault space.

    Raises
    ------
    UserError
        If the guest does not end by itself, or the campaign asks for what there is not.
    """
    return make_plan(prepared, record(prepared))


def record(prepared: Prepared) -> Golden:
    """Run the guest without faults.

    Raises
    ------
    UserError
        If it does not end by itself.
    """
    campaign, config, image = prepared.campaign, prepared.config, prepared.image
    with open_drives(config.drives) as disks:
        if campaign.prune or any(map(_needs_trace, _all_spaces(campaign))):
            vmm = Vmm(config, image, disks=disks)
            end, trace = GoldenRecorder(vmm).run()
        else:
            vmm = Vmm(config, image, disks=disks)
            end, length = vmm.run_to_end()
            trace = Trace.of_length(length)
        facts = facts_of(vmm, end)
    check_golden(campaign, facts)
    return Golden(trace, facts)


def make_plan(prepared: Prepared, golden: Golden) -> Plan:
    """Return the plan of a campaign whose golden run is known.

    Raises
    ------
    UserError
        If the campaign asks for symbols or moments that there are not.
    """
    campaign, trace = prepared.campaign, golden.trace
    space = enumerate_space(campaign, trace, _symbols(prepared))
    known = hashlib.sha256(f"{prepared.hash} {trace.digest()}".encode()).hexdigest()
    if campaign.sample is not None:
        return _sampled(campaign.sample, campaign.seed, space, golden.facts, known)
    return Plan(
        experiments=Experiments(len(space), lambda i: _experiment(space, i, i)),
        size=space.size,
        classes=len(space),
        masked=space.size - space.live,
        golden=golden.facts,
        hash=known,
    )


def _symbols(prepared: Prepared) -> dict[str, range]:
    """Return the guest's symbols if the campaign names some."""
    if any(space.when.symbols for space in _all_spaces(prepared.campaign)):
        return ranges(prepared.symbols, prepared.campaign.guest)
    return {}


def _needs_trace(space: FaultSpace) -> bool:
    """Whether what the golden run does decides which faults there are."""
    return bool(space.when.symbols) or space.parameters.get("address") == TOUCHED


def _all_spaces(campaign: Campaign) -> list[FaultSpace]:
    return [member for space in campaign.spaces for member in (space, *space.also)]


def _sampled(sample: Sampling, seed: int, space: Space, golden: RunFacts, known: str) -> Plan:
    by_lifetime = sample.weighting == "lifetime"
    population = space.live if by_lifetime else len(space)
    n = sample.n
    if n is None:
        assert sample.margin is not None, "Sampling has one of them"
        n = planned_size(sample.margin, sample.confidence, population)
    numbers: dict[int, int] = {}
    chosen, weights, draws = array("Q"), array("Q"), array("Q")
    for drawn in draw(population, n, seed):
        class_ = space.class_at(drawn) if by_lifetime else drawn
        number = numbers.setdefault(class_, len(numbers))
        if number == len(chosen):
            chosen.append(class_)
            weights.append(0)
        weights[number] += 1
        draws.append(number)

    def make(number: int) -> Experiment:
        weight = weights[number] if by_lifetime else None
        return _experiment(space, number, chosen[number], weight)

    return Plan(
        experiments=Experiments(len(chosen), make),
        size=space.size,
        classes=len(space),
        masked=space.size - space.live,
        golden=golden,
        hash=known,
        draws=draws,
        by_lifetime=by_lifetime,
        confidence=sample.confidence,
        stop_margin=sample.margin if sample.sequential else None,
    )


def _experiment(space: Space, number: int, class_: int, weight: int | None = None) -> Experiment:
    member = space[class_]
    return Experiment(
        number,
        member.faults,
        member.weight if weight is None else weight,
        member.location,
        member.bit,
        member.time,
    )
