"""What outcomes of experiments say of the whole space of a plan."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from lab.campaign.statistics import Interval, weighted, wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.campaign.plan import Plan

MASKED: Final = "masked"
"""What a fault comes to that nothing reads any more."""

SMALLEST_SAMPLE: Final = 100
"""Draws before which no sample ends early: so few say little of rare outcomes."""


def estimate(
    plan: Plan, outcomes: Mapping[int, str], also: Iterable[str] = ()
) -> dict[str, Interval]:
    """Do what :meth:`lab.campaign.plan.Plan.estimate` says, of further outcomes, too.

    An outcome that no experiment has is estimated if it is one of ``also``: how many of the
    space may have it all the same.

    Faults that are masked without a run are known, and not part of the sample: what is
    estimated is the share of the others.
    """
    live = plan.size - plan.masked
    if not plan.size:
        return {}
    numbers = list(outcomes) if plan.draws is None else _prefix(plan.draws, outcomes)
    weights: dict[str, list[int]] = defaultdict(list, {name: [] for name in also if numbers})
    by_class = plan.draws is None or not plan.by_lifetime
    for number in numbers:
        weights[outcomes[number]].append(plan.experiments[number].weight if by_class else 1)
    shares = {
        name: _interval(plan, hits, weights, live).scaled(live / plan.size)
        for name, hits in weights.items()
    }
    if plan.masked:
        shares[MASKED] = shares.get(MASKED, Interval(0.0, 0.0, 0.0)).moved(plan.masked / plan.size)
    return dict(sorted(shares.items()))


def is_enough(plan: Plan, outcomes: Mapping[int, str]) -> bool:
    """Do what :meth:`lab.campaign.plan.Plan.is_enough` says."""
    if plan.stop_margin is None or plan.draws is None:
        return False
    if len(_prefix(plan.draws, outcomes)) < min(SMALLEST_SAMPLE, len(plan.draws)):
        return False
    return all(i.half_width <= plan.stop_margin for i in estimate(plan, outcomes).values())


def _interval(plan: Plan, hits: list[int], weights: Mapping[str, list[int]], live: int) -> Interval:
    everything = [weight for some in weights.values() for weight in some]
    if plan.draws is None:
        share = sum(hits) / sum(everything)
        return Interval(share, share, share)
    if plan.by_lifetime:
        return wilson(len(hits), len(everything), plan.confidence, live)
    return weighted(hits, everything, plan.confidence, plan.classes)


def _prefix(draws: Sequence[int], outcomes: Mapping[int, str]) -> list[int]:
    """Return the draws before the first one whose experiment has no outcome yet.

    Others that are done already would be a choice: experiments that stand for many draws.
    """
    done: list[int] = []
    for number in draws:
        if number not in outcomes:
            break
        done.append(number)
    return done
