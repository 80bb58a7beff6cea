"""Advice on a run that is about to start: what a check of its votes found, together with the time and the memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.memory_plan import MemoryPlan
from app.plan import Plan
from ttrl_engine.config import RunConfig
from ttrl_engine.preflight import Findings, Judgement, judge

# A run's answers grow shorter or longer as it learns, and the machine does other things beside it.
FASTER, SLOWER = 0.7, 1.5


def advise(found: Findings, config: RunConfig, context_tokens: int | None, memory: MemoryPlan | None) -> Judgement:
    """The verdict, the memory taken into account. No reference answer enters it."""
    judged = judge(found, config, context_tokens)
    if judged.verdict != "go" or memory is None or memory.fit != "too large":
        return judged
    remedy = next((remedy for remedy in memory.remedies if remedy.fits), None)
    changes: Mapping[str, Any] = remedy.changes if remedy else {}
    return Judgement("adjust", (*judged.reasons, "But the memory of this machine will not suffice."), changes)


def whole_run_s(found: Findings, config: RunConfig, plan: Plan) -> tuple[float, float]:
    """Seconds of the whole run, least and most, from the rates of the check."""
    steps = plan.steps * found.step_s(config)
    return FASTER * steps, SLOWER * (steps + plan.eval_rollouts * found.sampling_s)
