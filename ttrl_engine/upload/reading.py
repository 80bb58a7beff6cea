"""A file, as bytes or by path, becomes a `Table`: its format and encoding are found, its size is bounded.

Text must be UTF-8 or UTF-16. Other encodings are never guessed, since a wrong guess spoils prompts silently: the error
names the place, and a caller who knows better passes `encoding`.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

from ttrl_engine.errors import DataError
from ttrl_engine.upload import delimited, json_rows, parquet, spreadsheet
from ttrl_engine.upload.table import DEFAULT_MAX_BYTES, MAX_EXPANSION, Budget, Issue, IssueLog, Table

FORMATS: Final = ("csv", "tsv", "json", "jsonl", "parquet", "xlsx", "txt")
_ENDINGS: Final = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".xlsx": "xlsx", ".xlsm": "xlsx", ".txt": "txt", ".text": "txt",
    ".md": "txt",
}  # fmt: skip
_REFUSED: Final = {
    ".xls": "Old Excel files cannot be read. Save it as .xlsx or .csv.",
    ".ods": "OpenDocument sheets cannot be read. Save it as .xlsx or .csv.",
    ".gz": "Compressed files cannot be read. Unpack it first.",
    ".zip": "Archives cannot be read. Unpack it and upload the table inside.",
    ".pdf": "PDF files cannot be read. Put the problems into a table, one per row.",
    ".docx": "Word files cannot be read. Put the problems into a table, one per row.",
}


def read_table(
    source: bytes | str | Path, filename: str, *, max_bytes: int = DEFAULT_MAX_BYTES, encoding: str | None = None
) -> Table:
    """Read a file into rows of text. `filename` only tells the format; nothing is opened by it.

    `source` is the content or a path. Raises DataError, with what to do, where nothing can be read: empty, larger than
    `max_bytes`, too many rows, broken, or text that is not in `encoding` (unset: UTF-8 or UTF-16). Single rows that
    cannot be read are left out and named in `Table.warnings`.
    """
    data = _load(source, filename, max_bytes)
    ending = Path(filename).suffix.lower()
    budget = Budget(max_characters=MAX_EXPANSION * max_bytes)
    if data[:4] == b"PAR1":
        return parquet.read(data, budget)
    if data[:4] == b"PK\x03\x04" and ending not in (".zip", ".ods", ".docx"):
        return spreadsheet.read(data, MAX_EXPANSION * max_bytes, budget)
    if ending in _REFUSED:
        raise DataError(f"{_named(filename)}: {_REFUSED[ending]}")
    kind = _ENDINGS.get(ending)
    if kind in ("parquet", "xlsx"):
        raise DataError(f"{_named(filename)} is not a {kind.upper()} file inside, or is damaged. Save it again.")
    text, found = decode(data, encoding)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{_named(filename)} is empty: it holds nothing but white space.")
    kind = kind or _guess_format(text)
    if kind == "json":
        table = json_rows.read_json(text, found, budget)
    elif kind == "jsonl":
        table = json_rows.read_jsonl(text, found, budget)
    elif kind == "txt":
        table = read_plain(text, found, budget)
    else:
        table = delimited.read(text, found, "tsv" if kind == "tsv" else "csv", budget)
    if encoding is not None:
        note = Issue(None, "warning", f"Read as {encoding} because that was chosen: check that no letter looks wrong.")
        return Table(
            table.columns, table.rows, table.format, found, (note, *table.warnings), table.row_numbers, table.num_rows
        )
    return table


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """(text, name of the encoding). Raises DataError naming the byte and line where the text is not UTF-8."""
    if encoding is not None:
        try:
            return data.decode(encoding), encoding
        except (UnicodeDecodeError, LookupError):
            raise DataError(f"The file cannot be read as {encoding}. Save it as UTF-8.") from None
    name = "utf-8"
    if data.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    elif data.count(0, 0, 4096) * 3 > min(len(data), 4096):  # Latin text in UTF-16 is half zeros
        name = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data.decode(name)
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        raise DataError(
            f"The file is not valid {'UTF-8' if name.startswith('utf-8') else 'UTF-16'}: byte {failure.start + 1:,}, "
            f"in line {line:,}, cannot be read. Save it as UTF-8 and upload it again."
        ) from None
    if text.count("\0", 0, 4096) * 20 > min(len(text), 4096):
        raise DataError("The file is not text. Upload CSV, TSV, JSON, JSONL, Parquet, XLSX or TXT.")
    return text, name


def read_plain(text: str, encoding: str, budget: Budget) -> Table:
    """One problem per line; where blank lines part blocks of several lines, one problem per block."""
    lines = text.splitlines()
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line.rstrip())
        elif blocks[-1]:
            blocks.append([])
    blocks = [block for block in blocks if block]
    if len(blocks) > 1 and any(len(block) > 1 for block in blocks):
        problems = ["\n".join(block) for block in blocks]
    else:
        problems = [line for block in blocks for line in block]
    for problem in problems:
        budget.spend_row((problem,))
    log = IssueLog()
    if len(blocks) > 1 and len(problems) == len(blocks) and any(len(block) > 1 for block in blocks):
        log.add(None, "info", f"Read as {len(problems):,} blocks parted by blank lines, one problem each.", "blocks")
    return Table(("problem",), [{"problem": problem} for problem in problems], "txt", encoding, log.issues())


def _load(source: bytes | str | Path, filename: str, max_bytes: int) -> bytes:
    if isinstance(source, bytes):
        size = len(source)
    else:
        try:
            size = Path(source).stat().st_size
        except OSError as failure:
            raise DataError(f"Cannot read {_named(str(source))}: {failure.strerror}.") from None
    if size == 0:
        raise DataError(f"{_named(filename)} is empty.")
    if size > max_bytes:
        raise DataError(
            f"{_named(filename)} has {size / 2**20:,.0f} MB; at most {max_bytes / 2**20:,.0f} MB are read. "
            "Remove columns that are not needed, or split it."
        )
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as failure:
        raise DataError(f"Cannot read {_named(str(source))}: {failure.strerror}.") from None


def _guess_format(text: str) -> str:
    start = text.lstrip()[:1]
    if start == "[":
        return "json"
    if start == "{":
        first_line = text.lstrip().split("\n", 1)[0].rstrip()
        return "jsonl" if first_line.endswith("}") else "json"
    return "csv" if delimited.sniff(text) is not None else "txt"


def _named(filename: str) -> str:
    return f"'{filename[-120:]}'"
