"""``stage2 inject report``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import duckdb
import pytest
from click.testing import CliRunner

from lab.cli import cli
from tests.lab.campaign.conftest import rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.store import Store


@pytest.fixture
def results(store: Store) -> Path:
    """Return the file of 200 rows."""
    store.add(rows_of(200))
    store.close()
    return store.path


def report(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["inject", "report", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def refusal(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["inject", "report", *map(str, arguments)])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    return line


def test_summary_is_printed(results: Path) -> None:
    text = report(results)
    assert "200 of 10,000 runs so far" in text
    assert f"stage2 inject resume {results}" in " ".join(text.split())


def test_json_is_all_of_stdout(results: Path) -> None:
    found = json.loads(report(results, "--json"))
    assert (found["runs"], found["complete"]) == (200, False)


def test_page_and_parquet_are_written_beside_the_summary(results: Path, tmp_path: Path) -> None:
    page, parquet = tmp_path / "out.html", tmp_path / "out.parquet"
    text = report(results, "--html", page, "--parquet", parquet)
    assert "200 of 10,000 runs so far" in text
    assert "200 of 10,000 runs so far" in page.read_text(encoding="utf-8")
    query = "SELECT count(*) FROM read_parquet(?)"
    assert duckdb.execute(query, [str(parquet)]).fetchall() == [(200,)]


def test_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.db")
    (tmp_path / "flips.toml").write_text('name = "flips"')
    assert "has no results of a campaign" in refusal(tmp_path / "flips.toml")


def test_page_that_cannot_be_written_is_refused(results: Path, tmp_path: Path) -> None:
    assert "Not a directory" in refusal(results, "--html", results / "out.html")
    for option in ("--html", "--parquet"):
        line = refusal(results, option, tmp_path / "nowhere" / "out")
        assert f"cannot write {tmp_path}/nowhere/out: No such file or directory" in line
