"""A fresh machine for each test."""

from __future__ import annotations

import pytest

from tests.emu.cpu.bare import Bare
from tests.emu.cpu.probe import Probe


@pytest.fixture
def bare() -> Bare:
    """Return a machine with one PE, stage 2 on and nothing mapped but code."""
    return Bare()


@pytest.fixture
def probe() -> Probe:
    """Return a Unicorn instance as the engine sets it up."""
    return Probe()
