"""From a table and a mapping to a problem set, with every row that is left out, and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from ttrl_engine.config import AnswerConfig
from ttrl_engine.problems import Problem, ProblemSet
from ttrl_engine.tasks import task_for
from ttrl_engine.tasks.final_answer import find_boxed
from ttrl_engine.upload.kinds import guess_answers, unreadable_reference
from ttrl_engine.upload.mapping import ColumnMapping, choice_columns
from ttrl_engine.upload.options import position_to_letter, read_options
from ttrl_engine.upload.table import Issue, IssueLog, Table

MAX_PROMPT_LENGTH: Final = 20_000
MAX_REFERENCE_LENGTH: Final = 1000
_MAX_ID_LENGTH: Final = 200
_NUM_BINS: Final = 20
# Layout characters stay; other control characters and lone surrogates only do harm in prompts, files and pages.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_STATED = re.compile(r"(?:answer|solution|result)\s{0,3}(?:is|:|=)\s{0,3}\$?(.{1,200})", re.IGNORECASE)


@dataclass(frozen=True)
class DraftStats:
    """Counts of a draft. Lengths are characters of the prompts taken; `histogram` holds (from, below, count) bins."""

    num_rows: int
    num_problems: int
    num_references: int
    num_duplicates: int
    num_left_out: int
    length_min: int
    length_median: float
    length_max: int
    histogram: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Draft:
    """What an upload would become. `problem_set` is None where no problem is usable; then an error says why."""

    problem_set: ProblemSet | None
    issues: tuple[Issue, ...]
    stats: DraftStats


@dataclass
class _Taken:
    """The rows accepted so far."""

    problems: list[Problem] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    by_prompt: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    num_duplicates: int = 0


def validate(
    table: Table, mapping: ColumnMapping, answers: AnswerConfig | None = None, name: str = "problems"
) -> Draft:
    """Check every row. `answers` is what a person said of them; without a kind it is guessed.

    Rows left out (error): no text, more than 20,000 characters. Duplicates, the same but for white space, are kept
    once, at their first row. Problems without an id are named by their row.
    """
    log = IssueLog()
    log.extend(table.warnings)
    unknown = [c for c in (mapping.problem, mapping.answer, mapping.id) if c is not None and c not in table.columns]
    unknown += [c for c in choice_columns(mapping, table.columns) if c not in table.columns]
    taken = _Taken()
    if mapping.problem is None:
        log.add(None, "error", "No column with problems was found. Choose the column that holds them.", "mapping")
    elif unknown:
        log.add(None, "error", f"There is no column {unknown[0]!r}. Choose another.", "mapping")
    elif not any(row[mapping.problem].strip() for row in table.rows):
        log.add(None, "error", f"The column {mapping.problem!r} has no text in any row. Choose another.", "mapping")
    else:
        for number, row in zip(table.row_numbers, table.rows, strict=True):
            _take_row(taken, number, row, table, mapping, log)
    stats = _stats(table, taken)
    if not taken.problems:
        if not any(issue.severity == "error" for issue in log.issues()):
            log.add(None, "error", "The file holds no problem.", "no problem")
        return Draft(None, log.issues(), stats)
    said = answers or AnswerConfig()
    decided = said.over(guess_answers(taken.problems, taken.references)) if said.kind is None else said
    references = _checked_references(taken, decided, log)
    if len(taken.problems) < 2:
        log.add(None, "warning", "There is only one problem; a run needs at least two.", "few")
    assert decided.kind is not None
    rule = decided.model_copy(update={"kind": None})
    problem_set = ProblemSet(name[:120], decided.kind, tuple(taken.problems), references, rule)
    return Draft(problem_set, log.issues(), stats)


def _take_row(
    taken: _Taken, number: int, row: dict[str, str], table: Table, mapping: ColumnMapping, log: IssueLog
) -> None:
    assert mapping.problem is not None
    prompt = _cleaned(row[mapping.problem], number, log)
    if not prompt:
        log.add(number, "error", f"Row {number} has no problem text; it is left out.", "no problem text; left out")
        return
    if len(prompt) > MAX_PROMPT_LENGTH:
        why = f"Row {number} has {len(prompt):,} characters, more than {MAX_PROMPT_LENGTH:,}; it is left out."
        log.add(number, "error", why, "problem text too long; left out")
        return
    cells = [row[column] for column in choice_columns(mapping, table.columns)]
    choices = tuple(_cleaned(option, number, log) for option in read_options(cells))
    reference = _reference(row[mapping.answer], number, log) if mapping.answer else ""
    same = taken.by_prompt.get((" ".join(prompt.split()), choices))
    if same is not None:
        _note_duplicate(taken, same, number, reference, log)
        return
    identity = _identity(taken, row.get(mapping.id or "", ""), number, log)
    taken.by_prompt[(" ".join(prompt.split()), choices)] = identity
    taken.rows[identity] = number
    taken.problems.append(Problem(identity, prompt, choices))
    if reference:
        taken.references[identity] = reference
        if _gives_away(prompt, reference):
            why = f"Row {number} states its own reference answer in the problem text."
            log.add(number, "warning", why, "problem text states the reference answer")


def _note_duplicate(taken: _Taken, same: str, number: int, reference: str, log: IssueLog) -> None:
    taken.num_duplicates += 1
    first = taken.rows[same]
    if reference and reference != taken.references.get(same, reference):
        why = f"Row {number} repeats row {first} with another reference answer; row {first} is kept."
        log.add(number, "warning", why, "repeat an earlier problem with another reference answer")
        return
    if reference:
        taken.references.setdefault(same, reference)
    why = f"Row {number} repeats row {first}; it is kept once."
    log.add(number, "info", why, "repeat an earlier problem; kept once")


def _identity(taken: _Taken, cell: str, number: int, log: IssueLog) -> str:
    wanted = " ".join(_CONTROL.sub("", cell).split())[:_MAX_ID_LENGTH]
    if wanted and wanted not in taken.rows:
        return wanted
    if wanted:
        why = f"Row {number} has the id of row {taken.rows[wanted]}; it is named by its row instead."
        log.add(number, "warning", why, "an id that was used before")
    fallback = f"row-{number}"
    while fallback in taken.rows:
        fallback += "-again"
    return fallback


def _reference(cell: str, number: int, log: IssueLog) -> str:
    """The reference answer in a cell: of a worked solution its boxed answer, or what follows "####"."""
    text = _cleaned(cell, number, log)
    if "\\boxed" in text or "\\fbox" in text:
        boxed = find_boxed(text)
        text = boxed.raw if boxed is not None and boxed.raw is not None else text
    elif "####" in text:
        text = text.rsplit("####", 1)[1].strip()
    if len(text) > MAX_REFERENCE_LENGTH:
        why = f"Row {number} has a reference answer of {len(text):,} characters; the problem is taken without it."
        log.add(number, "warning", why, "a reference answer that is too long; taken without it")
        return ""
    return text


def _cleaned(text: str, number: int, log: IssueLog) -> str:
    if _CONTROL.search(text):
        text = _CONTROL.sub("", text)
        why = f"Row {number} had control characters; they were removed."
        log.add(number, "warning", why, "control characters removed")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _gives_away(prompt: str, reference: str) -> bool:
    if "\\boxed{" + reference + "}" in prompt:
        return True
    for match in _STATED.finditer(prompt):
        rest = match.group(1)
        if rest.startswith(reference) and not rest[len(reference) : len(reference) + 1].isalnum():
            return True
    return False


def _checked_references(taken: _Taken, answers: AnswerConfig, log: IssueLog) -> dict[str, str]:
    references = taken.references
    if answers.kind == "choice":
        references = position_to_letter(taken.problems, references, log)
    task = task_for(answers)
    for problem in taken.problems:
        reference = references.get(problem.id)
        fault = unreadable_reference(task, reference, problem) if reference is not None else None
        if fault is not None:
            number = taken.rows[problem.id]
            why = f"Row {number}: the reference answer {str(reference)[:40]!r} {fault}, so no answer can equal it."
            log.add(number, "warning", why, f"a reference answer that {fault}")
    missing = len(taken.problems) - len(references)
    if references and missing:
        log.add(None, "info", f"{missing:,} of {len(taken.problems):,} problems have no reference answer.", "partial")
    return references


def _stats(table: Table, taken: _Taken) -> DraftStats:
    lengths = [len(problem.prompt) for problem in taken.problems]
    return DraftStats(
        num_rows=table.num_rows,
        num_problems=len(taken.problems),
        num_references=len(taken.references),
        num_duplicates=taken.num_duplicates,
        num_left_out=table.num_rows - len(taken.problems) - taken.num_duplicates,
        length_min=min(lengths, default=0),
        length_median=float(median(lengths)) if lengths else 0.0,
        length_max=max(lengths, default=0),
        histogram=_histogram(lengths),
    )


def _histogram(lengths: list[int]) -> tuple[tuple[int, int, int], ...]:
    """At most 20 bins of one round width from 0; empty ones included, so that a chart needs no gaps filled."""
    if not lengths:
        return ()
    least = max(lengths) // _NUM_BINS + 1
    width = next(step for step in _round_widths() if step >= least)
    counts = Counter(length // width for length in lengths)
    return tuple((i * width, (i + 1) * width, counts.get(i, 0)) for i in range(max(counts) + 1))


def _round_widths() -> tuple[int, ...]:
    return tuple(factor * 10**power for power in range(6) for factor in (1, 2, 5))
