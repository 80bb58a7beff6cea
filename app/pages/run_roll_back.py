"""The ways back from an alarm: each checkpoint from before it, beside what was measured there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from app import components as ui
from app.actions import action_button
from app.evaluations import rate_words, sample_size, split_series
from app.format import percent
from ttrl_engine.errors import StudioError
from worker.rows import AlarmRow, RunRow
from worker.store import Store

_UNBROKEN = "\u00a0"


def healthy_steps(alarms: Sequence[AlarmRow], on_disk: Collection[int]) -> list[int]:
    """The checkpoints from before the first alarm, newest first; none where there was no alarm."""
    first = min((alarm.step for alarm in alarms), default=0)
    return sorted((step for step in on_disk if step < first), reverse=True)


def measured(store: Store, run: RunRow, steps: Collection[int]) -> dict[int, str]:
    """What was recorded at each of these steps, in words."""
    if not steps:
        return {}
    parts: dict[int, list[str]] = {step: [] for step in steps}
    for step, consensus in store.metric_at(run.id, "consensus", steps).items():
        parts[step].append(f"consensus {percent(consensus)}")
    for split in split_series(store.evaluations(run.id)):
        for row in split.rows:
            if row.step in parts:
                rate, size = (words.replace(" ", _UNBROKEN) for words in (rate_words(row), sample_size(row)))
                parts[row.step].append(f"{split.title} pass@1 {rate}, {size}")
    return {step: "; ".join(words) or "nothing" for step, words in parts.items()}


def roll_back_button(run: RunRow, step: int) -> str:
    """Ends the run at the checkpoint of `step`, once that is confirmed."""
    return action_button(
        "roll_back",
        f"{run.job_id}.{step}",
        f"Roll back to step {step}",
        icon_name="flag",
        ask=f"Roll back to step {step}?",
        yes="End the run there",
        no="Leave it as it is",
        confirm=f"The run ends, and the weights of step {step} become its result. It cannot be resumed.",
    )


def earlier_choices(run: RunRow, steps: Sequence[int], recorded: Mapping[int, str]) -> str:
    """The older checkpoints, folded; nothing where there are none."""
    if not steps:
        return ""
    rows = "".join(
        f"<li>{roll_back_button(run, step)}<span>Recorded at step {step}: {ui.escape(recorded.get(step, 'unknown'))}."
        "</span></li>"
        for step in steps
    )
    return (
        '<details data-key="earlier"><summary>Roll back to an earlier checkpoint</summary>'
        f'<ul class="tt-choices">{rows}</ul></details>'
    )


def chosen_step(ident: str, job_id: int, healthy: Collection[int]) -> int:
    """The step that a click names. It comes from the browser, so it is only compared with those that may be chosen.

    Raises StudioError where it is none of them.
    """
    for step in healthy:
        if ident == f"{job_id}.{step}":
            return step
    raise StudioError(
        "This checkpoint is not on disk any more, or the page is out of date. Choose one of those that it shows now."
    )
