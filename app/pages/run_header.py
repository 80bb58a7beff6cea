"""The top of the Run page: name, state, the plain sentence, what can be done, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from app import components as ui
from app.actions import action_button
from app.evaluations import established, split_series
from app.format import duration, duration_range, moment, percent
from app.pages.run_flips import flips_sentence
from worker.rows import EvaluationRow, LabelFlipCounts, RunRow
from worker.states import JobState

SILENT_S = 15.0

_PHASES: dict[str, tuple[str, str]] = {
    "loading": ("Loading the model", ""),
    "evaluating": ("Evaluating", "problems"),
    "sampling": ("Sampling votes", "votes"),
    "voting": ("Holding the vote", ""),
    "updating": ("Updating the weights", ""),
    "saving": ("Saving a checkpoint", ""),
}


def header(
    run: RunRow,
    latest: dict[str, float | None],
    evaluations: Sequence[EvaluationRow],
    place: int | None,
    now: float,
    flips: LabelFlipCounts | None = None,
) -> str:
    """Name, state, the plain sentences, progress, and what can be done."""
    sentences = [plain_sentence(run, latest, evaluations, place), flips_sentence(flips) if flips else ""]
    title = (
        f'<div class="tt-page-head" data-title="{ui.escape(run.name)}"><div class="tt-stack"><div class="tt-row">'
        f"<h1>{ui.escape(run.name)}</h1>{ui.state_pill(run.state)}{_archived(run)}</div>"
        f'<p class="tt-lead">{ui.escape(" ".join(filter(None, sentences)))}</p></div>'
        f'<div class="tt-row tt-run-actions">{actions(run)}</div></div>'
    )
    return title + _facts_line(run, now) + _progress(run, now)


def _archived(run: RunRow) -> str:
    return ui.pill("Archived", "idle", "archive") if run.archived else ""


def plain_sentence(
    run: RunRow, latest: dict[str, float | None], evaluations: Sequence[EvaluationRow], place: int | None
) -> str:
    """What the run comes to so far, in words."""
    if run.state is JobState.QUEUED:
        return (
            "It starts as soon as the worker is free."
            if place in (None, 1)
            else f"Number {place} in the queue: {place - 1} job{'s start' if place > 2 else ' starts'} first."
        )
    parts = []
    consensus = latest.get("consensus")
    if consensus is not None:
        parts.append(f"The model agrees with itself on {percent(consensus, 0)} of the votes.")
    for series in split_series(evaluations):
        row = series.newest
        if row.step and row.gain is not None and series.split in ("adapt", "held_out"):
            name = "the problems it trains on" if series.split == "adapt" else "held-out problems"
            known = established(row)
            if known is False:
                parts.append(f"On {name} a change is not established.")
            else:
                parts.append(
                    f"On {name} it went from {percent(row.avg - row.gain if row.avg is not None else None, 0)} to "
                    f"{percent(row.avg, 0)} right."
                )
    if not parts:
        return "The first numbers appear when the base model is evaluated and the first vote is held."
    return " ".join(parts)


def actions(run: RunRow) -> str:
    """The buttons that make sense in this state."""
    job, state = run.job, run.state
    parts = []
    if state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING):
        parts.append(
            action_button("pause", job.id, "Pause", icon_name="pause", title="Saves a checkpoint and waits for you")
        )
    if job.can_resume:
        words = "Resume" if run.step else "Start again"
        title = f"Goes on after step {run.step}'s last checkpoint" if run.step else "Back into the queue"
        parts.append(action_button("resume", job.id, words, icon_name="play", look="primary", title=title))
    if not job.is_terminal and state is not JobState.STOPPING:
        parts.append(
            action_button(
                "cancel",
                job.id,
                "Cancel",
                icon_name="stop",
                look="danger",
                ask=f"Cancel {run.name}?",
                yes="Cancel the run",
                confirm="It saves where it stands and ends. Everything measured stays, and it can be resumed later.",
            )
        )
    parts.append(ui.link_button("Clone", f"/new?clone={run.id}", icon_name="copy", look="small"))
    if run.policy_path or run.step:
        parts.append(ui.link_button("Compare answers", f"/compare?run={run.id}", icon_name="compare", look="small"))
    if run.step:
        report = f"/download/runs/{run.id}/report.html"
        parts.append(ui.link_button("Evidence report", report, icon_name="file", look="small", download=True))
    if run.policy_path:
        what = "adapter" if run.config.model.method == "lora" else "weights"
        parts.append(
            ui.link_button(
                f"Download {what}",
                f"/download/runs/{run.id}/adapter.zip",
                icon_name="download",
                look="small",
                download=True,
            )
        )
    return "".join(parts)


def _facts_line(run: RunRow, now: float) -> str:
    config = run.config
    parts = [
        f"<span>Model <b>{ui.escape(run.model.removeprefix('bundled:'))}</b></span>",
        f'<span>Problems <a href="/problem-sets?id={ui.escape(run.set_id)}">{ui.escape(run.set_name)}</a></span>',
        f"<span>{config.vote.num_votes} votes, {config.vote.num_trained} trained</span>",
        (
            "<span>"
            f"{'LoRA rank ' + str(config.model.lora_rank) if config.model.method == 'lora' else 'Full weights'}"
            "</span>"
        ),
        f"<span>Seed {run.seed}</span>",
    ]
    if run.device:
        parts.append(f"<span>{ui.escape(run.device)}, {ui.escape(run.sampler or '')} sampler</span>")
    if run.job.started_at is not None:
        seconds = (run.job.finished_at or now) - run.job.started_at
        took = "took" if run.job.is_terminal else "for"
        parts.append(f"<span>Started {moment(run.job.started_at, now)}, {took} {duration(seconds)}</span>")
    if run.parent_run_id:
        parts.append(f'<span>Cloned from <a href="/run?id={run.parent_run_id}">run {run.parent_run_id}</a></span>')
    return f'<div class="tt-facts-line">{"".join(parts)}</div>'


def phase_words(run: RunRow) -> str:
    """ "Sampling votes 320 of 512", or an empty string where nothing is under way."""
    if run.phase is None:
        return ""
    words, _ = _PHASES.get(run.phase, (run.phase.capitalize(), ""))
    if run.phase_total and run.phase_done is not None and run.phase_total > 1:
        return f"{words} {run.phase_done:,} of {run.phase_total:,}"
    return words


def steps_words(run: RunRow) -> str:
    """ "Step 37 of 120", counting finished steps."""
    if run.total_steps is None:
        return "Not started" if run.state is JobState.QUEUED else "Getting ready"
    return f"Step {run.step:,} of {run.total_steps:,}"


def live_sign(run: RunRow, now: float) -> str:
    """How fresh the numbers are; a warning once the worker has been silent for too long."""
    silent = run.job.silent_s(now)
    if silent is None:
        return ""
    return ui.age(silent, "updated {} ago", SILENT_S, "worker silent for {}")


def _progress(run: RunRow, now: float) -> str:
    if run.state is JobState.QUEUED:
        return ""
    look = {JobState.FINISHED: "good", JobState.FAILED: "bad", JobState.LOST: "bad"}.get(
        run.state, "" if run.job.is_active else "idle"
    )
    left = f"<b>{ui.escape(steps_words(run))}</b>"
    if run.job.is_active and phase_words(run):
        left += f" · {ui.escape(phase_words(run))}"
    elif run.job.reason and run.state is not JobState.FINISHED:
        left += f" · {ui.escape(run.job.reason)}"
    if run.state is JobState.FINISHED and run.job.started_at and run.job.finished_at:
        left += (
            f" · finished {moment(run.job.finished_at, now)} after {duration(run.job.finished_at - run.job.started_at)}"
        )
    eta = duration_range(run.eta_low_s, run.eta_high_s)
    right = " · ".join(
        part for part in (f"{eta} left" if eta and run.job.is_active else "", live_sign(run, now)) if part
    )
    return ui.progress(fine_progress(run), left, right, look, "Progress of the run")


def fine_progress(run: RunRow) -> float | None:
    """Share done, the votes of the step under way included; never full before the run is finished."""
    share = run.progress
    if share is None or not run.job.is_active or not run.total_steps or not run.phase_total or run.phase != "sampling":
        return share
    return min(share + 0.6 * (run.phase_done or 0) / run.phase_total / run.total_steps, 0.99)
