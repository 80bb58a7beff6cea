"""A user's file becomes a problem set: read into rows, columns mapped, every row checked and every fault named."""

from __future__ import annotations

from ttrl_engine.upload.draft import Draft, DraftStats, validate
from ttrl_engine.upload.kinds import guess_answers
from ttrl_engine.upload.mapping import ColumnMapping, guess_mapping
from ttrl_engine.upload.reading import FORMATS, read_table
from ttrl_engine.upload.table import DEFAULT_MAX_BYTES, MAX_ROWS, Issue, Severity, Table

__all__ = [
    "DEFAULT_MAX_BYTES",
    "FORMATS",
    "MAX_ROWS",
    "ColumnMapping",
    "Draft",
    "DraftStats",
    "Issue",
    "Severity",
    "Table",
    "guess_answers",
    "guess_mapping",
    "read_table",
    "validate",
]
