"""Golden runs of bundled guests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from lab.campaign.golden import GoldenRecorder
from lab.campaign.watched import WatchedMemory
from lab.commands.run import configuration
from lab.loader import load
from lab.target import open_target
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.address import PA
    from emu.memory import PhysicalMemory
    from lab.campaign.trace import Trace

    Start = Callable[..., Vmm]
    Record = Callable[[str], tuple[Vmm, Trace]]


def make(guest: str, memory_kind: Callable[[PA, int], PhysicalMemory] | None = None) -> Vmm:
    with open_target(guest) as target:
        config = configuration(target, ())
        image = load(target.image, config.memory, config.flash)
    if memory_kind is None:
        return Vmm(config, image)
    return Vmm(config, image, memory_kind=memory_kind)


@pytest.fixture(name="start")
def start_fixture() -> Start:
    """Return a function that makes a guest ready to run."""
    return make


@cache
def recorded(guest: str) -> tuple[Vmm, Trace]:
    vmm = make(guest, WatchedMemory)
    _, trace = GoldenRecorder(vmm).run()
    return vmm, trace


@pytest.fixture(name="record")
def record_fixture() -> Record:
    """Return a function that gives a guest after its golden run, and the trace of that."""
    return recorded
