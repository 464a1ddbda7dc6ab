"""``stage2 run --tlb-trace``: the lines, and that listening changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from emu.arch.address import PA, VA
from lab.cli import cli
from lab.tlbtrace import TlbFill, TlbInvalidate

if TYPE_CHECKING:
    from pathlib import Path

FILL = TlbFill(
    0,
    5,
    1,
    3,
    VA(0x4008_1000),
    PA(0x8_0000_3000),
    "---",
    "rwx",
    1,
    3,
    device=False,
    contiguous=True,
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


@pytest.mark.parametrize(("asid", "shown"), [(3, "asid 3"), (None, "global"), (-1, "stage 1 off")])
def test_fill_says_what_was_added(asid: int | None, shown: str) -> None:
    fill = TlbFill(
        0, 5, 1, asid, FILL.va, FILL.pa, "---", "rwx", 1, 3, device=False, contiguous=True
    )
    assert str(fill) == (
        "tlb_fill: va 0x4008_1000 -> pa 0x8_0000_3000, EL0 --- EL1 rwx, Normal, "
        f"levels 1 and 3, contiguous, vmid 1, {shown}"
    )


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (TlbInvalidate(0, 1, "VAE1IS", 1, 3, 0x1000, 0x1000, 3, 2, VA(0x4000), 0),
         ("VAE1IS, va 0x0000_1000 + 4K, level 3, asid 3, vmid 1, 2 PEs, at 0x0000_4000: "
         "hit 0 entries")),
        (TlbInvalidate(0, 1, "IPAS2E1", 1, None, 0x1000, 0x4000, None, 1, None, 2),
         "IPAS2E1, ipa 0x0000_1000 + 16K, vmid 1, this PE, by the hypervisor: removed 2"),
        (TlbInvalidate(0, 1, "VMALLE1", 1, None, None, None, None, 1, None, 7),
         "VMALLE1, vmid 1, this PE, by the hypervisor: removed 7"),
        (TlbInvalidate(0, 1, "VAAE1", 1, None, -0x1000, 0x1000, None, 1, None, 1),
         "VAAE1, va 0xffff_ffff_ffff_f000 + 4K, vmid 1, this PE, by the hypervisor: removed 1"),
    ],
)  # fmt: skip
def test_invalidation_says_what_it_named_and_hit(event: TlbInvalidate, shown: str) -> None:
    assert event.text() == shown


def test_run_prints_fills_and_invalidations() -> None:
    lines = run("remap", "--tlb-trace").stderr.splitlines()
    told = [line.split(": ")[1] for line in lines if ": tlb_" in line]
    # The guest issues five; the first is the hypervisor's, as a new VMID is loaded.
    assert told.count("tlb_invalidate") == 6
    first = next(line for line in lines if "tlb_invalidate" in line)
    assert "VMALLE1, vmid 1, this PE, by the hypervisor" in first
    assert told.count("tlb_fill") > 10
    assert any(line.startswith("TLBI          6, of which") for line in lines)


def test_only_the_tlb_is_traced_unless_more_is_asked_for() -> None:
    assert "kvm_entry" not in run("hello", "--tlb-trace").stderr
    both = run("hello", "--tlb-trace", "--trace").stderr
    assert "kvm_entry" in both
    assert "tlb_fill" in both


def test_trace_file_takes_them_too_and_equal_runs_are_equal(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        run("remap", "--tlb-trace", "--trace-file", file, "--quiet")
    assert files[0].read_bytes() == files[1].read_bytes()
    events = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert {"tlb_fill", "tlb_invalidate", "kvm_entry"} <= {event["event"] for event in events}


def test_listening_changes_nothing_else(tmp_path: Path) -> None:
    plain, traced = tmp_path / "plain", tmp_path / "traced"
    run("remap", "--trace-file", plain, "--quiet")
    run("remap", "--trace-file", traced, "--tlb-trace", "--quiet")
    kept = [line for line in traced.read_text().splitlines() if '"event":"tlb_' not in line]
    assert kept == plain.read_text().splitlines()
