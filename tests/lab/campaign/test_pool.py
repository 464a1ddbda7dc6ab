"""Worker processes: every experiment gets its row, whatever happens to the workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.campaign import pool
from lab.campaign.work import BATCH, Lost, batches
from tests.lab.campaign.fake_job import KILLER, FakeJob, experiment, row

if TYPE_CHECKING:
    from lab.campaign.plan import Experiment
    from lab.campaign.row import Row

COUNT = 3 * BATCH + 5


def by_number(results: list[Row | Lost]) -> list[Row | Lost]:
    return sorted(results, key=lambda r: r.experiment.id if isinstance(r, Lost) else r.id)


def run_all(plan: list[Experiment], workers: int) -> list[Row | Lost]:
    found = pool.in_processes(FakeJob(), batches(plan), workers)
    return by_number([result for rows in found for result in rows])


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
