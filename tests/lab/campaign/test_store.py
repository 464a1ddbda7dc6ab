"""The file of results: complete at every moment, and clear about what it is not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lab.campaign.store import FORMAT, Store
from lab.errors import UserError
from tests.docs.pages import ROOT
from tests.lab.campaign.conftest import ESCAPE, PROVENANCE, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.campaign.row import Row

WRITER = """
import resource, sys
from pathlib import Path
from lab.campaign.store import Store
from lab.errors import UserError
from tests.lab.campaign.conftest import PROVENANCE, rows_of

what, path = sys.argv[1], Path(sys.argv[2])
if what == "create on a full disk":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    store = Store.create(path, PROVENANCE.as_text())
    if what == "until the disk is full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    rows = rows_of(1 << 40)
    for number in range(1 << 30):
        store.add([next(rows) for _ in range(10)])
        print(10 * (number + 1), flush=True)
except UserError as error:
    sys.exit(f"refused: {error}")
"""
"""A process that adds ten rows at a time, and says how many are safe."""


def writer(what: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, what, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_rows_come_back_as_they_were_by_their_number(store: Store) -> None:
    rows = list(rows_of(50))
    store.add(reversed(rows[20:]))
    store.add(rows[:20])
    assert list(store.rows()) == rows
    assert store.row(33) == rows[33]
    assert store.done() == set(range(50))


def test_reopened_file_has_rows_and_provenance(store: Store) -> None:
    store.add([ESCAPE])
    store.close()
    with Store.open(store.path) as again:
        assert list(again.rows()) == [ESCAPE]
        assert again.provenance() == {"format": FORMAT, **PROVENANCE.as_text()}


def test_empty_fields_of_a_row_stay_empty(store: Store) -> None:
    nothing = ESCAPE._replace(bit=None, injected_at=None, pc="", met_at=None)
    store.add([nothing])
    assert store.row(0) == nothing


def test_existing_file_is_never_written_over(store: Store) -> None:
    store.add([ESCAPE])
    with pytest.raises(UserError, match=r"results\.db exists; .*resume.*another file"):
        Store.create(store.path, {})
    assert list(store.rows()) == [ESCAPE]


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open .*nowhere/results\.db"):
        Store.create(tmp_path / "nowhere" / "results.db", {})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results in .*nothing\.db: no such file"):
        Store.open(tmp_path / "nothing.db")
    assert not (tmp_path / "nothing.db").exists()


@pytest.mark.parametrize("content", [b"", b"id,outcome\n1,masked\n" * 100], ids=["empty", "text"])
def test_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.csv has no results of a campaign; name a file"):
        Store.open(path)
    assert path.read_bytes() == content


def test_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE provenance (key TEXT)")
    connection.close()
    with pytest.raises(UserError, match="has no results of a campaign"):
        Store.open(path)


def test_other_format_is_refused_by_its_number(store: Store) -> None:
    with store._connection as transaction:
        transaction.execute("UPDATE provenance SET value = '99' WHERE name = 'format'")
    store.close()
    with pytest.raises(UserError, match=rf"format 99, not {FORMAT}"):
        Store.open(store.path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [([], "it is empty"), (list(rows_of(3)), "its 3 rows are numbered 0 to 2")],
    ids=["none", "three"],
)
def test_unknown_row_is_refused_with_those_that_there_are(
    store: Store, rows: list[Row], said: str
) -> None:
    store.add(rows)
    with pytest.raises(UserError, match=f"has no row 7: {said}"):
        store.row(7)


def test_rows_are_added_all_or_none(store: Store) -> None:
    rows = list(rows_of(4))
    store.add(rows[:1])
    with pytest.raises(UserError, match=r"another process writes results to .*resume"):
        store.add([rows[1], rows[2], rows[0]])
    assert store.done() == {0}


def test_failure_of_who_supplies_rows_adds_none(store: Store) -> None:
    def broken() -> Iterator[Row]:
        yield from rows_of(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(broken())
    assert store.done() == set()


def test_full_file_is_one_line_and_keeps_what_was_added(store: Store) -> None:
    rows = list(rows_of(4000))
    store.add(rows[:10])
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(UserError, match=r"(?s)\Acannot write results to [^\n]*full[^\n]*resume"):
        store.add(rows[10:])
    assert list(store.rows()) == rows[:10]
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.add(rows[10:])
    assert list(store.rows()) == rows


def test_full_disk_leaves_a_file_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    printed, refusal = writer("until the disk is full", path).communicate(timeout=60)
    assert refusal.startswith(f"refused: cannot write results to {path}"), refusal
    safe = int(printed.split()[-1])
    with Store.open(path) as store:
        assert store.done() == set(range(safe))
        store.add(list(rows_of(safe + 10))[safe:])
        assert list(store.rows()) == list(rows_of(safe + 10))


def test_killed_process_loses_no_row_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    process = writer("until killed", path)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 200:
            process.kill()
            break
    rest, _ = process.communicate(timeout=60)
    safe = int((rest.split() or [line])[-1])
    with Store.open(path) as store:
        done = store.done()
        assert done in (set(range(safe)), set(range(safe + 10)))
        assert list(store.rows()) == list(rows_of(len(done)))


def test_disk_without_any_room_is_one_line_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    _, refusal = writer("create on a full disk", path).communicate(timeout=60)
    assert refusal.startswith(f"refused: cannot make {path}: "), refusal
    assert len(refusal.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
