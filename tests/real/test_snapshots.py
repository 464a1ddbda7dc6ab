"""Linux goes on from a snapshot as it did: in the process, and from a file in a fresh machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.snapshot import digest, first_difference, read, restore, take, write
from tests.lab.snapshot.machines import Recorded
from tests.real import artifacts
from tests.real.conftest import LINUX_COMMAND_LINE, LINUX_MEMORY, found

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.apt, pytest.mark.real]

MOMENT, LATER = 30_000_000, 40_000_000


@pytest.mark.parametrize("cpus", [1, 4])
def test_linux_goes_on_from_a_snapshot(cpus: int, tmp_path: Path) -> None:
    kernel = found(artifacts.KERNEL)
    options = ("--mem", LINUX_MEMORY, "--append", LINUX_COMMAND_LINE, "--smp", f"{cpus}")
    linux = Recorded(str(kernel), *options, "--seed", "3")
    assert linux.vmm.run_to(MOMENT) is None
    snapshot = take(linux.vmm)
    write(snapshot, tmp_path / "file")
    assert linux.vmm.run_to(LATER) is None
    later, golden = take(linux.vmm), digest(linux.vmm)
    restore(linux.vmm, snapshot)
    assert first_difference(linux.vmm, snapshot) is None
    assert linux.vmm.run_to(LATER) is None
    assert first_difference(linux.vmm, later) is None
    other = Recorded(str(kernel), *options, "--seed", "3")
    restore(other.vmm, read(tmp_path / "file", other.vmm))
    assert other.vmm.run_to(LATER) is None
    assert digest(other.vmm) == golden
