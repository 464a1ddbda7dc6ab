"""Results as Parquet, read back by another program's reader."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest

from lab.campaign import parquet
from lab.campaign.parquet import write_parquet
from lab.campaign.provenance import SHORT
from lab.campaign.row import Row
from lab.errors import UserError
from tests.lab.campaign.conftest import CAMPAIGN, ESCAPE, PROVENANCE, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.store import Store


def read(path: Path, what: str = "*") -> list[tuple[Any, ...]]:
    query = f"SELECT {what} FROM '{path}' ORDER BY id"  # noqa: S608  # of the tests
    return duckdb.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.parquet"


def test_every_row_comes_back_with_what_it_follows_from(store: Store, path: Path) -> None:
    rows = [*rows_of(500)]
    store.add(rows)
    assert write_parquet(store, path) == 500
    constants = tuple(getattr(PROVENANCE, name) for name in SHORT)
    assert read(path) == [(*row, *constants) for row in rows]


def test_rows_carry_seed_profile_versions_and_hashes(store: Store, path: Path) -> None:
    store.add([ESCAPE])
    write_parquet(store, path)
    columns = ("seed", "cpu", "stage2", "python", "unicorn", "guest_sha256", "plan")
    assert read(path, ", ".join(columns)) == [
        (7, "max", "0.1.0", "3.12.4", "2.1.4", PROVENANCE.guest_sha256, PROVENANCE.plan)
    ]


def test_what_is_not_there_is_null_and_numbers_are_numbers(store: Store, path: Path) -> None:
    store.add([ESCAPE._replace(bit=None, injected_at=None, met_at=None)])
    write_parquet(store, path)
    assert read(path, "bit, injected_at, met_at, typeof(time), typeof(weight), typeof(seed)") == [
        (None, None, None, "BIGINT", "BIGINT", "BIGINT")
    ]


def test_repeated_texts_are_stored_as_a_dictionary(store: Store, path: Path) -> None:
    store.add(rows_of(2000))
    write_parquet(store, path)
    schema = pq.read_schema(path)
    texts = [schema.field(name).type for name in ("location", "outcome", "guest", "plan")]
    assert [str(kind) for kind in texts] == [
        "dictionary<values=string, indices=int32, ordered=0>"
    ] * 4
    assert path.stat().st_size < store.path.stat().st_size / 2


def test_metadata_of_the_file_has_the_campaign_itself(store: Store, path: Path) -> None:
    write_parquet(store, path)
    metadata = pq.read_schema(path).metadata
    assert metadata[b"stage2.campaign_text"].decode() == CAMPAIGN
    assert metadata[b"stage2.total"] == b"10000"


def test_file_without_rows_has_the_columns(store: Store, path: Path) -> None:
    assert write_parquet(store, path) == 0
    assert pq.read_schema(path).names == [*Row._fields, *SHORT]
    assert read(path) == []


def test_many_rows_are_written_in_parts(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_AT_A_TIME", 7)
    store.add(rows_of(40))
    write_parquet(store, path)
    assert pq.ParquetFile(path).num_row_groups == 6
    assert [row[: len(Row._fields)] for row in read(path)] == [*rows_of(40)]


def test_names_of_provenance_and_of_rows_differ() -> None:
    assert not set(SHORT) & set(Row._fields)


def test_folder_that_is_not_there_is_one_line(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "results.parquet"
    with pytest.raises(UserError, match=r"cannot write .*results\.parquet: .*; name another file"):
        write_parquet(store, path)


def test_failure_leaves_the_old_file_and_nothing_else(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path.write_text("old")
    monkeypatch.setattr(parquet, "_table", full)
    store.add([ESCAPE])
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError, match="No space left on device"):
        write_parquet(store, path)
    assert path.read_text() == "old"
    assert sorted(path.parent.iterdir()) == before


def test_without_the_package_one_line_says_what_to_install(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'stage2\[campaign\]'"):
        write_parquet(store, path)
    assert not path.exists()
