"""A job without a machine, for tests of those who hand out work. Workers import it by name."""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

from lab.campaign.plan import Experiment
from lab.campaign.row import Row

KILLER = 1234
"""The bit of experiments that kill their worker."""


class FakeJob(NamedTuple):
    seconds: float = 0.0
    """What an experiment takes."""

    def runner(self) -> FakeRunner:
        return FakeRunner(self.seconds)


class FakeRunner:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(self, experiment: Experiment) -> Row:
        if experiment.bit == KILLER:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._seconds)
        return row(experiment)


class Pids(NamedTuple):
    """Its rows say which process made them."""

    def runner(self) -> PidRunner:
        return PidRunner()


class PidRunner:
    def run(self, experiment: Experiment) -> Row:
        return row(experiment)._replace(console=str(os.getpid()))


def experiment(number: int, bit: int = 0) -> Experiment:
    return Experiment(number, (), 1, f"x{number % 31}", bit, number * 10)


def row(made: Experiment) -> Row:
    return Row(
        id=made.id,
        location=made.location,
        bit=made.bit,
        time=made.time,
        weight=made.weight,
        status="injected",
        injected_at=made.time,
        pc="0x40000000",
        change="",
        outcome="masked",
        why="",
        end="powered off",
        instructions=made.id * 3,
        met_at=None,
        console="0" * 16,
    )
