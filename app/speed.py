"""How fast runs have been on this machine: the only honest basis of a forecast."""

from __future__ import annotations

from typing import TypeAlias

from app.plan import Plan, make_plan
from worker.rows import JobRow, RunRow
from worker.states import JobState
from worker.store import Store

Span: TypeAlias = tuple[float, float]
"""Seconds, least and most."""

_RUNS_LOOKED_AT = 60
_TRAINING_PHASES = ("seconds.sampling", "seconds.voting", "seconds.updating", "seconds.saving")


def rollouts_per_s(store: Store, run: RunRow) -> float | None:
    """Trained rollouts per second of whole steps of one run; None before its first step."""
    if run.step < 1:
        return None
    series = store.metric_series(run.id, list(_TRAINING_PHASES), max_points=50)
    per_step = 0.0
    for points in series.values():
        means = [mean for _, mean, _, _ in points if mean is not None]
        per_step += sum(means) / len(means) if means else 0.0
    config = run.config
    problems = min(config.train.problems_per_step, run.num_adapt or config.train.problems_per_step)
    return problems * config.vote.num_votes / per_step if per_step > 0 else None


def speed_of(store: Store, model: str, max_new_tokens: int) -> tuple[float, float] | None:
    """Slowest and fastest rollouts per second of this model, with answers of this length; None if never run."""
    seen = []
    for run in store.runs(limit=_RUNS_LOOKED_AT):
        if run.model == model and run.config.vote.max_new_tokens == max_new_tokens:
            rate = rollouts_per_s(store, run)
            if rate is not None:
                seen.append(rate)
        if len(seen) == 3:
            break
    return (min(seen) * 0.8, max(seen) * 1.1) if seen else None


def plan_of_run(store: Store, run: RunRow) -> Plan | None:
    """The plan of a stored run, with the speed its model has shown here; None if its set is gone."""
    found = store.problem_set(run.set_id)
    if found is None:
        return None
    config = run.config
    return make_plan(
        config,
        found.num_problems,
        num_labelled_splits=bool(found.num_references) + (config.data.held_out_share > 0) + len(config.data.benchmarks),
        rollouts_per_s=speed_of(store, run.model, config.vote.max_new_tokens),
    )


def remaining_s(store: Store, run: RunRow) -> tuple[float, float] | None:
    """How much longer a run computes, (low, high), whether it computes now or waits; None while nothing is known."""
    if run.state not in (JobState.QUEUED, JobState.PAUSED) and run.eta_low_s is not None and run.eta_high_s is not None:
        return run.eta_low_s, run.eta_high_s
    plan = plan_of_run(store, run)
    if plan is None or plan.seconds_low is None or plan.seconds_high is None:
        return None
    left = 1.0 - (run.step / plan.steps if plan.steps else 0.0)
    return plan.seconds_low * left, plan.seconds_high * left


def start_spans(store: Store, active: list[JobRow], waiting: list[JobRow], slots: int) -> list[Span | None]:
    """For each waiting job, in how many seconds it starts (low, high); None where a job before it has no known length.

    With several slots the work before it is shared evenly, which is exact for one slot and a fair guess for more.
    """
    low = high = 0.0
    known = True
    busy = len(active) >= slots
    if busy:
        for job in active:
            low, high, known = _add(low, high, known, _length(store, job))
    spans: list[Span | None] = []
    for job in waiting:
        spans.append((low / slots, high / slots) if known else None)
        low, high, known = _add(low, high, known, _length(store, job))
    return spans


def _add(low: float, high: float, known: bool, span: Span | None) -> tuple[float, float, bool]:
    return (low, high, False) if span is None else (low + span[0], high + span[1], known)


def _length(store: Store, job: JobRow) -> Span | None:
    if job.kind != "run":
        return 5.0, 60.0
    run = store.run_of_job(job.id)
    return remaining_s(store, run) if run else None
