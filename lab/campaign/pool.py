"""Workers that are processes of this machine.

A worker may die: the engine is a C library that a fault can lead anywhere, and people kill
processes. Then the pool is made anew, and the experiments that were under way are run one at a
time, each with a process of its own, so that one that kills is known. That one is reported as
lost; all others get their rows.
"""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Final, Self

from lab.campaign.work import Lost, run_batch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from lab.campaign.plan import Experiment
    from lab.campaign.row import Row
    from lab.campaign.work import Job

_AHEAD: Final = 2
"""Batches for each worker that are on their way to it."""


def in_this_process(
    job: Job, batches: Iterator[tuple[Experiment, ...]]
) -> Iterator[list[Row | Lost]]:
    """Run batches one after the other, without workers."""
    for batch in batches:
        yield [*run_batch(job, batch)]


class Processes:
    """Worker processes, which keep their machines until they are dismissed.

    It is a context manager that dismisses them.

    Parameters
    ----------
    job : Job
        What the workers build their machines from.
    count : int
        How many processes.
    """

    def __init__(self, job: Job, count: int) -> None:
        self._job, self._count = job, count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dismiss()

    def begin(self) -> None:
        """Have the workers build their machines, and do not wait for them.

        If one cannot, its first batch says why.
        """
        for _ in range(self._count):
            _submit(self._hire(), self._job, ())

    def run(self, batches: Iterator[tuple[Experiment, ...]]) -> Iterator[list[Row | Lost]]:
        """Run batches, and yield what they come to, in the order of completion.

        Parameters
        ----------
        batches : Iterator[tuple[Experiment, ...]]
            The experiments; taken as workers become free.

        Yields
        ------
        list[Row or Lost]
            One entry for each experiment of a batch.
        """
        while True:
            suspects = yield from self._until_broken(batches)
            if not suspects:
                return
            self._dismiss()
            for suspect in suspects:
                yield [_alone(self._job, suspect)]

    def _until_broken(
        self, batches: Iterator[tuple[Experiment, ...]]
    ) -> Generator[list[Row | Lost], None, list[Experiment]]:
        """Run batches until there are no more, or a worker dies; return what was under way then."""
        under_way: dict[Future[list[Row]], tuple[Experiment, ...]] = {}
        try:
            while True:
                while len(under_way) < self._count * _AHEAD:
                    batch = next(batches, None)
                    if batch is None:
                        break
                    under_way[_submit(self._hire(), self._job, batch)] = batch
                if not under_way:
                    return []
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    yield [*future.result()]
                    del under_way[future]
        except BrokenProcessPool:
            return [experiment for batch in under_way.values() for experiment in batch]

    def _hire(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = _pool(self._count)
        return self._pool

    def _dismiss(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _submit(
    pool: ProcessPoolExecutor, job: Job, batch: tuple[Experiment, ...]
) -> Future[list[Row]]:
    """Give a pool a batch; a pool that is broken has a future that says so."""
    try:
        return pool.submit(run_batch, job, batch)
    except BrokenProcessPool as broken:
        failed: Future[list[Row]] = Future()
        failed.set_exception(broken)
        return failed


def _alone(job: Job, suspect: Experiment) -> Row | Lost:
    """Run one experiment with a process of its own."""
    with _pool(1) as pool:
        try:
            return pool.submit(run_batch, job, (suspect,)).result()[0]
        except BrokenProcessPool:
            return Lost(suspect)


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a worker begins with nothing of this process, and builds its own engine.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    """Leave Ctrl-C to the process that hands out the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
