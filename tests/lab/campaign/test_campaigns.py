"""Whole campaigns by the command: the same rows whoever runs them, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from emu import compiled
from guests import catalogue
from lab.campaign.store import Store
from lab.cli import cli
from lab.commands import inject

if TYPE_CHECKING:
    from lab.campaign.row import Row

ROOT = Path(__file__).parents[3]
RUNS = 96
CAMPAIGN = f"""
name = "register flips"
guest = "checksum"
mode = "sample"
prune = false

[sample]
n = {RUNS}

[[space]]
model = "register-flip"
fault = {{ register = ["x0", "x2", "x8", "x9", "x10", "sp"], bit = "all" }}
when = {{ windows = [{{ from = 200, to = 2900 }}] }}
"""


def stage2(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["inject", *map(str, arguments)], catch_exceptions=False)


def rows(path: Path) -> list[Row]:
    with Store.open(path) as store:
        return list(store.rows())


@pytest.fixture(name="campaign")
def campaign_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "flips.toml"
    # TOML has no "all" for a register of 64 bits whose model has up to 128.
    path.write_text(CAMPAIGN.replace('bit = "all"', "bit = { from = 0, to = 63 }"))
    return path


@pytest.fixture(name="reference", scope="module")
def reference_fixture(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Return the rows as one process makes them."""
    folder = tmp_path_factory.mktemp("reference")
    path = folder / "flips.toml"
    path.write_text(CAMPAIGN.replace('bit = "all"', "bit = { from = 0, to = 63 }"))
    done = stage2("run", path, "--workers", "0")
    assert done.exit_code == 0, done.output
    return rows(folder / "flips.db")


def test_a_campaign_finds_outcomes_of_several_kinds(reference: list[Row]) -> None:
    assert [row.id for row in reference] == list(range(len(reference)))
    assert {row.status for row in reference} == {"injected"}
    assert {"masked", "silent corruption"} <= {row.outcome for row in reference}
    assert all(row.injected_at == row.time for row in reference)
    assert "lost" not in {row.outcome for row in reference}


def test_runs_that_meet_the_golden_run_again_are_masked(reference: list[Row]) -> None:
    met = [row for row in reference if row.met_at is not None]
    assert met
    assert {row.outcome for row in met} == {"masked"}
    assert all(row.met_at is not None and row.met_at > row.time for row in met)


def test_two_workers_make_the_same_rows(campaign: Path, reference: list[Row]) -> None:
    done = stage2("run", campaign, "--workers", "2", "--json")
    assert done.exit_code == 0, done.output
    assert rows(campaign.with_suffix(".db")) == reference
    assert json.loads(done.stdout)["runs"] == len(reference)


def test_a_campaign_that_was_killed_is_resumed_and_nothing_is_lost_or_repeated(
    campaign: Path, reference: list[Row]
) -> None:
    results = campaign.with_suffix(".db")
    command = [sys.executable, "-m", "lab.cli", "inject", "run", str(campaign), "--workers", "1"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as started:
        while started.poll() is None and not (results.exists() and _count(results)):
            time.sleep(0.02)
        os.killpg(started.pid, signal.SIGKILL)
    before = rows(results)
    assert before == reference[: len(before)]
    done = stage2("resume", results, "--workers", "0")
    assert done.exit_code == 0, done.output
    assert rows(results) == reference


def _count(path: Path) -> int:
    try:
        return len(rows(path))
    except Exception:  # noqa: BLE001  # the file is being made
        return 0


def test_rows_are_made_again_by_replay(campaign: Path) -> None:
    assert stage2("run", campaign, "--workers", "0").exit_code == 0
    results = campaign.with_suffix(".db")
    for number in (0, 17, 41):
        done = stage2("replay", f"{results}#{number}")
        assert done.exit_code == 0, done.output
        assert "The same as stored, to the last column." in done.stdout
        told = json.loads(stage2("replay", f"{results}#{number}", "--json").stdout)
        assert told["same"] is True
        assert "before the one at" in told["story"][0]


def test_a_guest_that_has_changed_is_refused(campaign: Path, tmp_path: Path) -> None:
    guest = tmp_path / "guest.elf"
    shutil.copy(catalogue.find("checksum").image, guest)
    text = campaign.read_text().replace('guest = "checksum"', 'guest = "guest.elf"')
    campaign.write_text(text.replace(f"n = {RUNS}", "n = 3"))
    assert stage2("run", campaign, "--workers", "0").exit_code == 0
    results = campaign.with_suffix(".db")
    with guest.open("ab") as file:
        file.write(b"\0")
    for arguments in (("resume", results), ("replay", f"{results}#1")):
        done = stage2(*arguments)
        assert done.exit_code == 2
        assert "the guest" in done.stderr
        assert f"has changed since {results} was begun" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("plan", "nowhere.toml"), "there is no file nowhere.toml"),
        (("plan", "stage2_flip"), "did you mean 'stage2_flips'"),
        (("resume", "nowhere.db"), "there are no results in nowhere.db"),
        (("replay", "flips.db"), "a row is named by its file and number"),
        (("replay", "nowhere.db#3"), "there are no results in nowhere.db"),
        (("run", "x.toml", "--workers", "2", "--dask", "tcp://a:1"), "give one"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], error: str) -> None:
    done = stage2(*arguments)
    assert done.exit_code == 2
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_results_are_not_overwritten(campaign: Path) -> None:
    campaign.with_suffix(".db").write_text("precious")
    done = stage2("run", campaign)
    assert done.exit_code == 2
    assert "exists; go on with it by 'stage2 inject resume" in done.stderr
    assert campaign.with_suffix(".db").read_text() == "precious"


def test_the_plan_is_shown_without_running_it(campaign: Path) -> None:
    done = stage2("plan", campaign, "--list", "3")
    assert done.exit_code == 0
    assert "fault space" in done.stdout
    told = json.loads(stage2("plan", campaign, "--list", "3", "--json").stdout)
    assert told["space"] == 2701 * 6 * 64
    assert [each["id"] for each in told["list"]] == [0, 1, 2]


@pytest.mark.parametrize("many", [1, 2])
@pytest.mark.parametrize("folder", [None, Path("compiled")])
def test_many_runs_as_python_say_what_would_make_them_faster(
    campaign: Path, monkeypatch: pytest.MonkeyPatch, many: int, folder: Path | None
) -> None:
    campaign.write_text(campaign.read_text().replace(f"n = {RUNS}", "n = 1"))
    monkeypatch.setattr(inject, "MANY", many)
    monkeypatch.setattr(compiled, "in_use", lambda: folder)
    done = stage2("run", campaign, "--workers", "0", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["runs"] == 1
    is_told = many == 1 and folder is None
    hint = "1 runs as Python: stage2 compile makes them twice as fast\n"
    assert done.stderr == (hint if is_told else "")
