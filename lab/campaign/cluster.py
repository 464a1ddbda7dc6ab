"""Workers of a Dask cluster, on this machine or on others.

The scheduler hands a batch to another worker when the one that had it is gone. A batch that was
lost with several workers is cut into its experiments, so that one that kills is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lab.campaign.work import Lost, run_batch
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.campaign.plan import Experiment
    from lab.campaign.row import Row
    from lab.campaign.work import Job

_AHEAD: Final = 2
"""Batches for each thread of the cluster that are on their way to it."""
_SECONDS: Final = 10
"""How long the scheduler may take to answer."""
_PATIENCE: Final = 60
"""Seconds without a result after which somebody must be there who works on one."""


def on_dask(
    address: str, job: Job, batches: Iterator[tuple[Experiment, ...]]
) -> Iterator[list[Row | Lost]]:
    """Run batches on a cluster, and yield what they come to, in the order of completion.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.
    job : Job
        What the workers build their machines from.
    batches : Iterator[tuple[Experiment, ...]]
        The experiments; taken as workers become free. Workers that join later get some, too.

    Yields
    ------
    list[Row or Lost]
        One entry for each experiment of a batch.

    Raises
    ------
    UserError
        If there is no Dask, or no scheduler at that address, or it has no workers for long.
    """
    client, as_completed, killed = _connect(address)
    with client:
        under_way: dict[Any, tuple[Experiment, ...]] = {}
        arriving = as_completed(loop=client.loop)

        def give(batch: tuple[Experiment, ...]) -> None:
            # The job goes with each batch: what is scattered goes with the workers that have it.
            future = client.submit(run_batch, job, batch, pure=False)
            under_way[future] = batch
            arriving.add(future)

        while True:
            while len(under_way) < _AHEAD * max(1, sum(client.nthreads().values())):
                batch = next(batches, None)
                if batch is None:
                    break
                give(batch)
            if not under_way:
                return
            _wait(client, address, list(under_way))
            future = next(arriving)
            batch = under_way.pop(future)
            try:
                rows = future.result()
            except killed:
                if len(batch) == 1:
                    yield [Lost(batch[0])]
                for experiment in batch if len(batch) > 1 else ():
                    give((experiment,))
                continue
            yield rows


def _wait(client: Any, address: str, futures: list[Any]) -> None:  # noqa: ANN401  # no types
    """Wait until a future is done, as long as there are workers."""
    import distributed  # noqa: PLC0415  # optional

    wait: Any = distributed.wait  # the library has no types
    while True:
        try:
            with client.as_current():
                wait(futures, timeout=_PATIENCE, return_when="FIRST_COMPLETED")
        except TimeoutError:
            if client.nthreads():
                continue
            raise UserError(
                f"--dask: the scheduler at {address!r} has had no workers for {_PATIENCE} seconds; "
                f"start some with 'dask worker {address}', and go on with 'stage2 inject resume'"
            ) from None
        return


def _connect(address: str) -> tuple[Any, Any, type[Exception]]:
    """Return a client of a scheduler, and what else is needed of the library."""
    try:
        from distributed import Client, as_completed  # noqa: PLC0415  # optional
        from distributed.scheduler import KilledWorker  # noqa: PLC0415
    except ImportError:
        raise UserError(
            "--dask needs Dask, which is not installed: pip install 'stage2[campaign]'"
        ) from None
    client: Any = Client  # the library has no types
    try:
        return client(address, timeout=_SECONDS, set_as_default=False), as_completed, KilledWorker
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--dask: no scheduler answers at {address!r} ({error}); start one with "
            "'dask scheduler', and give the address that it prints"
        ) from error
