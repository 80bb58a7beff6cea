"""The random-reward control of a run: the same run, paid by lot. What it gains too does not come from agreement.

Why it matters: random rewards alone have lifted some models by 21 points (arXiv 2506.10947).
"""

from __future__ import annotations

from collections.abc import Sequence

from app.pages.runs_pair import Match, matches
from app.services import Services
from ttrl_engine.config import RunConfig
from worker.rows import EvaluationRow, RunRow
from worker.store import Store

NAME = "control: random rewards"


def control_config(run: RunRow) -> RunConfig:
    """The config of the run with rewards by lot. Raises ConfigError where another setting forbids it."""
    return run.config.with_changes(name=f"{run.name[:90]}, {NAME}", **{"vote.reward": "random"})


def is_control(run: RunRow) -> bool:
    """Whether a run was paid by lot."""
    return run.config.vote.reward == "random"


def start_control(services: Services, run: RunRow) -> int:
    """Queue the control of a run and return its id; asking twice gives the same one. Raises StudioError."""
    return services.desk.submit_run(control_config(run), f"control-of-{run.id}", run.set_id, run.id)


def control_of(store: Store, run: RunRow) -> RunRow | None:
    """The newest run that differs from this one only in its rewards, which are drawn by lot."""
    made = [child for child in store.children(run.id) if is_control(child)]
    if not made or is_control(run):
        return None
    digest = control_config(run).digest()
    return next((child for child in made if child.config_digest == digest), None)


def against_control(store: Store, run: RunRow, control: RunRow) -> list[Match]:
    """The control (A) against the run (B) per split, at the newest step at which both were scored.

    Both begin from the same base model, so that the difference of their scores is the difference of their gains.
    """
    own, others = store.standing_evaluations(run.id), store.standing_evaluations(control.id)
    shared = {_place(row) for row in own} & {_place(row) for row in others}
    return matches(store, control, run, (_kept(others, shared), _kept(own, shared)))


def _place(row: EvaluationRow) -> tuple[int, str, str]:
    return row.step, row.split, row.problem_set


def _kept(rows: Sequence[EvaluationRow], shared: set[tuple[int, str, str]]) -> list[EvaluationRow]:
    return [row for row in rows if _place(row) in shared]
