"""Runs what is missing of a campaign, on workers, into its file of results."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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

    Hands = Callable[[Iterator[tuple[Experiment, ...]]], Iterator[list[Row | Lost]]]
    """Runs batches, and yields what they come to, in the order of completion."""

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


@contextmanager
def hire(job: Job, workers: Workers, *, at_once: bool = False) -> Iterator[Hands]:
    """Have workers for a campaign, for as long as the context lasts.

    Parameters
    ----------
    job : Job
        The campaign.
    workers : Workers
        Who they are.
    at_once : bool
        Whether processes build their machines now, while something else is done. Otherwise they
        begin with their first experiments.

    Raises
    ------
    UserError
        If they are not there.
    """
    if workers.dask:
        yield partial(on_dask, workers.dask, job)
    elif workers.processes:
        with pool.Processes(job, workers.processes) as processes:
            if at_once:
                processes.begin()
            yield processes.run
    else:
        yield partial(pool.in_this_process, job)


def execute(
    plan: Plan,
    store: Store,
    hands: Hands,
    progress: Callable[[int], None] = lambda _count: None,
) -> None:
    """Run the experiments of a plan that have no row yet.

    Parameters
    ----------
    plan : Plan
        The plan.
    store : Store
        Where rows are added as they come, a batch at a time.
    hands : Hands
        Who runs them: see :func:`hire`.
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
        for _ in _run(missing, store, hands, progress):
            pass
        return
    outcomes = {row.id: row.outcome for row in store.rows()}
    for first in range(0, len(plan.experiments), ROUND):
        part = range(first, min(first + ROUND, len(plan.experiments)))
        left = (plan.experiments[number] for number in part if number not in done)
        for rows in _run(left, store, hands, progress):
            outcomes |= {row.id: row.outcome for row in rows}
        if plan.is_enough(outcomes):
            return


def _run(
    experiments: Iterable[Experiment],
    store: Store,
    hands: Hands,
    progress: Callable[[int], None],
) -> Iterator[list[Row]]:
    """Run experiments; yield rows that have been stored."""
    for results in hands(batches(experiments)):
        rows = [lost(r.experiment, KILLED) if isinstance(r, Lost) else r for r in results]
        store.add(rows)
        progress(len(rows))
        yield rows
