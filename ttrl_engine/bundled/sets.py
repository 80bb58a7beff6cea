"""The bundled problem sets: drawn from the reserved share of expressions, disjoint, and the same on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from ttrl_engine.bundled.generate import Problem, make_hard_problem, make_problem

# Name, number of problems, and where they come from.
SETS: tuple[tuple[str, int, Callable[[random.Random], Problem]], ...] = (
    ("sums", 128, make_problem),
    ("sums-benchmark", 100, make_problem),
    ("sums-hard", 60, make_hard_problem),
)


def draw_sets(seed: int) -> dict[str, list[Problem]]:
    """The problems of each set. No two problems, within a set or between sets, share an expression or a text."""
    rng = random.Random(f"abacus problem sets {seed}")
    seen: set[str] = set()
    sets: dict[str, list[Problem]] = {}
    for name, size, make in SETS:
        drawn: list[Problem] = []
        while len(drawn) < size:
            problem = make(rng)
            if problem.reserved and seen.isdisjoint((problem.expression, problem.text)):
                seen.update((problem.expression, problem.text))
                drawn.append(problem)
        sets[name] = drawn
    return sets


def to_jsonl(name: str, problems: list[Problem]) -> str:
    """A set as JSON lines with `id`, `problem` and `answer`."""
    rows = [
        {"id": f"{name}-{number:03d}", "problem": problem.text, "answer": str(problem.answer)}
        for number, problem in enumerate(problems, start=1)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_sets(folder: Path, seed: int) -> None:
    """Write every set as `NAME.jsonl` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, problems in draw_sets(seed).items():
        (folder / f"{name}.jsonl").write_text(to_jsonl(name, problems), encoding="utf-8", newline="\n")
