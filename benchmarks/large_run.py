"""A run as large as one that goes on for days, made through the real recorder: what the pages are measured on.

2,500 steps with 40 metrics or more each, 500 problems that vote 150 times each, an evaluation of 625 problems and a
benchmark every 50 steps, rollouts of the last steps on disk. The numbers are drawn by a seed; no model computes them.
"""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass, field

from ttrl_engine import events as ev
from ttrl_engine.config import PRESETS
from ttrl_engine.metrics import METRICS
from ttrl_engine.problems import Problem, ProblemSet, split
from ttrl_engine.stats import difference_interval, rate_interval
from worker.recorder import Recorder
from worker.settlement import Verdict
from worker.states import JobState, Outcome
from worker.store import Store
from worker.store.holding import Claim

NUM_TRAINED = 500
VOTES_EACH = 150
PROBLEMS_PER_STEP = 30
NUM_STEPS = NUM_TRAINED * VOTES_EACH // PROBLEMS_PER_STEP
HELD_OUT_SHARE = 0.2
EVALUATED_EVERY = 50
NUM_VOTES = 64
STEPS_WITH_ROLLOUTS = 10
PHASES = ("sampling", "voting", "updating", "saving")
BENCHMARK = ProblemSet(
    "a benchmark", "number", tuple(Problem(f"b{i:03d}", f"Compute {i} + 1.") for i in range(200)), {}
)


def problem_set() -> ProblemSet:
    """Sums with references, so many that NUM_TRAINED are left to learn from."""
    count = round(NUM_TRAINED / (1 - HELD_OUT_SHARE))
    problems = tuple(Problem(f"p{i:04d}", f"Compute {i + 11} + {3 * i + 7} - {i % 5}.") for i in range(count))
    references = {each.id: str(4 * i + 18 - i % 5) for i, each in enumerate(problems)}
    return ProblemSet("a large set", "number", problems, references)


@dataclass
class LargeRun:
    """One such run. `play` writes its first steps; `step` adds one more while pages watch it."""

    store: Store
    name: str
    seed: int
    draws: random.Random = field(init=False)
    base: dict[str, list[float]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.draws, self.problems = random.Random(self.seed), problem_set()
        changes = {
            "name": self.name,
            "seed": self.seed,
            "data.held_out_share": HELD_OUT_SHARE,
            "train.problems_per_step": PROBLEMS_PER_STEP,
        }
        config = PRESETS["quick-look"].config().with_changes(**changes)
        set_id = self.store.add_problem_set(self.problems, source="benchmark")
        self.run_id = self.store.submit_run(config, f"large-{self.name}", set_id)
        self.parts = split(self.problems, HELD_OUT_SHARE, None, self.seed)
        self.folder = self.store.run_folder(self.run_id)

    def play(self, steps: int, *, ends: bool) -> Claim:
        """Claim the run, which must be the head of the queue, and write so many steps."""
        claim = self.store.claim_next("benchmark")
        assert claim is not None
        (self.folder / "rollouts").mkdir(parents=True)
        with Recorder(self.store, claim, self.run_id) as recorder:
            counts = (len(self.parts.adapt), len(self.parts.held_out))
            recorder.emit(ev.RunStarted("bundled:abacus-1m", 1, 1, "cpu", "torch", 1, *counts, 1, NUM_STEPS + 500))
            self._evaluate(recorder, 0)
            for step in range(1, steps + 1):
                self.step(recorder, step, rollouts=step > steps - STEPS_WITH_ROLLOUTS)
            if ends:
                recorder.emit(ev.RunFinished(ev.Ending.COMPLETED, steps, None))
        if ends:
            self.store.say_outcome(claim, Outcome.COMPLETED)
            self.store.let_go(claim, lambda _job, _step: Verdict(JobState.FINISHED, "All steps are done.", None))
        return claim

    def step(self, recorder: Recorder, step: int, *, rollouts: bool = False) -> None:
        """One step: its elections, its metrics, and what is due after it."""
        adapt = self.parts.adapt
        first = (step - 1) * PROBLEMS_PER_STEP
        batch = [adapt[(first + i) % len(adapt)] for i in range(PROBLEMS_PER_STEP)]
        elections = [self._election(step, problem) for problem in batch]
        for election in elections:
            recorder.emit(election)
        if rollouts:
            self._write_rollouts(step, elections)
        metrics = {name: self.draws.random() for name in METRICS}
        seconds = {phase: self.draws.uniform(0.5, 2.0) for phase in PHASES}
        recorder.emit(ev.StepFinished(step, NUM_STEPS + 500, metrics, seconds))
        if step % EVALUATED_EVERY == 0:
            recorder.emit(ev.CheckpointSaved(step, f"checkpoints/step-{step:06d}"))
            self._evaluate(recorder, step)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"step {step}: {PROBLEMS_PER_STEP} problems voted, {PROBLEMS_PER_STEP * NUM_VOTES} answers\n")

    def _election(self, step: int, problem: Problem) -> ev.ElectionHeld:
        truth = self.problems.references[problem.id]
        right = min(NUM_VOTES - 4, max(4, round(NUM_VOTES * self.draws.gauss(0.35 + 0.3 * step / NUM_STEPS, 0.15))))
        wrong = [NUM_VOTES - right - 3, 2, 1]
        votes = [(truth, right, True)] + [(str(int(truth) + i + 1), n, False) for i, n in enumerate(wrong)]
        classes = tuple(ev.ClassCount(*each) for each in sorted(votes, key=lambda vote: -vote[1]))
        top, second = classes[0].count / NUM_VOTES, classes[1].count / NUM_VOTES
        correct = bool(classes[0].correct)
        share = right / NUM_VOTES
        return ev.ElectionHeld(
            step, problem.id, classes[0].answer, None, top, top - second, NUM_VOTES, len(classes), 0, 0, classes, top,
            correct, 1.0 if correct else 1.0 - top - share, share,
        )  # fmt: skip

    def _evaluate(self, recorder: Recorder, step: int) -> None:
        own = self.problems.name
        for which, name, problems in (
            (ev.Split.ADAPT, own, self.parts.adapt),
            (ev.Split.HELD_OUT, own, self.parts.held_out),
            (ev.Split.BENCHMARK, BENCHMARK.name, BENCHMARK.problems),
        ):
            right = [sum(self.draws.random() < 0.35 + 0.3 * step / NUM_STEPS for _ in range(8)) for _ in problems]
            rates = [count / 8 for count in right]
            before = self.base.setdefault(f"{which}:{name}", rates)
            gains = [now - then for then, now in zip(before, rates, strict=True)]
            gain_low, gain_high = difference_interval(gains) if step else (None, None)
            low, high = rate_interval(rates)
            maj = sum(count > 4 for count in right) / len(right)
            scores = tuple(
                ev.ProblemScore(problem.id, 8, count, str(count), count > 4, 8 - count, 0, 40.0)
                for problem, count in zip(problems, right, strict=True)
            )
            recorder.emit(
                ev.EvaluationFinished(
                    step, which, name, 8, sum(rates) / len(rates), low, high, maj, max(0.0, maj - 0.05),
                    min(1.0, maj + 0.05), 0.9, sum(gains) / len(gains) if step else None, gain_low, gain_high,
                    40.0, 0.0, scores, False, 1.0,
                )
            )  # fmt: skip

    def _write_rollouts(self, step: int, elections: list[ev.ElectionHeld]) -> None:
        path = self.folder / "rollouts" / f"step-{step:06d}.jsonl.gz"
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as out:
            for election in elections:
                votes = [(place, part.answer) for place, part in enumerate(election.classes) for _ in range(part.count)]
                for index, (place, answer) in enumerate(votes):
                    text = f"First the tens, then the ones. The answer is \\boxed{{{answer}}}"
                    row = {"problem_id": election.problem_id, "index": index, "text": text, "class_index": place,
                           "reward": float(place == 0), "trained": index < 32, "length": 40, "finish": "stop",
                           "logprob": -8.0}  # fmt: skip
                    out.write(json.dumps(row) + "\n")
