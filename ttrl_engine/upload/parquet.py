"""Parquet, in batches: what a small file expands to is counted before it is held."""

from __future__ import annotations

import io
from typing import Any, Final

from ttrl_engine.errors import DataError
from ttrl_engine.upload.cells import cell_text, flatten
from ttrl_engine.upload.table import MAX_ROWS, Budget, IssueLog, Table, too_many_rows, unique_columns

_ROWS_PER_BATCH: Final = 512


def read(data: bytes, budget: Budget) -> Table:
    """All rows. Raises DataError for a damaged file, too many rows, or too much text once unpacked."""
    import pyarrow as pa  # heavy, and needed for this format only
    import pyarrow.parquet as pq

    log = IssueLog()
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        if file.metadata.num_rows > MAX_ROWS:
            raise too_many_rows()
        if file.metadata.num_rows == 0:
            raise DataError("The Parquet file has no rows.")
        schema = file.schema_arrow
        names = unique_columns(schema.names, log)
        texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
        # Kept as dictionaries, a value repeated a million times in a few bytes of file is held once.
        file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts)
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if unpacked > budget.max_characters:
            raise DataError(f"The Parquet file unpacks to {unpacked / 2**20:,.0f} MB, which is too much. Split it.")
        raw_rows: list[dict[str, str]] = []
        for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH):
            columns = [_texts(batch.column(i)) for i in range(batch.num_columns)]
            for values in zip(*columns, strict=True):
                row: dict[str, str] = {}
                for name, value in zip(names, values, strict=True):
                    row.update(flatten({name: value}))
                budget.spend_row(row.values())
                raw_rows.append(row)
    except (pa.ArrowException, OSError, ValueError) as failure:
        raise DataError(f"The Parquet file cannot be read: {str(failure)[:200]}. Save it again.") from None
    found = dict.fromkeys(name for row in raw_rows for name in row)
    rows = [{name: row.get(name, "") for name in found} for row in raw_rows]
    return Table(tuple(found), rows, "parquet", "binary", log.issues())


def _texts(column: Any) -> list[Any]:  # Any: pyarrow ships no types
    """The values of one column of a batch; those of a dictionary column share their text objects."""
    if hasattr(column, "dictionary"):
        shared = [cell_text(value) for value in column.dictionary.to_pylist()]
        return ["" if index is None else shared[index] for index in column.indices.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values
