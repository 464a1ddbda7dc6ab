"""From a campaign to its plan."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from lab.campaign.draw import draw
from lab.campaign.golden import GoldenRecorder
from lab.campaign.plan import Experiment, Experiments, Plan
from lab.campaign.provenance import plan_hash
from lab.campaign.space import enumerate_space
from lab.campaign.statistics import planned_size
from lab.campaign.symbols import symbols_of
from lab.campaign.trace import Trace
from lab.campaign.watched import WatchedMemory
from lab.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.space import Space
    from lab.campaign.spec import Campaign, FaultSpace, Sampling
    from lab.config import RunConfig
    from lab.monitor import End


class Golden(NamedTuple):
    """The golden run of a campaign, as the plan needs it."""

    trace: Trace
    """With nothing but its length where nothing else is asked for."""
    end: End


def plan_campaign(campaign: Campaign) -> Plan:
    """Run the guest without faults, and plan what to run of the campaign's fault space.

    Raises
    ------
    UserError
        If the guest cannot be run, does not end by itself, or the campaign asks for what there
        is not.
    """
    from lab.target import open_target  # noqa: PLC0415  # start-up time

    with open_target(campaign.guest) as target:
        config = campaign.configuration(target)
        golden = record(campaign, config, target.image)
        return make_plan(campaign, config, target.image, golden.trace)


def record(campaign: Campaign, config: RunConfig, path: Path) -> Golden:
    """Run the guest without faults.

    Raises
    ------
    UserError
        If it cannot be loaded, or does not end by itself.
    """
    from lab.disk import open_drives  # noqa: PLC0415  # start-up time
    from lab.loader import load  # noqa: PLC0415
    from lab.vmm import Vmm  # noqa: PLC0415

    config.check()
    image = load(path, config.memory, config.flash)
    with open_drives(config.drives) as disks:
        if campaign.prune or any(space.when.symbols for space in _all_spaces(campaign)):
            vmm = Vmm(config, image, disks=disks, memory_kind=WatchedMemory)
            end, trace = GoldenRecorder(vmm).run()
        else:
            vmm = Vmm(config, image, disks=disks)
            end, length = vmm.run_to_end()
            trace = Trace.of_length(length)
    if not end.reason.is_normal:
        raise UserError(
            f"the golden run of {campaign.guest} {end.reason.value}: {end.detail}; a campaign "
            "needs a guest that ends by itself, and max-insns that let it"
        )
    return Golden(trace, end)


def make_plan(campaign: Campaign, config: RunConfig, image: Path, golden: Trace) -> Plan:
    """Return the plan of a campaign whose golden run is known.

    Parameters
    ----------
    campaign : Campaign
        The campaign.
    config : RunConfig
        Its machine.
    image : Path
        Its guest.
    golden : Trace
        The golden run.

    Raises
    ------
    UserError
        If the campaign asks for symbols or moments that there are not.
    """
    names = [name for space in _all_spaces(campaign) for name in space.when.symbols]
    symbols = symbols_of(image) if names else {}
    space = enumerate_space(campaign, golden, symbols)
    known = plan_hash(campaign, config, image, golden)
    if campaign.sample is None:
        return Plan(
            experiments=Experiments(len(space), lambda i: _experiment(space, i, i)),
            size=space.size,
            classes=len(space),
            masked=space.size - space.live,
            hash=known,
        )
    return _sampled(campaign.sample, campaign.seed, space, known)


def _all_spaces(campaign: Campaign) -> list[FaultSpace]:
    return [member for space in campaign.spaces for member in (space, *space.also)]


def _sampled(sample: Sampling, seed: int, space: Space, known: str) -> Plan:
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
