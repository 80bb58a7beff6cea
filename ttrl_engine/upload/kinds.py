"""How the answers of a problem set are read. Only a proposal: a person can choose otherwise before a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ttrl_engine.config import AnswerConfig
from ttrl_engine.problems import Problem, References
from ttrl_engine.tasks import Task
from ttrl_engine.tasks.decision import DecisionTask
from ttrl_engine.tasks.number import parse_number
from ttrl_engine.tasks.text import plain_words

_SAMPLE: Final = 500
_MOST: Final = 0.9
# A closed list shows by few different answers, each given often.
_MAX_LABELS: Final = 6
_LEAST_PER_LABEL: Final = 4
_LONGEST_WORDS: Final = 60
_LETTER = re.compile(r"\s{0,5}(?:\\text\{)?\(?([A-J])\)?\}?[.)]?\s{0,5}")
_INLINE_OPTIONS = re.compile(r"(?:^|\s)\(?A[).:]\s.{1,2000}?\s\(?B[).:]\s", re.DOTALL)
_WORDS = re.compile(r"[^\W\d_][^\d\\^_{}=<>+*/|$]*")
_YES_NO: Final = DecisionTask()


def guess_answers(problems: Sequence[Problem], references: References) -> AnswerConfig:
    """The kind, with the labels of a decision where they are not yes and no.

    `choice` where options or letters say so; `decision` where the references are yes and no, or few words that repeat;
    `number` where every reference is a plain number; `text` where they are words; else `math`, which reads numbers and
    words too and so is the safe answer where nothing is known. Looks at the first 500 problems.
    """
    sample = problems[:_SAMPLE]
    if not sample:
        return AnswerConfig(kind="math")
    if sum(len(problem.choices) >= 2 for problem in sample) >= _MOST * len(sample):
        return AnswerConfig(kind="choice")
    known = [references[problem.id].strip() for problem in sample if problem.id in references]
    if not known:
        inline = sum(_INLINE_OPTIONS.search(problem.prompt[:4000]) is not None for problem in sample)
        return AnswerConfig(kind="choice" if inline >= _MOST * len(sample) else "math")
    if sum(_LETTER.fullmatch(answer) is not None for answer in known) >= _MOST * len(known):
        return AnswerConfig(kind="choice")
    if all(_YES_NO.canonical(answer, sample[0]).startswith("decision ") for answer in known):
        return AnswerConfig(kind="decision")
    if all(_is_plain_number(answer) for answer in known):
        return AnswerConfig(kind="number")
    if sum(_is_words(answer) for answer in known) >= _MOST * len(known):
        labels = _labels(known)
        return AnswerConfig(kind="decision", labels=labels) if labels else AnswerConfig(kind="text")
    return AnswerConfig(kind="math")


def unreadable_reference(task: Task, reference: str, problem: Problem) -> str | None:
    """Why a reference can never equal an answer of this kind; None where it can."""
    if task.kind == "number":
        return None if parse_number(reference) is not None else "is not one number"
    if task.kind in ("choice", "decision") and task.canonical(reference, problem).startswith("text "):
        return "is not one of the options" if task.kind == "choice" else "is not one of the decisions"
    return None


def _labels(known: Sequence[str]) -> tuple[str, ...]:
    """The closed list that the references are out of, most frequent first; empty where they do not look like one."""
    counts = Counter(plain_words(answer) for answer in known)
    repeated = min(counts.values()) >= 2 and len(known) >= _LEAST_PER_LABEL * len(counts)
    if not 2 <= len(counts) <= _MAX_LABELS or not repeated or not all(counts):
        return ()
    spelled = {plain_words(answer): answer for answer in reversed(known)}
    return tuple(spelled[words] for words, _ in counts.most_common())


def _is_words(answer: str) -> bool:
    return len(answer) <= _LONGEST_WORDS and _WORDS.fullmatch(answer) is not None and len(plain_words(answer)) > 1


def _is_plain_number(answer: str) -> bool:
    return parse_number(answer) is not None and "\\" not in answer and "=" not in answer and len(answer) <= 40
