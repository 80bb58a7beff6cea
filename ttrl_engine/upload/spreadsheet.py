"""XLSX: the first sheet, its first filled row as the header. Values as stored; formulas by their last result."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any, Final

from ttrl_engine.errors import DataError
from ttrl_engine.upload.cells import cell_text
from ttrl_engine.upload.table import MAX_COLUMNS, MAX_ROWS, Budget, IssueLog, Table, too_many_rows, unique_columns

_MAX_PARTS: Final = 2000


def read(data: bytes, max_unpacked: int, budget: Budget) -> Table:
    """All filled rows of the first sheet. Raises DataError for a damaged file or one that unpacks to too much."""
    _check_archive(data, max_unpacked)
    from openpyxl import load_workbook  # needed for this format only

    log = IssueLog()
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    except Exception as failure:  # noqa: BLE001  # openpyxl raises whatever its XML parsing meets
        raise DataError(f"The XLSX file cannot be read ({type(failure).__name__}). Save it again, or as CSV.") from None
    try:
        if len(book.worksheets) > 1:
            why = f"Of {len(book.worksheets)} sheets only the first, {book.worksheets[0].title!r}, is read."
            log.add(None, "info", why, "sheets")
        return _read_sheet(book.worksheets[0], budget, log)
    except DataError:
        raise
    except Exception as failure:  # noqa: BLE001  # as above: a sheet is parsed while it is read
        raise DataError(f"The XLSX file cannot be read ({type(failure).__name__}). Save it again, or as CSV.") from None
    finally:
        book.close()


def _read_sheet(sheet: Any, budget: Budget, log: IssueLog) -> Table:  # Any: openpyxl's read-only sheet has no stub
    sheet.reset_dimensions()  # what the file claims about its size is not trusted
    records = _filled_rows(sheet)
    header = next(records, None)
    if header is None:
        raise DataError("The first sheet of the XLSX file is empty.")
    columns = unique_columns(header, log)
    rows: list[dict[str, str]] = []
    for number, cells in enumerate(records, 1):
        budget.spend_row(cells)
        extra = [cell for cell in cells[len(columns) :] if cell.strip()]
        if extra:
            why = f"Row {number} has cells beyond the last named column; they are left out."
            log.add(number, "warning", why, "cells beyond the last named column")
        padded = [*cells[: len(columns)], *[""] * (len(columns) - len(cells))]
        rows.append(dict(zip(columns, padded, strict=True)))
    if not rows:
        raise DataError("The first sheet has a first row, which names the columns, and no rows below it.")
    return Table(columns, rows, "xlsx", "binary", log.issues())


def _filled_rows(sheet: Any) -> Iterator[list[str]]:
    for index, row in enumerate(sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS + 1)):
        if index > 2 * MAX_ROWS:
            raise too_many_rows()
        cells = [cell_text(value) for value in row]
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            yield cells


def _check_archive(data: bytes, max_unpacked: int) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except zipfile.BadZipFile:
        raise DataError("The XLSX file is damaged: it is no complete archive. Save it again.") from None
    # zipfile never reads more of a part than the size it declares, so the declared sizes bound the memory.
    unpacked = sum(part.file_size for part in parts)
    if unpacked > max_unpacked or len(parts) > _MAX_PARTS:
        raise DataError(
            f"The XLSX file unpacks to {unpacked / 2**20:,.0f} MB in {len(parts):,} parts, which is too much. "
            "Save it as CSV."
        )
    if "xl/workbook.xml" not in {part.filename for part in parts}:
        raise DataError("The file is an archive, but no XLSX workbook. Unpack it and upload the table inside.")
