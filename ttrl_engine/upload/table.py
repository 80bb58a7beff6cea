"""What a file is read into: rows of text under named columns, and the issues met on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ttrl_engine.errors import DataError

Severity: TypeAlias = Literal["error", "warning", "info"]

DEFAULT_MAX_BYTES: Final = 64 * 2**20
MAX_ROWS: Final = 200_000
MAX_COLUMNS: Final = 200
# Text that a compressed file may expand to, as a multiple of the size allowed for the file.
MAX_EXPANSION: Final = 8
# Of one topic so many issues are told row by row; the rest is one issue with a count.
_MAX_PER_TOPIC: Final = 15


@dataclass(frozen=True)
class Issue:
    """Something a person should know about their file. `row` is the 1-based data row; None speaks of the whole file.

    An "error" row is left out of the problem set; "warning" and "info" rows are taken.
    """

    row: int | None
    severity: Severity
    message: str


@dataclass(frozen=True)
class Table:
    """A file as text. Every row has every column; a missing value is "".

    `row_numbers[i]` is the 1-based data row of `rows[i]`: rows that cannot be read are not in it, though `num_rows`
    counts them. `warnings` are the issues of the reading.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    format: str
    encoding: str
    warnings: tuple[Issue, ...] = ()
    row_numbers: Sequence[int] = ()
    num_rows: int = 0

    def __post_init__(self) -> None:
        if not self.row_numbers and self.rows:
            object.__setattr__(self, "row_numbers", range(1, len(self.rows) + 1))
        if len(self.row_numbers) != len(self.rows):
            raise ValueError("Each row needs its number.")
        if not self.num_rows and self.rows:
            object.__setattr__(self, "num_rows", self.row_numbers[-1])


@dataclass
class IssueLog:
    """Collects issues by topic, and stays small for a file with a fault in every row."""

    _issues: list[Issue] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _severities: dict[str, Severity] = field(default_factory=dict)

    def add(self, row: int | None, severity: Severity, message: str, topic: str) -> None:
        """Note an issue. `topic` completes "120 more rows: …" once there are many of its kind."""
        self._counts[topic] += 1
        self._severities[topic] = severity
        if self._counts[topic] <= _MAX_PER_TOPIC:
            self._issues.append(Issue(row, severity, message))

    def extend(self, issues: Iterable[Issue]) -> None:
        """Take over issues that were summarised before."""
        self._issues.extend(issues)

    def issues(self) -> tuple[Issue, ...]:
        """Errors first, then warnings, then the rest; by row within; what was summarised at the end of its severity."""
        more = [
            Issue(None, self._severities[topic], f"{count - _MAX_PER_TOPIC:,} more rows: {topic}.")
            for topic, count in self._counts.items()
            if count > _MAX_PER_TOPIC
        ]
        rank = {"error": 0, "warning": 1, "info": 2}
        whole = [issue for issue in self._issues if issue.row is None]
        by_row = sorted((issue for issue in self._issues if issue.row is not None), key=lambda issue: issue.row or 0)
        return tuple(sorted([*whole, *by_row, *more], key=lambda issue: rank[issue.severity]))


@dataclass
class Budget:
    """Counts rows and characters while a file is read, so that no file fills the memory."""

    max_characters: int
    num_rows: int = 0
    num_characters: int = 0

    def spend_row(self, cells: Iterable[str]) -> None:
        """Count one row. Raises DataError once there are more than `MAX_ROWS` rows or too much text."""
        self.num_rows += 1
        if self.num_rows > MAX_ROWS:
            raise too_many_rows()
        self.num_characters += sum(map(len, cells))
        if self.num_characters > self.max_characters:
            raise DataError(
                f"The file holds more than {self.max_characters // 2**20:,} million characters of text once it is "
                "unpacked. Remove columns that are not needed, or split it."
            )


def too_many_rows() -> DataError:
    """The error of a file beyond the limit of rows."""
    return DataError(
        f"The file has more than {MAX_ROWS:,} rows, the most that one problem set can hold. Split it, or draw a sample."
    )


def unique_columns(names: Sequence[str], log: IssueLog) -> tuple[str, ...]:
    """Column names that are filled and differ: an empty one gets its position, a repeated one a number."""
    if len(names) > MAX_COLUMNS:
        raise DataError(f"The file has {len(names):,} columns; at most {MAX_COLUMNS} can be read. Remove some.")
    result: list[str] = []
    for position, raw in enumerate(names, 1):
        name = " ".join(raw.replace("\0", "").split())[:100] or f"column {position}"
        if name in result:
            copy = 2
            while f"{name} ({copy})" in result:
                copy += 1
            why = f"Two columns are named {name!r}; the later is shown as '{name} ({copy})'."
            log.add(None, "warning", why, "names")
            name = f"{name} ({copy})"
        result.append(name)
    return tuple(result)
