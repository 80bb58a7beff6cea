"""What `make bench-demo` prints comes from the run's own events."""

from __future__ import annotations

import json

from benchmarks.demo import Record, report
from ttrl_engine.events import EvaluationFinished, Phase, ProblemScore, Progressed, RunStarted, Split, StepFinished


def evaluation(step: int, split: Split, avg: float, maj: float) -> EvaluationFinished:
    return EvaluationFinished(
        step=step, split=split, problem_set="bundled:sums", num_samples=8, avg=avg, avg_low=avg, avg_high=avg, maj=maj,
        maj_low=maj, maj_high=maj, pass_k=1.0, gain=None, gain_low=None, gain_high=None, mean_length=9.0,
        truncated=0.0, scores=(ProblemScore("1", 8, 4, "3", True),), from_cache=False, seconds=1.0,
    )  # fmt: skip


def told(*events) -> Record:
    record = Record()
    for event in events:
        record.emit(event)
    return record


def test_the_last_line_is_one_json_object():
    record = told(
        RunStarted("bundled:abacus-1m", 10, 10, "cpu", "torch", 2, 96, 32, 1, 2),
        evaluation(0, Split.ADAPT, 0.33, 0.7),
        evaluation(0, Split.HELD_OUT, 0.3, 0.6),
        Progressed(1, Phase.SAMPLING, 1, 512),
        StepFinished(1, 2, {"rollouts_per_s": 100.0}, {"sampling": 2.0, "updating": 1.0}),
        StepFinished(2, 2, {"rollouts_per_s": 200.0}, {"sampling": 2.0, "updating": 1.0, "voting": 0.5}),
        evaluation(2, Split.ADAPT, 0.8, 0.9),
        evaluation(2, Split.HELD_OUT, 0.75, 0.85),
    )
    lines = report(record, 12.34)
    assert json.loads(lines[-1]) == {
        "seconds": 12.3,
        "steps": 2,
        "threads": 2,
        "adapt": {"base_pass1": 0.33, "adapted_pass1": 0.8, "base_maj": 0.7},
        "held_out": {"base_pass1": 0.3, "adapted_pass1": 0.75, "base_maj": 0.6},
    }
    assert record.phase_seconds() == {"sampling": 4.0, "voting": 0.5, "updating": 2.0, "evaluating": 4.0}
    assert "rollouts per second while sampling: 150" in lines


def test_a_split_that_was_not_scored_is_null():
    last = json.loads(report(told(evaluation(0, Split.ADAPT, 0.3, 0.5)), 1.0)[-1])
    assert last["held_out"] is None
    assert last["threads"] is None
