"""Compiled modules change the speed and nothing else: every guest leaves the same trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from emu import compiled
from guests.catalogue import all_guests
from lab.compiled import build

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [
    pytest.mark.compiled,
    pytest.mark.skipif(build.existing() is None, reason="needs compiled modules: make fast"),
]


def run(name: str, trace: Path, *, pure: bool) -> tuple[int, dict[str, Any], bytes]:
    command = (sys.executable, "-m", "lab.cli", "run", name, "--json", "--trace-file", str(trace))
    environment = {**os.environ, compiled.PURE: "1" if pure else "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr
    result = json.loads(done.stdout)
    assert result.pop("host")["compiled"] is not pure, "the other variant has run"
    return done.returncode, result, trace.read_bytes()


@pytest.mark.parametrize("name", [guest.name for guest in all_guests()])
def test_a_guest_has_the_same_result_and_trace_byte_for_byte(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path / "compiled", pure=False) == run(name, tmp_path / "pure", pure=True)


def test_a_walk_is_explained_alike() -> None:
    command = (sys.executable, "-m", "lab.cli", "walk", "nested_walk", "0x80000000", "--json")
    done = [
        subprocess.run(
            command,
            env={**os.environ, compiled.PURE: pure},
            capture_output=True,
            text=True,
            check=False,
        )
        for pure in ("0", "1")
    ]
    assert not done[0].stderr
    assert json.loads(done[0].stdout)
    assert done[0].stdout == done[1].stdout


FIELDS = """
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ESR_EL2, PSTATE
from emu.arch.registers.identification import CTR_EL0
print(repr((CORTEX_A72.read(CTR_EL0).L1Ip, PSTATE(0x3C5).M, ESR_EL2(0x9600_0000).EC)))
"""


def test_a_field_is_read_as_a_member_of_its_enumeration() -> None:
    printed = [
        subprocess.run(
            (sys.executable, "-c", FIELDS),
            env={**os.environ, compiled.PURE: pure},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for pure in ("0", "1")
    ]
    assert printed[0] == printed[1]
    assert "IcachePolicy.PIPT" in printed[0]


def test_a_snapshot_goes_to_a_file_and_back(tmp_path: Path) -> None:
    file = str(tmp_path / "half")
    ends = []
    for options in (("--snapshot-at", "100", "--snapshot-file", file), ("--restore", file)):
        done = subprocess.run(
            (sys.executable, "-m", "lab.cli", "run", "hello", "--json", *options),
            env={**os.environ, compiled.PURE: "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr
        ends.append((done.returncode, json.loads(done.stdout)["console"]))
    assert ends[0] == ends[1]
