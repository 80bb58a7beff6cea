"""Elections of the past, held again from the rollouts on disk: under other rules, without the model."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttrl_engine.config import AnswerConfig, VoteConfig
from ttrl_engine.label_metrics import LabelQuality, measure_label
from ttrl_engine.problems import Problem, References
from ttrl_engine.tasks import task_for
from ttrl_engine.tasks.base import Extraction, Task
from ttrl_engine.vote import DROPPED, Election, elect


@dataclass(frozen=True)
class Revote:
    """One election held again. `quality` holds it against the reference; None where there is none."""

    problem: Problem
    election: Election
    quality: LabelQuality | None


def rollout_path(folder: Path, step: int) -> Path:
    """Where a run keeps the rollouts of one step."""
    return folder / "rollouts" / f"step-{step:06d}.jsonl.gz"


def read_rollouts(folder: Path, step: int, problem_id: str | None = None) -> list[dict[str, Any]]:
    """The rollouts of one step of a run, of one problem if named; empty where the file is gone or not there yet.

    A row has problem_id, index, text, class_index, reward, length, finish, trained and logprob. A file that was cut
    off by a kill gives what of it can be read.
    """
    # Rows are written with the problem first, so that those of others need not be parsed: a step may hold megabytes.
    start = "" if problem_id is None else json.dumps({"problem_id": problem_id})[:-1]
    found: list[dict[str, Any]] = []
    try:
        with gzip.open(rollout_path(folder, step), "rt", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(start):
                    row = json.loads(line)
                    if problem_id is None or row.get("problem_id") == problem_id:
                        found.append(row)
    except (OSError, EOFError, zlib.error, ValueError, AttributeError):
        return found
    return found


def extract_again(rows: Sequence[Mapping[str, Any]], task: Task, problem: Problem) -> list[Extraction]:
    """The answer of each stored rollout of one problem, in the order of its rows."""
    return [
        DROPPED
        if row.get("finish") == "dropped"
        else task.extract(str(row.get("text", "")), problem, truncated=row.get("finish") == "length")
        for row in rows
    ]


def hold_again(rows: Sequence[Mapping[str, Any]], task: Task, problem: Problem, vote: VoteConfig) -> Election:
    """The election over the stored rollouts of one problem; its members are places in `rows`."""
    return elect(
        extract_again(rows, task, problem),
        task,
        problem,
        tie=vote.tie,
        min_consensus=vote.min_consensus,
        min_margin=vote.min_margin,
    )


def revote(
    rows: Iterable[Mapping[str, Any]],
    problems: Mapping[str, Problem],
    references: References,
    answers: AnswerConfig,
    vote: VoteConfig,
) -> list[Revote]:
    """The elections over stored rollouts of one step, in the order of the file, when answers are read like this.

    Rows of problems that are not in `problems` are left out. With the run's own config the elections are those that
    were held.
    """
    task = task_for(answers)
    by_problem: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_problem.setdefault(str(row.get("problem_id")), []).append(row)
    held = []
    for problem_id, own in by_problem.items():
        problem = problems.get(problem_id)
        if problem is None:
            continue
        election = hold_again(own, task, problem, vote)
        reference = references.get(problem_id)
        quality = None if reference is None else measure_label(election, reference, task, problem)
        held.append(Revote(problem, election, quality))
    return held
