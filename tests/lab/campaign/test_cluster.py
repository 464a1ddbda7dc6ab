"""A real scheduler of Dask with real workers, some of which are killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.campaign.cluster import on_dask
from lab.campaign.work import BATCH, Lost, batches
from lab.errors import UserError
from tests.lab.campaign.fake_job import KILLER, FakeJob, experiment, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).parents[3]
COUNT = 12 * BATCH


@contextmanager
def program(*arguments: str, stderr: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=stderr,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@contextmanager
def scheduler() -> Iterator[str]:
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
    with program("dask_scheduler", *options, stderr=subprocess.PIPE) as started:
        assert started.stderr is not None
        for line in started.stderr:
            found = re.search(r"Scheduler at:\s*(tcp://\S+)", line)
            if found:
                yield found[1]
                return
        raise AssertionError("the scheduler has not started")


def worker(address: str) -> AbstractContextManager[subprocess.Popen[str]]:
    options = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--memory-limit", "0")
    return program("dask_worker", address, *options)


def test_rows_are_complete_when_workers_are_killed_and_restarted_midway() -> None:
    plan = [experiment(number) for number in range(COUNT)]
    rows = []
    with scheduler() as address, worker(address) as first, worker(address):
        found = on_dask(address, FakeJob(seconds=0.005), batches(plan))
        for number, batch in enumerate(found):
            rows += batch
            if number == 2:
                first.kill()
            if number == 4:
                with worker(address):
                    for rest in found:
                        rows += rest
    assert sorted(rows) == [row(one) for one in plan]


@contextmanager
def workers_that_come_again(address: str) -> Iterator[None]:
    """Keep one worker: whenever it dies, there is another."""
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            with worker(address) as started:
                while started.poll() is None and not over.wait(0.1):
                    pass

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_experiment_that_kills_its_workers_is_lost() -> None:
    plan = [experiment(n, bit=KILLER if n == 3 else 0) for n in range(6)]
    with scheduler() as address, workers_that_come_again(address):
        found = [r for rows in on_dask(address, FakeJob(), batches(plan)) for r in rows]
    assert Lost(plan[3]) in found
    assert sorted(r for r in found if not isinstance(r, Lost)) == [
        row(one) for one in plan if one.bit != KILLER
    ]


def test_without_a_scheduler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.campaign.cluster._SECONDS", 1)
    with pytest.raises(UserError, match=r"--dask: no scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        next(on_dask("tcp://127.0.0.1:1", FakeJob(), batches([experiment(0)])))


def test_a_cluster_without_workers_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lab.campaign.cluster._PATIENCE", 1)
    with scheduler() as address:
        refusal = rf"--dask: .* no workers for 1 seconds; start some with 'dask worker {address}'"
        with pytest.raises(UserError, match=refusal):
            next(on_dask(address, FakeJob(), batches([experiment(0)])))


def test_an_experiment_that_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [experiment(0), experiment(1)]
    with scheduler() as address, worker(address):
        found = on_dask(address, FakeJob(seconds=2), iter([(one,) for one in plan]))
        assert next(found) == [row(plan[0])]
        monkeypatch.setattr("lab.campaign.cluster._PATIENCE", 0.2)
        assert next(found) == [row(plan[1])]


def test_without_dask_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'stage2\[campaign\]'"):
        next(on_dask("tcp://127.0.0.1:1", FakeJob(), batches([experiment(0)])))
