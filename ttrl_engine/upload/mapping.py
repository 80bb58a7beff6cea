"""Which column is which, guessed from names first and contents second; a person can always choose otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from ttrl_engine.upload.table import Table

_PROBLEM: Final = (
    "problem", "question", "prompt", "input", "query", "text", "instruction", "problem_statement", "question_text",
    "problem_text", "task", "exercise", "statement", "content", "messages", "conversation", "user",
)  # fmt: skip
_ANSWER: Final = (
    "answer", "final_answer", "reference_answer", "reference", "gold", "gold_answer", "ground_truth", "groundtruth",
    "correct_answer", "answer_key", "answerkey", "expected", "expected_answer", "expected_output", "target", "label",
    "correct", "answers", "truth", "key", "solution", "output", "response", "completion",
)  # fmt: skip
_ID: Final = (
    "id",
    "unique_id",
    "problem_id",
    "question_id",
    "task_id",
    "uid",
    "uuid",
    "idx",
    "index",
    "qid",
    "no",
    "nr",
)
_CHOICES: Final = ("choices", "options", "choices_text", "options_text", "answer_choices", "alternatives", "candidates")
_OPTION_COLUMNS: Final = (
    "{letter}", "option_{letter}", "choice_{letter}", "option_{number}", "choice_{number}", "op{letter}",
)  # fmt: skip
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SAMPLE_ROWS: Final = 200
# A list of columns in one text, so that a choice of columns fits the same control as one column.
_JOIN: Final = ", "


@dataclass(frozen=True)
class ColumnMapping:
    """The columns a problem set is made of; None where there is none.

    `choices` is a column that holds a list, or several columns with one option each, joined as "A, B, C, D".
    """

    problem: str | None
    answer: str | None = None
    id: str | None = None
    choices: str | None = None


def guess_mapping(table: Table) -> ColumnMapping:
    """The likeliest mapping. Without a known name, the problem is the column with the longest texts."""
    free = list(table.columns)
    problem = _take(free, _PROBLEM)
    answer = _take(free, _ANSWER)
    identity = _take(free, _ID)
    choices = _take(free, _CHOICES) or _lettered(free)
    if problem is None and free:
        taken = set((choices or "").split(_JOIN))
        lengths = {column: _mean_length(table, column) for column in free if column not in taken}
        if lengths and max(lengths.values()) > 0:
            problem = max(lengths, key=lambda column: lengths[column])
    if problem is None and answer is not None and identity is None and len(table.columns) == 1:
        problem, answer = answer, None
    return ColumnMapping(problem, answer, identity, choices)


def choice_columns(mapping: ColumnMapping, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns behind `mapping.choices`: itself, or the several it joins; empty where it is None."""
    if mapping.choices is None:
        return ()
    if mapping.choices in columns:
        return (mapping.choices,)
    return tuple(mapping.choices.split(_JOIN))


def _take(free: list[str], names: Sequence[str]) -> str | None:
    """The first column, by rank of its name, called so; of `a.b` the last part counts too. It is free no longer."""
    by_name: dict[str, str] = {}
    for column in reversed(free):
        by_name[_plain(column.rsplit(".", 1)[-1])] = column
    for column in reversed(free):
        by_name[_plain(column)] = column
    for name in names:
        if name in by_name:
            free.remove(by_name[name])
            return by_name[name]
    return None


def _lettered(free: Sequence[str]) -> str | None:
    """Columns A, B, C… or option_a, option_b… or choice1, choice2…, from the first without a gap; at least two."""
    for pattern in _OPTION_COLUMNS:
        columns = []
        for number, letter in enumerate(_LETTERS, 1):
            name = pattern.format(letter=letter.lower(), number=number)
            wanted = {name, name.replace("_", "")}
            column = next((column for column in free if _plain(column) in wanted), None)
            if column is None:
                break
            columns.append(column)
        if len(columns) >= 2:
            return _JOIN.join(columns)
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _mean_length(table: Table, column: str) -> float:
    cells = [row[column] for row in table.rows[:_SAMPLE_ROWS]]
    return fmean(len(cell) for cell in cells) if any(not _is_number(cell) for cell in cells) else 0.0


def _is_number(cell: str) -> bool:
    return not cell.strip() or re.fullmatch(r"\s*[-+]?[\d.,]{1,40}\s*", cell) is not None
