"""The results of a campaign on disk: one SQLite file, complete at every moment.

Rows are added in transactions. A process that is killed, or a disk that is full, loses at most
rows that were not yet added; those experiments are missing from the file, and a resumed
campaign runs exactly them.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from lab.campaign.row import Row, columns
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

FORMAT: Final = "1"
"""Of the tables: files of another one are refused."""

_COLUMNS: Final = columns()
_INSERT: Final = f"INSERT INTO results VALUES ({', '.join('?' for _ in _COLUMNS)})"  # noqa: S608  # only marks
_TABLES: Final = f"""
CREATE TABLE provenance (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE results ({", ".join(f"{n} {t}" for n, t in _COLUMNS.items())}, PRIMARY KEY (id));
"""


class Store:
    """An open file of results: :meth:`create` or :meth:`open` one, and close it.

    Parameters
    ----------
    path : Path
        The file.
    connection : sqlite3.Connection
        To it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @staticmethod
    def check_new(path: Path) -> None:
        """Check that there is no file yet.

        Raises
        ------
        UserError
            If there is one.
        """
        if path.exists():
            raise UserError(
                f"{path} exists; go on with it by 'stage2 inject resume {path}', "
                "or name another file"
            )

    @classmethod
    def create(cls, path: Path, provenance: Mapping[str, str]) -> Store:
        """Make a new file.

        Parameters
        ----------
        path : Path
            Where; there must be no file yet.
        provenance : Mapping[str, str]
            What the results follow from: versions, hashes, the campaign itself.

        Raises
        ------
        UserError
            If there is a file already, or none can be made.
        """
        cls.check_new(path)
        store = cls(path, _connect(path))
        try:
            store._connection.executescript(f"BEGIN; {_TABLES} COMMIT;")
            with store._connection as transaction:
                transaction.executemany(
                    "INSERT INTO provenance VALUES (?, ?)",
                    [("format", FORMAT), *provenance.items()],
                )
        except sqlite3.OperationalError as error:
            store.close()
            path.unlink(missing_ok=True)
            raise UserError(f"cannot make {path}: {error}; make room, or name another") from error
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open a file that :meth:`create` has made.

        Raises
        ------
        UserError
            If there is none, or it is something else.
        """
        if not path.is_file():
            raise UserError(f"there are no results in {path}: no such file")
        store = cls(path, _connect(path))
        try:
            found = store.provenance().get("format")
        except sqlite3.DatabaseError:
            found = None
        if found != FORMAT:
            store.close()
            which = f" that this version can read (format {found}, not {FORMAT})" if found else ""
            raise UserError(
                f"{path} has no results of a campaign{which}; "
                "name a file that 'stage2 inject run' has made"
            )
        return store

    def provenance(self) -> dict[str, str]:
        """Return what the results follow from."""
        return dict(self._connection.execute("SELECT name, value FROM provenance ORDER BY name"))

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, all or none.

        Raises
        ------
        UserError
            If they cannot be written.
        """
        with self._refusals(), self._connection as transaction:
            transaction.executemany(_INSERT, rows)

    def done(self) -> set[int]:
        """Return the experiments that have a row."""
        return {number for (number,) in self._connection.execute("SELECT id FROM results")}

    def rows(self) -> Iterator[Row]:
        """Yield all rows, by their number."""
        for found in self._connection.execute("SELECT * FROM results ORDER BY id"):
            yield Row._make(found)

    def row(self, number: int) -> Row:
        """Return one row.

        Raises
        ------
        UserError
            If there is no such row.
        """
        query = "SELECT * FROM results WHERE id = ?"
        found = self._connection.execute(query, (number,)).fetchone()
        if found is None:
            query = "SELECT min(id), max(id), count(*) FROM results"
            first, last, count = self._connection.execute(query).fetchone()
            there = f"its {count} rows are numbered {first} to {last}" if count else "it is empty"
            raise UserError(f"{self.path} has no row {number}: {there}")
        return Row._make(found)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn what SQLite and the disk refuse into one line."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise UserError(
                f"another process writes results to {self.path}, too; let it end, or stop it "
                f"and go on by 'stage2 inject resume {self.path}'"
            ) from error
        except sqlite3.OperationalError as error:
            raise UserError(
                f"cannot write results to {self.path}: {error}; what was written is safe, "
                f"make room and go on by 'stage2 inject resume {self.path}'"
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA busy_timeout = 5000")
    except sqlite3.Error as error:
        raise UserError(f"cannot open {path}: {error}") from error
    return connection
