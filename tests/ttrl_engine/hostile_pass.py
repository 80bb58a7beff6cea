"""Puts the hostile corpus through every kind of answer and prints what it cost, as JSON. Run in an empty folder."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from tests.ttrl_engine.hostile import CORPUS
from ttrl_engine.config import AnswerConfig, Detach, Merge
from ttrl_engine.equivalence.pool import SymbolPool
from ttrl_engine.problems import Problem
from ttrl_engine.reward import advantages
from ttrl_engine.tasks import Task, task_for
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.math import MathTask
from ttrl_engine.vote import elect, rewards

MATH_LIMIT_S = 0.5
PROBLEM = Problem("p", "Which?", ("red", CORPUS[0], "<b>", "\\frac{1}{2}"))
RULES = (
    AnswerConfig(kind="number"),
    AnswerConfig(kind="number", unit="cm", tolerance=0.01),
    AnswerConfig(kind="choice"),
    AnswerConfig(kind="text"),
    AnswerConfig(kind="decision"),
    AnswerConfig(kind="decision", labels=("guilty", "not guilty", "(a+)+")),
    AnswerConfig(kind="pattern", pattern=r"answer is (.+)"),
    AnswerConfig(kind="pattern", pattern=r"(z+)+y$|(?s:.{1,60})$"),
    AnswerConfig(
        kind="text",
        merges=tuple(Merge(problem_id="p", answers=(a[:900] or "x", "y")) for a in CORPUS[:50]),
        detached=(Detach(problem_id="p", answer=CORPUS[60][:900]),),
    ),
)


def rollouts(text: str) -> tuple[str, ...]:
    """The ways in which it can be an answer."""
    return text, f"\\boxed{{{text}}}", f"So the answer is {text}.", f"The answer is ${text}$"


def cost_of(task: Task, text: str) -> float:
    """Seconds of extraction and keys, the string taken as rollout and as answer."""
    clock = time.monotonic if isinstance(task, MathTask) else time.process_time
    start = clock()
    found = [task.extract(rollout, PROBLEM, truncated=True) for rollout in rollouts(text)]
    raws = [each.raw for each in found if each.raw is not None]
    keys = task.keys([*raws, text], PROBLEM)
    assert all(task.equivalent(raw, raw, PROBLEM) for raw in keys)
    assert len(task.display(text)) <= 200
    assert task.display(text).isprintable()
    return clock() - start


def election_of(task: Task) -> int:
    """All of the corpus votes at once; returns the number of classes."""
    extractions = [task.extract(f"\\boxed{{{text}}}", PROBLEM) for text in CORPUS]
    extractions += [Extraction(text) for text in CORPUS if text.strip()]
    election = elect(extractions, task, PROBLEM, tie="first_sampled")
    members = [index for each in election.classes for index in each.members]
    assert sorted([*members, *(index for index, _ in election.unparsed)]) == list(range(len(extractions)))
    assert all(reason for _, reason in election.unparsed)
    advantages(rewards(election), "standardised")
    return election.num_classes


def most_mib() -> float:
    """The most memory that this process has held. Not `ru_maxrss` on Linux: a child starts with its parent's there."""
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Everything, and its cost. Mathematics is read with a shorter limit than usual: most of it is waiting for it."""
    worst: list[tuple[float, str, str]] = []
    classes = {}
    pool = SymbolPool(workers=1, cache_path=Path("readings.sqlite3"), time_limit_s=MATH_LIMIT_S)
    tasks = [
        ("math", MathTask(symbols=pool)),
        *((f"{rule.kind} {rule.model_dump_json()}", task_for(rule)) for rule in RULES),
    ]
    for name, task in tasks:
        costs = [(cost_of(task, text), name, ascii(text[:40])) for text in CORPUS]
        worst.append(max(costs))
        classes[name] = election_of(task)
    rss_mib = most_mib()
    children_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    json.dump({"worst": worst, "classes": classes, "rss_mib": rss_mib, "children_mib": children_mib}, sys.stdout)


if __name__ == "__main__":
    main()
