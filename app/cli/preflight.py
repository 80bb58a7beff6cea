"""`ttrl-studio preflight`: how the model votes on a few problems, and whether a run can be expected to help."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.cli.run import load_problems
from app.format import duration, duration_range, percent, size
from app.memory_plan import MemoryPlan, machine_for, plan_memory
from app.plan import Plan, make_plan
from app.preflight import advise, whole_run_s
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError
from ttrl_engine.memory import ModelShape, read_shape
from ttrl_engine.models import cached_folder, is_hub_name, resolve_source
from ttrl_engine.preflight import Findings, Judgement, inspect
from ttrl_engine.threads import wait_politely
from worker.settings import Settings


@dataclass(frozen=True)
class Report:
    """Everything that is known before the run starts."""

    findings: Findings
    judgement: Judgement
    plan: Plan
    step_s: float
    seconds: tuple[float, float]
    memory: MemoryPlan | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for programs."""
        found, judged = self.findings, self.judgement
        return {
            "verdict": judged.verdict,
            "reasons": list(judged.reasons),
            "changes": dict(judged.changes),
            "shares": {kind: found.share_of(kind) for kind in ("learnable", "settled", "scattered")},
            "label_quality": found.label_quality,
            "measured_quality": found.measured_quality,
            "step_seconds": self.step_s,
            "seconds": list(self.seconds),
            "memory": self.memory and {"bytes": self.memory.estimate.total, "fit": self.memory.fit},
            "plan": asdict(self.plan),
            "findings": found.as_dict(),
        }

    def lines(self) -> list[str]:
        """The same in sentences."""
        found, judged = self.findings, self.judgement
        shares = ", ".join(
            f"{percent(found.share_of(kind), 0)} {kind}" for kind in ("learnable", "settled", "scattered")
        )
        lines = [f"Verdict: {judged.verdict}", *judged.reasons]
        lines += [f"Setting that would help: {name}={value}" for name, value in judged.changes.items()]
        lines.append(f"Problems: {shares} ({len(found.polls)} of {found.num_available:,} looked at)")
        lines.append(f"Right labels: about {percent(found.label_quality, 0)} expected")
        if found.measured_quality is not None:
            lines.append(
                "Right labels by the references, not part of the verdict: {} of {}".format(*found.measured_quality)
            )
        lines.append(f"Answers: {percent(found.unread)} unreadable, {percent(found.cut)} cut at the limit")
        if self.memory is not None:
            fit = self.memory.fit or "there is no GPU to compare it with"
            lines.append(f"Memory: about {size(self.memory.estimate.total)}, {fit}")
        lines.append(f"A step takes about {duration(self.step_s)}, the whole run {duration_range(*self.seconds)}")
        return lines


def check_run(config: RunConfig, data_dir: Path, on_progress: Callable[[int, int], None]) -> Report:
    """Look at the run of a config before it starts. Raises StudioError."""
    problem_set = load_problems(config.data.problems, data_dir)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    wait_politely()
    findings = inspect(config, problem_set, on_progress)
    shape = _shape(config)
    labelled = bool(problem_set.references) + (config.data.held_out_share > 0)
    num_splits = labelled + len(config.data.benchmarks)
    plan = make_plan(config, len(problem_set.problems), num_labelled_splits=num_splits, shape=shape)
    memory = plan_memory(shape, config, machine_for(config, Settings())) if shape else None
    judgement = advise(findings, config, shape.context if shape else None, memory)
    return Report(findings, judgement, plan, findings.step_s(config), whole_run_s(findings, config, plan), memory)


def _shape(config: RunConfig) -> ModelShape | None:
    source, revision = config.model.source, config.model.revision
    try:
        folder = cached_folder(source, revision) if is_hub_name(source) else Path(resolve_source(source))
        return read_shape(folder) if folder is not None else None
    except ModelError:
        return None
