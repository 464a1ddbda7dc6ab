"""What workers are given to do, and how one does it: the same for processes and clusters."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lab.campaign.plan import Experiment
    from lab.campaign.row import Row

BATCH: Final = 32
"""Experiments that a worker is given at a time: a fraction of a second of work."""

_ONE_MACHINE: Final = threading.Lock()
"""A process has one machine, even where it is given batches by several threads."""


class Runner(Protocol):
    """Runs experiments, one after the other, on a machine of its own."""

    def run(self, experiment: Experiment) -> Row:
        """Run one; what came of it depends on nothing that ran before."""


class Job(Protocol):
    """A campaign as workers get it: it can be pickled, and compared."""

    def __hash__(self) -> int: ...

    def runner(self) -> Runner:
        """Build the machine, and run the guest without faults once."""


class Lost(NamedTuple):
    """An experiment that took its worker with it."""

    experiment: Experiment


def run_batch(job: Job, experiments: tuple[Experiment, ...]) -> list[Row]:
    """Run experiments in this process; the machine stays for the next batch."""
    with _ONE_MACHINE:
        runner = _runner(job)
        return [runner.run(experiment) for experiment in experiments]


@lru_cache(maxsize=1)
def _runner(job: Job) -> Runner:
    return job.runner()


def batches(experiments: Iterable[Experiment]) -> Iterator[tuple[Experiment, ...]]:
    """Cut a plan into what workers are given at a time."""
    batch: list[Experiment] = []
    for experiment in experiments:
        batch.append(experiment)
        if len(batch) == BATCH:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)
