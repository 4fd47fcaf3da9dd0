"""A store as Parquet files, one per table, for people with pandas. Needs the extra `export` (pyarrow: 170 MB)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from building.errors import StoreError
from service.store.sql import SqlStore
from service.store.tables import INSTANT, METADATA

INSTANTS = {
    "stamp",
    "received",
    "issued",
    "made",
    "started",
    "ended",
    "start",
    "end",
    "valid_until",
    "settled",
    "last",
    "at",
    "until",
}
"""Columns of whole milliseconds that are instants; they become UTC time stamps."""
NOT_EXPORTED = ("answers", "meta")
_BATCH = 50_000


def export(store: SqlStore, folder: Path) -> dict[str, int]:
    """Write every table with rows of people's interest to `folder`/<table>.parquet, as one moment saw it.

    Returns:
        Rows by table.

    Raises:
        StoreError: the folder cannot be written, or the store not be read.
    """
    counts = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with store._reading() as c:
            for table in METADATA.sorted_tables:
                if table.name not in NOT_EXPORTED:
                    counts[table.name] = _write(c, table, folder / f"{table.name}.parquet")
    except OSError as e:
        raise StoreError(url=folder, reason=f"the export was not written: {e}.") from e
    return counts


def _write(c: sa.Connection, table: sa.Table, file: Path) -> int:
    schema = pa.schema([(column.name, _type(column)) for column in table.columns])
    part, n = file.with_name(f"{file.name}.part"), 0
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            rows = c.execution_options(yield_per=_BATCH).execute(sa.select(table).order_by(*table.primary_key))
            for batch in rows.partitions(_BATCH):
                columns = list(zip(*batch, strict=True))
                arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                n += len(batch)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return n


def _type(column: sa.Column[object]) -> pa.DataType:
    if isinstance(column.type, INSTANT) and column.name in INSTANTS:
        return pa.timestamp("ms", tz="UTC")
    if isinstance(column.type, sa.Integer):
        return pa.int64()
    return pa.float64() if isinstance(column.type, sa.Float) else pa.string()
