"""Runs played from a script: the real store and the real recorder, fed events that no model had to compute."""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

from ttrl_engine import events as ev
from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.problems import Problem, ProblemSet, split
from ttrl_engine.stats import difference_interval, rate_interval
from worker.failures import Failure
from worker.recorder import Recorder
from worker.rows import RunRow
from worker.settlement import Verdict
from worker.states import JobState, Outcome
from worker.store import Store
from worker.store.holding import Claim

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'


def problem_set(name: str, *, references: bool, num_problems: int = 48) -> ProblemSet:
    """Sums; one of the prompts is an attack, one has LaTeX."""
    problems = [Problem(f"p{i:03d}", f"Compute {i + 11} + {3 * i + 7} - {i % 5}.") for i in range(num_problems)]
    problems[1] = Problem("p001", f"{HOSTILE} How much is 12 + 10 - 1?")
    problems[2] = Problem("p002", r"What is $\frac{1}{2} + \sqrt{16}$? Give a decimal.")
    answers = {p.id: str(4 * i + 18 - i % 5) for i, p in enumerate(problems)}
    return ProblemSet(name, "number", tuple(problems), answers if references else {})


@dataclass
class Script:
    """One run: what its curve looks like. `steps` may end before `total_steps`: a run under way, or one that broke."""

    name: str
    problems: ProblemSet
    total_steps: int = 40
    steps: int = 40
    seed: int = 0
    ends: JobState | None = JobState.FINISHED
    alarm_at: int | None = None
    learns: float = 0.55
    config: RunConfig = field(default_factory=PRESETS["quick-look"].config)


class Player:
    """Plays one script into the store, step by step if wanted."""

    def __init__(self, store: Store, script: Script) -> None:
        self.store, self.script = store, script
        self.random = random.Random(script.seed)
        set_id = store.add_problem_set(script.problems, source="test")
        config = script.config.model_copy(update={"name": script.name, "seed": script.seed})
        self.run_id = store.submit_run(config, f"client-{script.name}", set_id)
        run = store.run(self.run_id)
        assert run is not None
        self.job_id, self.config = run.job_id, config
        self.folder = store.run_folder(self.run_id)
        self.parts = split(script.problems, config.data.held_out_share, config.data.max_problems, config.seed)
        self.base: dict[str, list[float]] = {}

    @classmethod
    def of(cls, store: Store, run: RunRow, script: Script) -> Player:
        """A player for a run that is already under way."""
        player = cls.__new__(cls)
        player.store, player.script, player.random = store, script, random.Random(script.seed)
        player.run_id, player.job_id, player.config = run.id, run.job_id, run.config
        player.folder = store.run_folder(run.id)
        data = run.config.data
        player.parts = split(script.problems, data.held_out_share, data.max_problems, run.seed)
        player.base = {}
        return player

    def start(self) -> Claim:
        """Claim the head of the queue, which must be this run."""
        claim = self.store.claim_next("test-worker")
        assert claim is not None
        assert claim.job_id == self.job_id
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(self.config.to_yaml(), encoding="utf-8")
        self.log("Loading the model.")
        return claim

    def begin(self, recorder: Recorder) -> None:
        """Model loaded, base evaluated."""
        parts = self.parts
        counts = (len(parts.adapt), len(parts.held_out))
        recorder.emit(
            ev.RunStarted(
                "bundled:abacus-1m", 1_062_400, 1_062_400, "cpu", "torch", 2, *counts, 1, self.script.total_steps
            )
        )
        self.evaluate(recorder, 0)

    def skill(self, step: int) -> float:
        """How good the model is, 0 to 1."""
        return 0.33 + self.script.learns * (1 - math.exp(-3 * step / self.script.total_steps))

    def step(self, recorder: Recorder, step: int) -> None:
        """One step: elections, rollouts, metrics, and what is due after it."""
        batch = self.random.sample(self.parts.adapt, 8)
        elections = [self.election(step, problem, index) for index, problem in enumerate(batch)]
        for election in elections:
            recorder.emit(election)
        self.write_rollouts(step, elections)
        recorder.emit(ev.StepFinished(step, self.script.total_steps, self.metrics(step, elections), self.seconds()))
        if step % 5 == 0:
            recorder.emit(ev.CheckpointSaved(step, f"checkpoints/step-{step:06d}"))
        if step % 10 == 0 or step == self.script.total_steps:
            self.evaluate(recorder, step)
        if step == self.script.alarm_at:
            text = "61 % of the recent problems elect the same answer; at the start it was 9 %."
            recorder.emit(ev.AlarmRaised(step, "one_answer", text, 0.61, 0.5, "note"))
        self.log(f"step {step}: consensus {elections[0].consensus:.2f} {HOSTILE if step == 3 else ''}")

    def election(self, step: int, problem: Problem, index: int) -> ev.ElectionHeld:
        """Votes of 64: the truth grows with the skill; slips spread over a few wrong answers."""
        known = self.script.problems.references
        truth = known.get(problem.id) or str(sum(map(ord, problem.prompt)) % 97)
        right = min(64, max(2, round(64 * (self.skill(step) + self.random.uniform(-0.22, 0.16)))))
        wrong = {str(int(truth) + d): 0 for d in (1, -10, 7, 100)}
        unread = min(64 - right, self.random.randint(0, 4))
        for _ in range(64 - right - unread):
            wrong[self.random.choice(list(wrong))] += 1
        counts = sorted([(truth, right), *wrong.items()], key=lambda pair: -pair[1])
        shown = tuple(ev.ClassCount(a, n, (a == truth) if known else None) for a, n in counts if n)
        if problem.id == "p001" and len(shown) > 1:
            shown = (shown[0], ev.ClassCount(HOSTILE, shown[1].count, shown[1].correct), *shown[2:])
        tied = len(shown) > 1 and shown[0].count == shown[1].count
        p, q = shown[0].count / 64, right / 64
        correct = bool(shown[0].correct) and not tied
        return ev.ElectionHeld(
            step,
            problem.id,
            None if tied else shown[0].answer,
            "tie" if tied else None,
            p,
            p - (shown[1].count / 64 if len(shown) > 1 else 0),
            64,
            len(shown),
            unread,
            index % 3,
            shown,
            0.0 if tied else p,
            correct if known else None,
            (1.0 if correct else 1 - p - q) if known else None,
            q if known else None,
        )

    def metrics(self, step: int, elections: list[ev.ElectionHeld]) -> dict[str, float]:
        """Means over the problems of the step; those against references only where there are any."""
        mean = lambda values: sum(values) / len(values)
        noise = self.random.uniform(-0.03, 0.03)
        found = {
            "consensus": mean([e.consensus for e in elections]),
            "margin": mean([e.margin for e in elections]),
            "num_classes": mean([e.num_classes for e in elections]),
            "reward_mean": mean([e.reward_mean for e in elections]),
            "entropy": 0.42 * (1.15 - self.skill(step)) + noise / 5,
            "length_mean": 61 + 8 * noise + step / 20,
            "length_max": 88 + step % 9,
            "truncated_share": 0.01 + abs(noise) / 4,
            "unparsed_share": mean([e.num_unparsed / 64 for e in elections]),
            "abstained_share": mean([e.abstained is not None for e in elections]),
            "flip_share": max(0.0, 0.4 - step / 60 + noise),
            "loss": -0.02 + noise,
            "grad_norm": 0.8 + noise * 5,
            "kl_step": 0.004 + abs(noise) / 20,
            "learning_rate": 2e-4,
            "rollouts_per_s": 240 + 400 * noise,
            "unanimous_share": max(0.0, self.skill(step) - 0.6),
            "top_label_share": 0.06,
        }
        if self.script.problems.num_references:
            found["label_accuracy"] = mean([bool(e.label_correct) for e in elections])
            found["reward_accuracy"] = mean([e.reward_accuracy or 0.0 for e in elections])
            found["truth_share"] = mean([e.truth_share or 0.0 for e in elections])
        return found

    def seconds(self) -> dict[str, float]:
        """Wall seconds per phase."""
        jitter = self.random.uniform(0.9, 1.1)
        return {"sampling": 2.1 * jitter, "voting": 0.05 * jitter, "updating": 0.9 * jitter, "saving": 0.08}

    def evaluate(self, recorder: ev.Emit | Recorder, step: int) -> None:
        """Scores of the splits that have references: adapt, held-out and two benchmarks."""
        emit = recorder.emit if isinstance(recorder, Recorder) else recorder
        splits: list[tuple[ev.Split, str, int, float]] = [
            (ev.Split.BENCHMARK, "bundled:sums-benchmark", 100, 0.9),
            (ev.Split.BENCHMARK, "bundled:sums-hard", 60, 0.15),
        ]
        if self.script.problems.num_references:
            name = self.script.problems.name
            splits = [
                (ev.Split.ADAPT, name, len(self.parts.adapt), 1.0),
                (ev.Split.HELD_OUT, name, len(self.parts.held_out), 0.85),
                *splits,
            ]
        for kind, name, num, share in splits:
            emit(self.evaluation(step, kind, name, num, share))

    def evaluation(self, step: int, kind: ev.Split, name: str, num: int, share: float) -> ev.EvaluationFinished:
        """`num` problems, 8 samples each; the gain is paired with step 0."""
        level = min(0.97, (0.33 + (self.skill(step) - 0.33) * share) * (0.4 if "hard" in name else 1.0))
        right = [
            sum(self.random.random() < min(1, max(0, level + self.random.uniform(-0.25, 0.25))) for _ in range(8))
            for _ in range(num)
        ]
        values = [r / 8 for r in right]
        avg, (low, high) = sum(values) / num, rate_interval(values)
        before = self.base.setdefault(f"{kind}:{name}", values)
        gains = [b - a for a, b in zip(before, values, strict=True)]
        gain = difference_interval(gains) if step else (None, None)
        maj = sum(r >= 4 for r in right) / num
        scores = tuple(
            # Before the first step, half of the wrong answers end without a result.
            ev.ProblemScore(f"p{i:03d}", 8, r, "42", r >= 4, 0 if step else (8 - r) // 2, 0, 40.0 + i % 30)
            for i, r in enumerate(right)
        )
        return ev.EvaluationFinished(
            step,
            kind,
            name,
            8,
            avg,
            low,
            high,
            maj,
            max(0, maj - 0.08),
            min(1, maj + 0.08),
            sum(r > 0 for r in right) / num,
            sum(gains) / num if step else None,
            gain[0],
            gain[1],
            61.0,
            0.01,
            scores,
            False,
        )

    def write_rollouts(self, step: int, elections: list[ev.ElectionHeld]) -> None:
        """What the engine leaves on disk."""
        folder = self.folder / "rollouts"
        folder.mkdir(exist_ok=True)
        with gzip.open(folder / f"step-{step:06d}.jsonl.gz", "wt", encoding="utf-8") as out:
            for election in elections:
                index = 0
                for place, part in enumerate(election.classes):
                    for _ in range(part.count):
                        text = f"First the tens, then the ones.\n12 + 30 = 42\nThe answer is \\boxed{{{part.answer}}}"
                        row = {
                            "problem_id": election.problem_id,
                            "index": index,
                            "text": text,
                            "class_index": place,
                            "reward": float(place == 0 and election.label is not None),
                            "trained": index < 32,
                            "length": 60 + index % 9,
                            "finish": "stop",
                            "logprob": -8.25,
                        }
                        out.write(json.dumps(row) + "\n")
                        index += 1

    def log(self, line: str) -> None:
        """One line of the run's log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as out:
            out.write(line + "\n")

    def play(self) -> int:
        """The whole script; returns the run's id."""
        claim = self.start()
        with Recorder(self.store, claim, self.run_id) as recorder:
            self.begin(recorder)
            for step in range(1, self.script.steps + 1):
                self.step(recorder, step)
            if self.script.ends is None:
                recorder.emit(ev.Progressed(self.script.steps + 1, ev.Phase.SAMPLING, 320, 512))
            elif self.script.ends is JobState.FINISHED:
                write_policy(self.folder)
                recorder.emit(ev.RunFinished(ev.Ending.COMPLETED, self.script.steps, "policy"))
        if self.script.ends is not None:
            self.end(claim)
        else:
            self.store.beat(claim)
        return self.run_id

    def end(self, claim: Claim) -> None:
        """The worker's verdict."""
        failure = None
        if self.script.ends is JobState.FAILED:
            hint = (
                "Lower the votes per problem or the tokens per micro-batch, then resume: the run goes on "
                "from its last checkpoint."
            )
            failure = Failure("out_of_memory", "The memory did not suffice.", hint)
            self.store.say_outcome(
                claim, Outcome.FAILED, None, failure, f"Traceback (most recent call last):\n  {HOSTILE}\nMemoryError"
            )
        else:
            self.store.say_outcome(claim, Outcome.COMPLETED)
        ending = self.script.ends or JobState.FINISHED
        self.store.let_go(claim, lambda _job, _step: Verdict(ending, "As the script says.", failure))


def write_policy(folder: Path) -> None:
    """An adapter as peft leaves it, with weights of no meaning."""
    policy = folder / "policy"
    policy.mkdir(exist_ok=True)
    (policy / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
    (policy / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 4096)


def furnish(store: Store) -> dict[str, int]:
    """A data folder with a finished, a failed, a no-reference and a running run, and one that waits."""
    labelled = problem_set("two-step sums", references=True)
    unlabelled = problem_set("my problems", references=False)
    ids = {
        "finished": Player(store, Script("Sums, overnight", labelled, total_steps=60, steps=60, alarm_at=38)).play(),
        "failed": Player(store, Script("Too many votes", labelled, steps=7, seed=3, ends=JobState.FAILED)).play(),
        "unlabelled": Player(
            store, Script("My problems " + HOSTILE, unlabelled, total_steps=30, steps=30, seed=5, learns=0.4)
        ).play(),
        "weak": Player(store, Script("Hardly learns", labelled, total_steps=20, steps=20, seed=9, learns=0.02)).play(),
        "running": Player(store, Script("Second seed", labelled, total_steps=120, steps=37, seed=1, ends=None)).play(),
    }
    waiting = PRESETS["quick-look"].config().model_copy(update={"name": "Waits its turn", "seed": 7})
    ids["queued"] = store.submit_run(waiting, "client-waiting", labelled.content_hash)
    return ids
