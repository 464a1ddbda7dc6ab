"""The rows of a campaign as a Parquet file, for analysis with other tools.

Each row has the fields of :class:`lab.campaign.row.Row`, and behind them what it follows from:
the short fields of :class:`lab.campaign.provenance.Provenance`, equal in all rows of a file, so
that files of several campaigns can be read together. All of the provenance, the text of the
campaign included, is in the metadata of the file, under ``stage2.NAME``.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from lab.campaign.extra import extra
from lab.campaign.output import whole_file
from lab.campaign.provenance import KINDS, SHORT, Provenance
from lab.campaign.row import Row, columns

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.store import Store

_AT_A_TIME: Final = 1 << 16
"""Rows that are in memory."""
_REPEATED: Final = ("location", "status", "pc", "outcome", "why", "end", "console")
"""Fields of few different values, stored as numbers of a dictionary."""
_KINDS: Final = {
    "INTEGER": "int64",
    "TEXT": "string",
    int: "int64",
    float: "float64",
    str: "string",
}
"""Types of Parquet, by those of SQL and of Python."""


def write_parquet(store: Store, path: Path) -> int:
    """Write all rows of a file of results; return how many.

    Parameters
    ----------
    store : Store
        The file of results.
    path : Path
        The Parquet file; one that is there is replaced once the new one is whole.

    Raises
    ------
    UserError
        If pyarrow is not installed, or the file cannot be written.
    """
    with extra("Parquet"):
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415  # optional, ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415

    provenance = Provenance.of(store)
    metadata = {f"stage2.{name}": text for name, text in provenance.as_text().items()}
    schema = _schema(pa).with_metadata(metadata)
    count = 0
    with whole_file(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        source = store.rows()
        while rows := list(islice(source, _AT_A_TIME)):
            count += len(rows)
            writer.write_table(_table(pa, schema, rows, provenance))
    return count


def _schema(pa: Any) -> Any:  # noqa: ANN401  # the package ships no types
    few = pa.dictionary(pa.int32(), pa.string())
    fields = {name: _KINDS[kind] for name, kind in columns().items()}
    constants = {name: _KINDS[KINDS[name]] for name in SHORT}
    return pa.schema(
        [(name, few if name in _REPEATED else kind) for name, kind in fields.items()]
        + [(name, few if kind == "string" else kind) for name, kind in constants.items()]
    )


def _table(pa: Any, schema: Any, rows: list[Row], provenance: Provenance) -> Any:  # noqa: ANN401  # the package ships no types
    arrays = [
        pa.array(values, schema.field(name).type)
        for name, values in zip(Row._fields, zip(*rows, strict=True), strict=True)
    ]
    for name in SHORT:
        value = pa.repeat(getattr(provenance, name), len(rows))
        arrays.append(value.cast(schema.field(name).type))
    return pa.table(arrays, schema=schema)
