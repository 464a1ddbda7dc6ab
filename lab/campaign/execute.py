"""Runs what is missing of a campaign, on workers, into its file of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab.campaign import pool
from lab.campaign.cluster import on_dask
from lab.campaign.row import lost
from lab.campaign.work import Lost, batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lab.campaign.plan import Experiment, Plan
    from lab.campaign.row import Row
    from lab.campaign.store import Store
    from lab.campaign.work import Job

ROUND: Final = 512
"""Experiments between two looks at whether a sample is enough. All of them are run, so that the
results do not depend on which worker was the quickest."""
KILLED: Final = "the worker that ran it died"


@dataclass(frozen=True, slots=True)
class Workers:
    """Who runs experiments.

    Attributes
    ----------
    processes : int
        Of this machine; 0 for this process itself.
    dask : str
        The address of a scheduler, whose workers are used instead; empty for none.
    """

    processes: int = 1
    dask: str = ""


def execute(
    job: Job,
    plan: Plan,
    store: Store,
    workers: Workers,
    progress: Callable[[int], None] = lambda _count: None,
) -> None:
    """Run the experiments of a plan that have no row yet.

    Parameters
    ----------
    job : Job
        The campaign.
    plan : Plan
        Its experiments.
    store : Store
        Where rows are added as they come, a batch at a time.
    workers : Workers
        Who runs them.
    progress : Callable[[int], None]
        Told of so many experiments that are done, as they are.

    Raises
    ------
    UserError
        If rows cannot be stored, or the workers are not there. What was stored is safe.
    """
    done = store.done()
    progress(len(done))
    if plan.stop_margin is None:
        missing = (each for each in plan.experiments if each.id not in done)
        for _ in _run(job, missing, store, workers, progress):
            pass
        return
    outcomes = {row.id: row.outcome for row in store.rows()}
    for first in range(0, len(plan.experiments), ROUND):
        part = range(first, min(first + ROUND, len(plan.experiments)))
        left = (plan.experiments[number] for number in part if number not in done)
        for rows in _run(job, left, store, workers, progress):
            outcomes |= {row.id: row.outcome for row in rows}
        if plan.is_enough(outcomes):
            return


def _run(
    job: Job,
    experiments: Iterable[Experiment],
    store: Store,
    workers: Workers,
    progress: Callable[[int], None],
) -> Iterator[list[Row]]:
    """Run experiments; yield rows that have been stored."""
    for results in _handed_out(job, batches(experiments), workers):
        rows = [lost(r.experiment, KILLED) if isinstance(r, Lost) else r for r in results]
        store.add(rows)
        progress(len(rows))
        yield rows


def _handed_out(
    job: Job, work: Iterator[tuple[Experiment, ...]], workers: Workers
) -> Iterator[list[Row | Lost]]:
    if workers.dask:
        return on_dask(workers.dask, job, work)
    if workers.processes:
        return pool.in_processes(job, work, workers.processes)
    return pool.in_this_process(job, work)
