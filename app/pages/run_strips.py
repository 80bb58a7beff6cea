"""What needs attention on the Run page: a failure, a missing worker, alarms."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from app import components as ui
from app.actions import action_button
from app.format import number
from app.pages.run_roll_back import earlier_choices, healthy_steps, roll_back_button
from worker.rows import AlarmRow, RunRow
from worker.states import JobState

ALARMS: dict[str, str] = {
    "one_answer": (
        "Many problems now elect the same answer. A model that says one thing everywhere agrees with "
        "itself and is still wrong."
    ),
    "unparsed": "More and more answers cannot be read. They vote for nothing, so fewer votes decide each label.",
    "truncated": (
        "More and more answers are cut off before their end. Raise the longest answer, or look at what they say."
    ),
    "entropy_floor": (
        "The model has become very sure of every token. Without variety the votes carry no new information."
    ),
    "entropy_rise": (
        "The model has become much less sure of its tokens. Answers may turn into noise; a smaller learning rate helps."
    ),
    "length": "Answers have become very short. Often the working is skipped to reach an answer faster.",
    "false_consensus": (
        "The model has grown sure of the problems it trains on, while the held-out ones, which it cannot learn by "
        "heart, tell another story."
    ),
    "kl": "One update changed the model far more than those before. A smaller learning rate or gradient clip helps.",
}


# So much is the learning rate lowered in the clone that is offered after an alarm.
_LOWER_RATE = 0.1


def strips(
    run: RunRow,
    alarms: Sequence[AlarmRow],
    worker_alive: bool,
    on_disk: Collection[int] = (),
    recorded: Mapping[int, str] | None = None,
) -> str:
    """What needs attention: a failure, a missing worker, alarms. `on_disk` are the steps of checkpoints still there,
    `recorded` says what was measured at them."""
    parts = []
    if run.state in (JobState.FAILED, JobState.LOST):
        buttons = (
            action_button("resume", run.job.id, "Resume", icon_name="play", look="primary")
            if run.job.can_resume
            else ""
        )
        buttons += ui.link_button("Clone with changes", f"/new?clone={run.id}", icon_name="copy", look="small")
        title = run.job.error_message or "The worker was lost."
        why = f"It happened after step {run.step}." if run.step else "It happened before the first step was finished."
        parts.append(ui.error_card(title, why, run.job.error_hint, run.job.error_trace, buttons))
    if not worker_alive and (run.state is JobState.QUEUED or run.job.is_active):
        parts.append(worker_missing())
    return "".join(parts) + alarm_strip(alarms, alarm_choices(run, alarms, on_disk, recorded or {}))


def worker_missing() -> str:
    """The banner that says why nothing moves."""
    how = (
        '<p class="tt-muted">Nothing is computed until it is back; nothing is lost. Start everything with '
        "<code>ttrl-studio up</code>, or the worker alone with <code>python -m worker</code>.</p>"
    )
    return ui.note("The worker is not running", "", "warn", body_html=how)


def alarm_choices(
    run: RunRow, alarms: Sequence[AlarmRow], on_disk: Collection[int], recorded: Mapping[int, str]
) -> str:
    """What a person can do about the alarms with one click, each with what it does."""
    if not alarms:
        return ""
    job, parts = run.job, []
    if job.can_resume:
        parts.append(
            (
                action_button("resume", job.id, "Continue anyway", icon_name="play"),
                f"Goes on after step {run.step} with the same settings. An alarm that stays on is not raised again.",
            )
        )
    healthy = healthy_steps(alarms, on_disk)
    if job.can_resume and healthy:
        parts.append(
            (
                roll_back_button(run, healthy[0]),
                f"Ends the run with the weights of step {healthy[0]}, the last checkpoint from before the first alarm. "
                "An alarm looks back at three steps, so compare its answers with the base model's. All measurements "
                f"stay. Recorded at step {healthy[0]}: {recorded.get(healthy[0], 'unknown')}.",
            )
        )
    rate = run.config.train.learning_rate * _LOWER_RATE
    parts.append(
        (
            ui.link_button(
                "Clone with a tenth of the learning rate",
                f"/new?clone={run.id}&learning_rate={rate:.6g}",
                icon_name="copy",
                look="small",
            ),
            f"Prepares a new run from the base model at {number(rate)} instead of "
            f"{number(run.config.train.learning_rate)}; this one stays as it is.",
        )
    )
    rows = "".join(f"<li>{button}<span>{ui.escape(text)}</span></li>" for button, text in parts)
    earlier = earlier_choices(run, healthy[1:], recorded) if job.can_resume else ""
    wait = '<p class="tt-muted">Pause the run to go back to a checkpoint.</p>' if job.is_active and healthy else ""
    return f'<h2>What you can do</h2><ul class="tt-choices">{rows}</ul>{earlier}{wait}'


def alarm_strip(alarms: Sequence[AlarmRow], choices: str = "") -> str:
    """The alarms, newest first, each with what it means; repeated ones are told once, with their number. `choices`
    follow them."""
    grouped: dict[str, list[AlarmRow]] = {}
    for alarm in alarms:
        grouped.setdefault(alarm.alarm, []).append(alarm)
    parts = []
    for name, rows in sorted(grouped.items(), key=lambda pair: -pair[1][-1].step):
        last = rows[-1]
        times = f", and {len(rows) - 1} times before" if len(rows) > 1 else ""
        action = {
            "pause": "The run was paused.",
            "roll_back": "The run went back to its last healthy checkpoint.",
            "note": "The run goes on.",
        }
        meaning = next((text for key, text in ALARMS.items() if name.startswith(key)), "")
        title = f"Alarm at step {last.step}{times}: {last.message}"
        parts.append(ui.note(title, f"{meaning} {action.get(last.action, '')}".strip(), "warn"))
    if not parts:
        return ""
    offered = f'<div class="tt-card">{choices}</div>' if choices else ""
    return f'<div class="tt-stack"><div class="tt-stack" aria-live="polite">{"".join(parts)}</div>{offered}</div>'
