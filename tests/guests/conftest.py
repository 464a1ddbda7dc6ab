"""Runs a bundled guest through the command line and reads the trace it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from elftools.elf.elffile import ELFFile

from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ESR_EL2
from guests.catalogue import find
from lab.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVERYWHERE = 1 << 52


@dataclass(frozen=True)
class Run:
    """One run: its outcome as ``--json`` prints it, and its events as ``--trace-file`` has them."""

    outcome: dict[str, Any]
    events: list[dict[str, Any]]
    trace: bytes

    @property
    def console(self) -> str:
        """What the guest printed."""
        return str(self.outcome["console"])

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [e for e in self.events if e["event"] == event]

    def faults(self, base: int = 0, size: int = EVERYWHERE) -> list[dict[str, Any]]:
        """Return the stage-2 aborts on a range of IPAs."""
        return [e for e in self.named("kvm_guest_fault") if base <= e["ipa"] < base + size]

    def aborts(self, base: int = 0, size: int = EVERYWHERE) -> list[str]:
        """Return the same in words: ``write translation L3 0x41000000``."""
        return [describe(event["hsr"], event["ipa"]) for event in self.faults(base, size)]

    def mmio(self, base: int, size: int) -> list[tuple[str, int, int, int]]:
        """Return completed MMIO accesses: read or write, length, offset from ``base``, value."""
        return [
            (e["type"].lower(), e["len"], e["gpa"] - base, e["val"])
            for e in self.named("kvm_mmio")
            if base <= e["gpa"] < base + size and e["type"] != "READ_UNSATISFIED"
        ]

    def exits(self) -> list[str]:
        """Return the reasons for which user space was entered."""
        return [e["reason"] for e in self.named("kvm_userspace_exit")]


def describe(hsr: int, ipa: int) -> str:
    """Return an abort in words; ``walk`` stands for S1PTW, ``maintenance`` for CM."""
    esr = ESR_EL2(hsr)
    code = FaultStatusCode(hsr & 0x3F)
    iss = IssDataAbort(esr.ISS)
    if esr.EC == ExceptionClass.IABT_LOW:
        access = "fetch"
    elif iss.CM:
        access = "maintenance"
    else:
        access = "write" if iss.WnR else "read"
    walk = " walk" if iss.S1PTW else ""
    return f"{access}{walk} {code.fault.value.removesuffix(' fault')} L{code.level} {ipa:#x}"


@pytest.fixture
def boot(tmp_path: Path) -> Callable[..., Run]:
    """Run a bundled guest with its own options and those given."""

    def run(name: str, *options: str, status: int = 0) -> Run:
        trace = tmp_path / "trace.jsonl"
        arguments = ["run", name, "--json", "--trace-file", str(trace), *options]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == status, result.output
        data = trace.read_bytes()
        return Run(
            json.loads(result.stdout), [json.loads(line) for line in data.splitlines()], data
        )

    return run


@pytest.fixture
def segments() -> Callable[[str], list[tuple[int, int]]]:
    """Return address and size in memory of a guest's segments: code, constants, data."""

    def read(name: str) -> list[tuple[int, int]]:
        with find(name).image.open("rb") as file:
            return [
                (segment.header["p_paddr"], segment.header["p_memsz"])
                for segment in ELFFile(file).iter_segments("PT_LOAD")
            ]

    return read
