"""CSV and TSV. The first row names the columns; a row with more or fewer cells than that is left out and named."""

from __future__ import annotations

import csv
import io
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal

from ttrl_engine.errors import DataError
from ttrl_engine.upload.table import Budget, IssueLog, Table, unique_columns

_CANDIDATES: Final = (",", "\t", ";", "|")
_SAMPLE_LINES: Final = 60
# Stands for "no delimiter": a file of one column may hold commas outside quotes.
_NONE: Final = "\x1f"


def sniff(text: str) -> str | None:
    """The delimiter under which most of the first records have as many cells as the first, two or more; else None."""
    sample = "\n".join(itertools.islice(_lines(text), _SAMPLE_LINES))
    best: tuple[float, int] = (0.0, 0)
    delimiter = None
    for candidate in _CANDIDATES:
        records = [record for record in _reader(sample, candidate) if record]
        if len(records) < 2 or len(records[0]) < 2:
            continue
        same = sum(len(record) == len(records[0]) for record in records[1:]) / (len(records) - 1)
        if same >= 0.5 and (round(same, 1), len(records[0])) > best:
            best, delimiter = (round(same, 1), len(records[0])), candidate
    if delimiter is None:
        # One record after the header may be ragged; then the header alone tells.
        header = sample.split("\n", 1)[0]
        counts = {candidate: header.count(candidate) for candidate in _CANDIDATES}
        most = max(_CANDIDATES, key=lambda candidate: counts[candidate])
        names = header.split(most)
        if counts[most] and all(0 < len(name.strip()) <= 30 and len(name.split()) <= 2 for name in names):
            return most
    return delimiter


def read(text: str, encoding: str, kind: Literal["csv", "tsv"], budget: Budget) -> Table:
    """The rows below the header. Raises DataError if a quotation mark is never closed or there are no rows."""
    log = IssueLog()
    delimiter = "\t" if kind == "tsv" and "\t" in text else sniff(text) or _NONE
    records = _records(text, delimiter, log)
    header = next(records, None)
    if header is None:
        raise DataError("The file is empty.")
    columns = unique_columns(_trimmed(header), log)
    rows: list[dict[str, str]] = []
    numbers: list[int] = []
    number = 0
    for number, record in enumerate(records, 1):
        budget.spend_row(record)
        cells = _trimmed(record, len(columns))
        if len(cells) != len(columns):
            _report_ragged(log, number, len(cells), len(columns))
            continue
        rows.append(dict(zip(columns, cells, strict=True)))
        numbers.append(number)
    if not rows and not log.issues():
        raise DataError("The file has a first row, which names the columns, and no rows below it.")
    return Table(columns, rows, kind, encoding, log.issues(), numbers, number)


def _report_ragged(log: IssueLog, number: int, found: int, wanted: int) -> None:
    if found > wanted:
        why = f"Row {number} has {found} cells where the header has {wanted}; it is left out. Quote cells with commas."
        log.add(number, "error", why, "more cells than the header has; left out")
    else:
        why = f"Row {number} has {found} of {wanted} cells; it is left out."
        log.add(number, "error", why, "fewer cells than the header has; left out")


def _records(text: str, delimiter: str, log: IssueLog) -> Iterator[list[str]]:
    """All records but blank ones; quotation marks out of place are taken as they are, with a warning."""
    reader = _reader(text, delimiter, strict=True)
    try:
        deque(reader, maxlen=0)
    except csv.Error as failure:
        line = reader.line_num
        if "end of data" in str(failure):
            raise DataError(_unclosed(text, delimiter)) from None
        log.add(
            None,
            "warning",
            f"A quotation mark in line {line:,} stands where none is expected. It was read as text; to quote a "
            "quotation mark, double it.",
            "quotation marks",
        )
    for record in _reader(text, delimiter):
        if any(cell.strip() for cell in record):
            yield record


def _unclosed(text: str, delimiter: str) -> str:
    last_start = 1
    reader = _reader(text, delimiter)
    before = 0
    for _ in reader:
        last_start, before = before + 1, reader.line_num
    return (
        f"A quotation mark opened in the row that starts in line {last_start:,} is never closed, so the rest of the "
        "file would be one cell. Close or remove it."
    )


def _trimmed(record: list[str], width: int = 1) -> list[str]:
    """Without empty cells beyond `width`: spreadsheets like to end every line with commas."""
    end = len(record)
    while end > width and not record[end - 1].strip():
        end -= 1
    return record[:end]


def _reader(text: str, delimiter: str, *, strict: bool = False) -> Any:  # Any: the csv module has no public name for it
    # The size of the whole file is bounded already; the module's own limit would only refuse a long cell.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)


def _lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text[:200_000]):
        if line.strip():
            yield line.rstrip("\r\n")
