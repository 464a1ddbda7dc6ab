from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import bench.__main__
from bench import ipi, kvm, qemu
from bench.bare import Binding, Native, Plain
from bench.catalogue import BENCHMARKS
from bench.guest import DATA, PAGES, Guest
from bench.programs import COUNT, HYPERCALL, LOAD_STORE, SUPERVISOR_CALL, TOUCH_PAGES
from bench.timing import Scale
from emu.arch.esr.classes import ExceptionClass
from hyp.psci import PsciFunction
from hyp.stats import Resolution
from lab.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

TINY = Scale(1, 2000)


@pytest.fixture(autouse=True)
def without_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "is_installed", lambda: False)

    def refuse(*_: object) -> list[float]:
        raise UserError("there is no kernel")

    monkeypatch.setattr(kvm, "under_kvm", refuse)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in {"linux", "compiled"}])
def test_each_benchmark_runs_and_measures_something(name: str) -> None:
    measured = BENCHMARKS[name](TINY)
    assert measured
    names = [row.name for row in measured]
    assert len(set(names)) == len(names)
    for row in measured:
        assert row.value > 0
        assert all(reference.value > 0 for reference in row.references)


def test_the_command_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.__main__, "QUICK", TINY)
    path = tmp_path / "figures.json"
    done = CliRunner().invoke(bench.__main__.main, ["--quick", "--json", str(path), "refill"])
    assert done.exit_code == 0, done.output
    assert "empty hook, binding" in done.stdout
    kept = json.loads(path.read_text())
    assert set(kept) == {"machine", "scale", "spent", "skipped", "benchmarks"}
    facts = {"compiled", "cpu", "cores", "load", "memory", "system", "python", "unicorn", "qemu"}
    assert set(kept["machine"]) == facts
    assert set(kept["spent"]["refill"]) == {"user", "cpu", "wall"}
    assert kept["skipped"] == {}
    (row,) = kept["benchmarks"]["refill"]
    assert set(row) == {"name", "value", "unit", "limit", "met", "note", "references"}
    for reference in row["references"]:
        assert set(reference) == {"name", "value", "ratio", "limit", "met", "verdict"}


def test_what_cannot_be_measured_is_skipped_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    done = CliRunner().invoke(bench.__main__.main, ["--json", str(path), "linux"])
    assert done.exit_code == 0, done.output
    line = "linux: skipped, qemu-system-aarch64 is not installed"
    assert done.stdout.splitlines()[-1] == line
    kept = json.loads(path.read_text())
    assert kept["skipped"] == {"linux": "qemu-system-aarch64 is not installed"}
    assert kept["benchmarks"] == {}


def test_an_unknown_benchmark_is_a_usage_error_that_names_the_others() -> None:
    done = CliRunner().invoke(bench.__main__.main, ["refil"])
    assert done.exit_code == 2
    assert "'refil' is not one of" in done.output
    assert "'refill'" in done.output


def test_the_same_loop_does_the_same_everywhere() -> None:
    registers = {1: DATA, COUNT: 10}
    guest = Guest(LOAD_STORE)
    before = guest.retired
    guest.run(registers)
    assert guest.retired - before == 10 * 5 + 1  # the branch to where it parks
    counted = Native(LOAD_STORE)
    counted.run(registers, 9 * 5)
    assert counted.read(COUNT) == 1
    for bare in (Plain(LOAD_STORE), Binding(LOAD_STORE), Native(LOAD_STORE)):
        bare.run(registers)
        assert bare.memory(DATA, 8) == (10).to_bytes(8, "little")


def test_every_touched_page_is_one_mapping() -> None:
    guest = Guest(TOUCH_PAGES, 8)
    before = dict(guest.vm.stats.pages_mapped)[4096]
    guest.run({1: PAGES, 2: 4096, COUNT: 8})
    assert guest.vm.stats.pages_mapped[4096] - before in {8, 9}  # and a table of stage 1


def test_a_logged_page_is_relaxed_when_it_is_written_again() -> None:
    guest = Guest(TOUCH_PAGES, 8, log_dirty=True)
    for _ in range(2):
        guest.run({1: PAGES, 2: 4096, COUNT: 8})
        guest.vm.get_dirty_log(0)
    relaxed = {key[2]: count for key, count in guest.vm.stats.aborts.items()}
    assert relaxed[Resolution.RELAXED] >= 8


def test_a_supervisor_call_leaves_the_bare_engine_each_time() -> None:
    native = Native(SUPERVISOR_CALL)
    native.leave(5)
    assert native.interrupts == 6


def test_each_sgi_is_answered_by_one() -> None:
    pair = ipi.Pair()
    for _ in range(2):
        pair.exchange(5)
    waits = pair.vm.stats.traps[ExceptionClass.WFx]
    assert waits >= 2 * 2 * 5
    assert ipi.FOR_EVER - pair.vcpus[1].read_x(COUNT) == 2 * 5


def test_a_guest_that_does_not_park_is_an_error() -> None:
    guest = Guest(HYPERCALL)
    with pytest.raises(RuntimeError, match=r"should have parked.*SHUTDOWN"):
        guest.run({1: PsciFunction.SYSTEM_OFF, COUNT: 1})


def test_without_kvm_the_rows_say_why_there_is_nothing_to_compare_with() -> None:
    for row in kvm.measure(TINY):
        assert not row.references
        assert row.note == "no KVM: there is no kernel"


def test_each_page_of_2_mib_is_one_fault() -> None:
    guest = Guest(TOUCH_PAGES, 3, backing=2 << 20)
    before = dict(guest.vm.stats.pages_mapped)
    guest.run({1: PAGES, 2: 2 << 20, COUNT: 3})
    after = dict(guest.vm.stats.pages_mapped)
    assert after == before | {2 << 20: before[2 << 20] + 3}
