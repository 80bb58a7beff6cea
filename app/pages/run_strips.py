"""What needs attention on the Run page: a failure, a missing worker, alarms."""

from __future__ import annotations

from collections.abc import Sequence

from app import components as ui
from app.actions import action_button
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
    "kl": "One update changed the model far more than those before. A smaller learning rate or gradient clip helps.",
}


def strips(run: RunRow, alarms: Sequence[AlarmRow], worker_alive: bool) -> str:
    """What needs attention: a failure, a missing worker, alarms."""
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
    return "".join(parts) + alarm_strip(alarms)


def worker_missing() -> str:
    """The banner that says why nothing moves."""
    how = (
        '<p class="tt-muted">Nothing is computed until it is back; nothing is lost. Start everything with '
        "<code>ttrl-studio up</code>, or the worker alone with <code>python -m worker</code>.</p>"
    )
    return ui.note("The worker is not running", "", "warn", body_html=how)


def alarm_strip(alarms: Sequence[AlarmRow]) -> str:
    """The alarms, newest first, each with what it means; repeated ones are told once, with their number."""
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
    return f'<div class="tt-stack" aria-live="polite">{"".join(parts)}</div>' if parts else ""
