"""Elections per second: `python -m benchmarks.voting --data FILE`, against math-verify called in two plainer ways.

FILE has one JSON object per line with an "answer", as MATH-500 has. Every election has 64 rollouts: about half give
the reference, in several spellings, the rest other answers near it. "Cold" is a fresh process without a cache on disk,
"restart" one with the cache of an earlier run, "warm" one that has read these answers before, as most are from the
second step on. math-verify runs in this process, without the protection of a child, on fewer elections.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.answers import near, spellings
from ttrl_engine.equivalence import SymbolPool
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import math
from ttrl_engine.tasks.math import MathTask
from ttrl_engine.vote import elect

NUM_ROLLOUTS = 64
NUM_PROBLEMS = 32
PROBLEM = Problem("p", "What is it?")


def main() -> int:
    """Measure and print the figures, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer-elections", type=int, default=4)
    arguments = parser.parse_args()
    references = [json.loads(line)["answer"] for line in arguments.data.read_text().splitlines() if line.strip()]
    rng = random.Random(arguments.seed)
    ballots = [rollouts(reference, references, rng) for reference in rng.sample(references, NUM_PROBLEMS)]
    distinct = sum(len(set(ballot)) for ballot in ballots)
    print(f"{NUM_PROBLEMS} elections of {NUM_ROLLOUTS} rollouts, {distinct / NUM_PROBLEMS:.1f} spellings each")
    figures = {"distinct": distinct} | _ours(ballots)
    for name, seconds in (("once per rollout", _once_per_rollout), ("pairwise", _pairwise)):
        spent = sum(seconds(ballot) for ballot in ballots[: arguments.peer_elections])
        figures[f"math-verify {name}"] = spent / arguments.peer_elections * NUM_PROBLEMS
    for name, value in figures.items():
        if name != "distinct":
            print(f"  {name:32} {value:9.3f} s for {NUM_PROBLEMS}   {NUM_PROBLEMS / value:10.1f} elections/s")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return 0


def rollouts(reference: str, references: list[str], rng: random.Random) -> list[str]:
    """64 boxed answers to one problem: half the reference in its spellings, half wrong ones, some far off."""
    right = [reference, reference, reference, *(spelling for _, spelling in spellings(reference))]
    wrong = [changed for _, changed in near(reference)] + rng.sample(references, 6)
    chosen = [rng.choice(right if index % 2 else wrong) for index in range(NUM_ROLLOUTS)]
    return [f"So the answer is \\boxed{{{answer}}}." for answer in chosen]


def _ours(ballots: list[list[str]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "answers.sqlite3"
        figures = {}
        for name in ("cold", "restart"):
            math._without_symbols.cache_clear()
            pool = SymbolPool(workers=2, cache_path=cache)
            figures[name] = _vote(ballots, MathTask(symbols=pool))
            figures["warm"] = min(_vote(ballots, MathTask(symbols=pool)) for _ in range(3))
            pool.close()
    return figures


def _vote(ballots: list[list[str]], task: MathTask) -> float:
    return _timed(lambda: [elect([task.extract(text, PROBLEM) for text in each], task, PROBLEM) for each in ballots])


def _once_per_rollout(ballot: list[str]) -> float:
    """Every rollout parsed and held against the classes so far."""
    from math_verify import parse, verify

    def work() -> None:
        classes: list[object] = []
        for text in ballot:
            answer = parse(text, parsing_timeout=None)
            if not any(verify(each, answer, timeout_seconds=None) for each in classes):
                classes.append(answer)

    return _timed(work)


def _pairwise(ballot: list[str]) -> float:
    """Every rollout against every other."""
    from math_verify import parse, verify

    def work() -> None:
        answers = [parse(text, parsing_timeout=None) for text in ballot]
        for i, first in enumerate(answers):
            for second in answers[i + 1 :]:
                verify(first, second, timeout_seconds=None)

    return _timed(work)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
