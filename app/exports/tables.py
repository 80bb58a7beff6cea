"""Metrics, elections and scores of a run as CSV or Parquet, in long format: one row per fact."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from worker.store import Store
from worker.store.tables import TABLES, TableName


def csv_pieces(store: Store, run_id: int, table: TableName) -> Iterator[str]:
    """The table as CSV, piece by piece; an empty cell is an unknown value."""
    return lines_of(tuple(TABLES[table]), store.table_rows(run_id, table))


def lines_of(columns: Sequence[str], batches: Iterable[Iterable[Sequence[Any]]]) -> Iterator[str]:
    """A head and batches of rows as CSV, piece by piece; an empty cell is an unknown value."""
    yield _csv_lines([columns])
    for rows in batches:
        yield _csv_lines(rows)


def parquet(store: Store, run_id: int, table: TableName) -> bytes:
    """The table as one Parquet file (zstd); null is an unknown value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in TABLES[table].items()])
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for rows in store.table_rows(run_id, table):
            columns = [
                pa.array(list(values), type=part.type)
                for values, part in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return out.getvalue()


def safe_cell(value: Any) -> Any:
    """The cell as a spreadsheet may see it: text that starts like a formula would be run there."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(["" if value is None else safe_cell(value) for value in row])
    return text.getvalue()
