"""The classes of a real guest: each fault is run, and comes to what its class says."""

from __future__ import annotations

from dataclasses import replace

from lab.campaign.outcome import Outcome
from lab.campaign.planning import plan_campaign
from lab.campaign.prepare import prepare
from lab.campaign.read import parse_campaign

CAMPAIGN = parse_campaign(
    """
name = "classes"
guest = "checksum"

[golden]
max-insns = 100_000

[[space]]
model = "register-flip"
fault = { register = ["x0", "x1", "x2"], bit = [0, 33] }
when = { windows = [{ from = 1400, to = 1423 }] }
""",
    "classes.toml",
)


def test_every_fault_comes_to_what_its_class_comes_to() -> None:
    pruned = prepare(CAMPAIGN)
    every = prepare(replace(CAMPAIGN, prune=False))
    plan, all_of_them = plan_campaign(pruned), plan_campaign(every)
    assert 0 < len(plan.experiments) < plan.size == len(all_of_them.experiments)
    runner = pruned.runner()
    expected = {
        (experiment.location, experiment.bit, time): runner.run(experiment).outcome
        for experiment in plan.experiments
        for time in range(experiment.time - experiment.weight + 1, experiment.time + 1)
    }
    assert len(expected) == plan.size - plan.masked
    for experiment in all_of_them.experiments:
        place = experiment.location, experiment.bit, experiment.time
        assert runner.run(experiment).outcome == expected.get(place, Outcome.MASKED.value), place
