"""`ttrl-studio vote`: elections over rollouts that anybody sampled, line by line, without a model.

One JSON object per line in, one per line out, in the same order. A line is held, printed and forgotten before the next
one is read, so that a pipe needs no end and a file no memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO, TypeVar

from pydantic import ValidationError

from ttrl_engine.config import AnswerConfig, Section, VoteConfig
from ttrl_engine.errors import ConfigError, DataError
from ttrl_engine.label_metrics import measure_label
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import task_for
from ttrl_engine.tasks.base import Task
from ttrl_engine.vote import Election, elect, rewards

# A thousand rollouts of 30,000 tokens fit; a line is read into memory whole.
MAX_LINE_BYTES = 128 * 1024 * 1024
_SKIP_BYTES = 1024 * 1024


SectionT = TypeVar("SectionT", bound=Section)


@dataclass(frozen=True)
class Ask:
    """One line: the rollouts of one problem, and what else is known of it."""

    id: str | int
    rollouts: tuple[str, ...]
    reference: str | None
    choices: tuple[str, ...]


def answers_of(**settings: Any) -> AnswerConfig:
    """The settings of the kind from command line options; those that are None are left out. Raises ConfigError."""
    return _valid(AnswerConfig, {name: value for name, value in settings.items() if value is not None})


def vote_of(tie: str, min_consensus: float, min_margin: float) -> VoteConfig:
    """The rules of the election from command line options. Raises ConfigError."""
    return _valid(VoteConfig, {"tie": tie, "min_consensus": min_consensus, "min_margin": min_margin})


def _valid(section: type[SectionT], settings: Mapping[str, Any]) -> SectionT:
    try:
        return section.model_validate(settings)
    except ValidationError as failure:
        reasons = [(".".join(map(str, each["loc"])), each["msg"]) for each in failure.errors(include_url=False)]
        named = "; ".join(f"{name}: {why.removeprefix('Value error, ')}" for name, why in reasons)
        raise ConfigError(f"Elections cannot be held like that. {named}") from None


def vote_lines(
    lines: BinaryIO,
    out: TextIO,
    answers: AnswerConfig,
    vote: VoteConfig,
    complain: Callable[[str], None],
    max_line_bytes: int = MAX_LINE_BYTES,
) -> int:
    """Hold one election per line of `lines` and print each to `out` at once; returns how many lines were bad.

    A bad line is told to `complain` with its number, counted from 1, and the next one is read. Blank lines are passed
    over. Raises ConfigError where no task can be made of `answers`.
    """
    task = task_for(answers)
    num_bad = 0
    for number, line in _lines(lines, max_line_bytes):
        if line is not None and not line.strip():
            continue
        try:
            if line is None:
                raise DataError(f"longer than {max_line_bytes:,} bytes. Split its rollouts over several lines")
            result = hold(parse_line(line), task, vote)
        except DataError as failure:
            num_bad += 1
            complain(f"Line {number}: {failure}.")
            continue
        out.write(json.dumps(result) + "\n")
        out.flush()
    return num_bad


def parse_line(line: bytes) -> Ask:
    """One line as data. Raises DataError with what is wrong with it, without the full stop."""
    try:
        data = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise DataError("not UTF-8") from None
    except (ValueError, RecursionError) as failure:
        why = failure.msg if isinstance(failure, json.JSONDecodeError) else "it is nested too deep or its numbers are"
        raise DataError(f"not JSON: {why}") from None
    if not isinstance(data, dict):
        raise DataError('not a JSON object such as {"id": "p1", "rollouts": ["…"]}')
    ident = data.get("id")
    if not isinstance(ident, str | int) or isinstance(ident, bool):
        raise DataError('"id" must be a text or a whole number')
    reference = data.get("reference")
    if reference is not None and not isinstance(reference, str):
        raise DataError('"reference" must be a text, or left out')
    choices = () if data.get("choices") is None else _texts(data, "choices")
    return Ask(ident, _texts(data, "rollouts"), reference, choices)


def hold(ask: Ask, task: Task, vote: VoteConfig) -> dict[str, Any]:
    """The election of one line as plain data.

    `label_correct` is null where there is no reference or no rollout, and false where the election abstained.
    """
    problem = Problem(str(ask.id), "", ask.choices)
    extractions = [task.extract(text, problem) for text in ask.rollouts]
    rules: dict[str, Any] = {"tie": vote.tie, "min_consensus": vote.min_consensus, "min_margin": vote.min_margin}
    election = elect(extractions, task, problem, **rules)
    quality = None if ask.reference is None else measure_label(election, ask.reference, task, problem)
    return {
        "id": ask.id,
        "label": election.label,
        "abstained": election.abstained is not None,
        "consensus": election.consensus,
        "classes": _classes(election, task),
        "unparsed": [{"index": index, "reason": reason} for index, reason in election.unparsed],
        "rewards": [int(reward) for reward in rewards(election)],
        "label_correct": None if quality is None else quality.label_correct,
    }


def _classes(election: Election, task: Task) -> list[dict[str, Any]]:
    return [
        {
            "answer": task.display(each.answer),
            "spellings": [spelling for spelling, _ in each.spellings],
            "members": list(each.members),
        }
        for each in election.classes
    ]


def _texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = data.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise DataError(f'"{name}" must be a list of texts')
    return tuple(value)


def _lines(source: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; None for one that is too long, which is passed over in pieces."""
    number = 0
    while line := source.readline(max_bytes + 1):
        number += 1
        if len(line) <= max_bytes or line.endswith(b"\n"):
            yield number, line
            continue
        while piece := source.readline(_SKIP_BYTES):
            if piece.endswith(b"\n"):
                break
        yield number, None
