"""Worker processes: every experiment gets its row, whatever happens to the workers."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from lab.campaign import pool
from lab.campaign.row import Row
from lab.campaign.work import BATCH, Lost, batches
from tests.lab.campaign.fake_job import KILLER, FakeJob, Pids, experiment, row

if TYPE_CHECKING:
    from lab.campaign.plan import Experiment

COUNT = 3 * BATCH + 5


def by_number(results: list[Row | Lost]) -> list[Row | Lost]:
    return sorted(results, key=lambda r: r.experiment.id if isinstance(r, Lost) else r.id)


def run_all(plan: list[Experiment], workers: int) -> list[Row | Lost]:
    with pool.Processes(FakeJob(), workers) as processes:
        return by_number([result for rows in processes.run(batches(plan)) for result in rows])


def test_each_experiment_of_a_plan_is_in_one_batch_in_the_order_of_the_plan() -> None:
    plan = [experiment(number) for number in range(COUNT)]
    cut = list(batches(plan))
    assert [one for batch in cut for one in batch] == plan
    assert [len(batch) for batch in cut] == [BATCH, BATCH, BATCH, 5]


def test_processes_yield_the_same_rows_as_this_process() -> None:
    plan = [experiment(number) for number in range(COUNT)]
    here = [r for rows in pool.in_this_process(FakeJob(), batches(plan)) for r in rows]
    assert here == [row(one) for one in plan]
    assert run_all(plan, workers=2) == here


def test_an_experiment_that_kills_its_worker_is_lost_and_all_others_have_rows() -> None:
    plan = [experiment(n, bit=KILLER if n == BATCH + 7 else 0) for n in range(COUNT)]
    found = run_all(plan, workers=2)
    expected = [Lost(one) if one.bit == KILLER else row(one) for one in plan]
    assert found == expected


def test_a_plan_without_experiments_starts_no_worker() -> None:
    assert run_all([], workers=2) == []


def test_workers_that_began_early_stay_for_one_plan_after_the_other() -> None:
    plan = [experiment(number) for number in range(COUNT)]
    with pool.Processes(Pids(), 1) as processes:
        processes.begin()
        found = [processes.run(batches(part)) for part in (plan[:BATCH], plan[BATCH:])]
        rows = [r for results in found for batch in results for r in batch]
    assert len({r.console for r in rows if isinstance(r, Row)}) == 1
    assert len(rows) == COUNT


def test_a_worker_that_dies_before_there_is_work_is_replaced() -> None:
    plan = [experiment(number) for number in range(COUNT)]
    with pool.Processes(FakeJob(), 2) as processes:
        processes.begin()
        for child in multiprocessing.active_children():
            child.kill()
        found = [result for rows in processes.run(batches(plan)) for result in rows]
    assert by_number(found) == [row(one) for one in plan]
