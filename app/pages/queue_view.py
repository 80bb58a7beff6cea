"""The queue as HTML: a pure function of the store and the clock."""

from __future__ import annotations

from app.actions import action_button
from app.components import (
    age,
    card,
    chips,
    empty,
    escape,
    link_button,
    note,
    page_head,
    pill,
    progress,
    row,
    state_pill,
    table,
)
from app.format import duration_range, moment
from app.services import Services
from app.speed import Span, remaining_s, start_spans
from worker.rows import JobRow, RunRow, WorkerStatus
from worker.states import JobState
from worker.store import Store

SILENT_S = 10.0
_NUM_RECENT = 12

_PHASES = {
    "loading": "Loading the model",
    "evaluating": "Evaluating",
    "sampling": "Sampling answers",
    "voting": "Voting",
    "updating": "Updating the model",
    "saving": "Saving",
}
_ABOUT = {
    "compare": "answers of base and adapted model",
    "export": "the adapter merged into its model",
    "preflight": "how the model votes, before a run",
}


def queue_html(services: Services, now: float) -> str:
    """The whole page below the header."""
    store = services.store
    held, status = store.queue_held(), store.worker_status()
    active, waiting = store.active_jobs(), store.queue()
    parts = [_head(held, status, len(active), len(waiting)), _warnings(held, status, bool(active or waiting))]
    if not active and not waiting:
        parts.append(_nothing())
    if active:
        parts.append(f'<div class="tt-stack">{"".join(_active_card(store, job, now) for job in active)}</div>')
    if waiting:
        parts.append(_waiting_card(store, active, waiting, held, max(1, status.slots), now))
    parts += [_needs_you(store), _recent(store, now)]
    return "".join(part for part in parts if part)


def _head(held: bool, status: WorkerStatus, num_active: int, num_waiting: int) -> str:
    if held:
        switch = action_button(
            "release", 0, "Release the queue", icon_name="play", look="primary", title="Let waiting jobs start again"
        )
    else:
        switch = action_button(
            "hold",
            0,
            "Hold the queue",
            icon_name="pause",
            title="Nothing new starts until you release it; what runs goes on",
        )
    if status.alive:
        slots = f"{status.slots} at a time" if status.slots > 1 else "one at a time"
        worker = pill(f"Worker ready, {slots}", "good", "check")
    else:
        worker = pill("No worker", "bad", "error")
    lead = f"{num_active} running, {num_waiting} waiting. Close the tab whenever you like: the worker does not need it."
    return page_head("Queue", lead, worker + switch + link_button("New run", "/new", icon_name="plus"))


def _warnings(held: bool, status: WorkerStatus, has_jobs: bool) -> str:
    parts = []
    if not status.alive:
        seen = f"It was last heard {age(status.silent_s)}. " if status.silent_s is not None else ""
        waits = "Jobs keep their place and go on from their last checkpoint when it is back. " if has_jobs else ""
        how = "Start it with <code>ttrl-studio up</code>."
        parts.append(
            note("No worker serves this queue.", "", "bad", body_html=f"<p>{seen}{waits}{how}</p>", alert=True)
        )
    if held:
        parts.append(note("The queue is held.", "What runs goes on; nothing new starts until you release it.", "warn"))
    return "".join(parts)


def _nothing() -> str:
    links = link_button("New run", "/new", icon_name="plus", look="primary") + link_button("All runs", "/runs")
    return card(
        empty(
            "Nothing is running or waiting",
            "Start a run and it appears here, with its place and when it begins.",
            links,
            "queue",
        )
    )


def _name_html(store: Store, job: JobRow) -> str:
    if job.kind == "compare":
        found, session = store.comparison(job.subject_id), store.blind_session_of(job.subject_id)
        url = f"/compare?run={found.run_id}&id={job.subject_id}" if found else "/compare"
        if session is not None and session.ended_at is None:
            url = f"/blind?session={session.id}"
        return f'<a class="tt-strong" href="{escape(url)}">{escape(job.title)}</a>'
    if job.kind == "export":
        export = store.export(job.subject_id)
        url = f"/run?id={export.run_id}" if export else "/runs"
        return f'<a class="tt-strong" href="{escape(url)}">{escape(job.title)}</a>'
    if job.kind == "preflight":
        return f'<a class="tt-strong" href="/new">{escape(job.title)}</a>'
    return f'<a class="tt-strong" href="/run?id={job.subject_id}">{escape(job.title)}</a>'


def _stop_button(job: JobRow, *, waiting: bool) -> str:
    if waiting:
        text = "It leaves the queue without having computed anything new. You can send it back later."
        return action_button(
            "cancel",
            job.id,
            f"Cancel {job.title}",
            icon_name="cross",
            title="Cancel",
            icon_only=True,
            look="danger",
            ask=f"Take “{job.title}” out of the queue?",
            confirm=text,
            yes="Cancel it",
        )
    text = "It finishes the step it is in, saves a checkpoint, and stops. You can go on from there later."
    disabled = job.state is JobState.STOPPING
    return action_button(
        "cancel",
        job.id,
        "Cancel",
        icon_name="stop",
        look="danger",
        disabled=disabled,
        title="Already stopping" if disabled else "Stop and keep what is there",
        ask=f"Cancel “{job.title}”?",
        confirm=text,
        yes="Cancel the job",
    )


def _active_card(store: Store, job: JobRow, now: float) -> str:
    run = store.run_of_job(job.id) if job.kind == "run" else None
    buttons = ""
    if job.kind == "run":
        pausing = job.state is not JobState.RUNNING
        buttons += action_button(
            "pause",
            job.id,
            "Pause",
            icon_name="pause",
            disabled=pausing,
            title="Only a running job can be paused" if pausing else "Save a checkpoint and give the place to the next",
        )
    buttons += _stop_button(job, waiting=False)
    silent = job.silent_s(now)
    if silent is not None and silent > SILENT_S:
        buttons = pill("Worker silent", "warn", "warning") + buttons
    head = (
        f'<div class="tt-card-head"><div class="tt-row">{state_pill(job.state)}{_name_html(store, job)}</div>'
        f'<div class="tt-row">{buttons}</div></div>'
    )
    return f'<section class="tt-card" data-key="job-{job.id}">{head}{_progress(store, job, run)}</section>'


def _progress(store: Store, job: JobRow, run: RunRow | None) -> str:
    if job.kind == "export":
        export = store.export(job.subject_id)
        phase = export.phase if export else None
        share = export.done / export.total if export and export.total and export.done is not None else None
        return progress(share, escape((phase or "starting").capitalize()), label="Progress of the export")
    if job.kind == "preflight":
        check = store.preflight(job.subject_id)
        done, total = (check.done or 0, check.total or 0) if check else (0, 0)
        words = f"{done:,} of {total:,} answers" if total else "Loading the model"
        return progress(done / total if total else None, escape(words), label="Progress of the check")
    if run is None:
        found = store.comparison(job.subject_id)
        done, total = (found.done or 0, found.total or 0) if found else (0, 0)
        words = f"{done} of {total} answers" if total else "Loading both models"
        return progress(done / total if total else None, escape(words), label="Progress of the comparison")
    phase = _PHASES.get(run.phase or "", "Starting")
    inner = f" · {run.phase_done:,} of {run.phase_total:,}" if run.phase_done is not None and run.phase_total else ""
    left = f"<b>Step {run.step:,} of {run.total_steps:,}</b> · {phase}{inner}" if run.total_steps else f"{phase}{inner}"
    span = remaining_s(store, run)
    right = f"{duration_range(*span)} left" if span else "Time left: measured after the first step"
    facts = chips([("model", run.model), ("problems", run.set_name)])
    return progress(run.progress, left, right, label=f"Progress of {run.name}") + facts


def _waiting_card(store: Store, active: list[JobRow], waiting: list[JobRow], held: bool, slots: int, now: float) -> str:
    starts = start_spans(store, active, waiting, slots)
    rows = []
    for place, (job, span) in enumerate(zip(waiting, starts, strict=True), start=1):
        run = store.run_of_job(job.id) if job.kind == "run" else None
        about = (
            f'<div class="tt-muted tt-small">{escape(run.model)} on {escape(run.set_name)}</div>'
            if run
            else f'<div class="tt-muted tt-small">{_ABOUT[job.kind]}</div>'
        )
        if run is not None and run.step:
            about += f'<div class="tt-muted tt-small">goes on after step {run.step:,}</div>'
        first, last = place == 1, place == len(waiting)
        buttons = (
            action_button(
                "first",
                job.id,
                f"Move {job.title} to the front",
                icon_name="first",
                title="To the front",
                icon_only=True,
                disabled=first,
            )
            + action_button(
                "up", job.id, f"Move {job.title} up", icon_name="up", title="Up", icon_only=True, disabled=first
            )
            + action_button(
                "down", job.id, f"Move {job.title} down", icon_name="down", title="Down", icon_only=True, disabled=last
            )
        )
        if run is not None:
            buttons += action_button(
                "pause",
                job.id,
                f"Pause {job.title}",
                icon_name="pause",
                title="Pause: keep it out of the queue until you resume it",
                icon_only=True,
            )
        buttons += _stop_button(job, waiting=True)
        rows.append(
            row(
                [
                    str(place),
                    f"{_name_html(store, job)}{about}",
                    escape(_start_words(span, held)),
                    _when(job.created_at, now),
                    f'<div class="tt-row tt-row-end tt-nowrap">{buttons}</div>',
                ],
                key=f"job-{job.id}",
                wrap=(1,),
                right=(4,),
            )
        )
    body = table(("Place", "Job", "Starts", "Added", ""), rows, "Waiting jobs in order", right=(4,))
    return card(body, f"Waiting ({len(waiting)})", flush=True, key="waiting")


def _start_words(span: Span | None, held: bool) -> str:
    if held:
        return "when the queue is released"
    if span is None:
        return "after those before it; their time is not known yet"
    if span[1] < 5:
        return "next"
    return f"in about {duration_range(*span)}"


def _needs_you(store: Store) -> str:
    cards = []
    for run in store.runs(limit=100):
        job = run.job
        if job.state is JobState.PAUSED:
            buttons = action_button("resume", job.id, "Resume", icon_name="play", look="primary") + _drop_paused(job)
            reason = job.reason or "You paused it."
            title = f'{state_pill(job.state)}<a class="tt-strong" href="/run?id={run.id}">{escape(run.name)}</a>'
            words = f'<p class="tt-muted">{escape(reason)} {_step_words(run)}</p>'
            cards.append(
                f'<div class="tt-row tt-row-between queue-line" data-key="paused-{job.id}"><div class="tt-stack">'
                f'<div class="tt-row">{title}</div>{words}</div><div class="tt-row">{buttons}</div></div>'
            )
        if len(cards) == 6:
            break
    return card("".join(cards), "Paused", key="paused") if cards else ""


def _drop_paused(job: JobRow) -> str:
    return action_button(
        "cancel",
        job.id,
        "Cancel",
        look="danger",
        ask=f"Cancel “{job.title}”?",
        confirm="It is marked as stopped. Its checkpoints stay, and you can resume it later.",
        yes="Cancel it",
    )


def _step_words(run: RunRow) -> str:
    return f"Goes on after step {run.step:,} of {run.total_steps:,}." if run.total_steps else "It had not begun yet."


def _recent(store: Store, now: float) -> str:
    ended = [run for run in store.runs(limit=60) if run.job.is_terminal]
    ended.sort(key=lambda run: run.job.finished_at or run.created_at, reverse=True)
    if not ended:
        return ""
    rows = []
    for run in ended[:_NUM_RECENT]:
        job = run.job
        outcome = ""
        if job.error_message:
            outcome = f'<div class="tt-small tt-clip">{escape(job.error_message)}</div>'
        buttons = ""
        if job.can_resume:
            buttons += action_button(
                "resume",
                job.id,
                "Resume",
                icon_name="play",
                title="Goes to the end of the queue and on from its last checkpoint",
            )
        buttons += link_button("Compare", f"/compare?run={run.id}", look="quiet") if run.policy_path else ""
        steps = f"{run.step:,} of {run.total_steps:,}" if run.total_steps else '<span class="tt-muted">none</span>'
        rows.append(
            row(
                [
                    state_pill(job.state),
                    f'<a class="tt-strong" href="/run?id={run.id}">{escape(run.name)}</a>{outcome}',
                    steps,
                    _when(job.finished_at or run.created_at, now),
                    f'<div class="tt-row tt-row-end">{buttons}</div>',
                ],
                key=f"ended-{job.id}",
                wrap=(1,),
                right=(2, 4),
            )
        )
    body = table(("State", "Run", "Steps", "Ended", ""), rows, "Runs that ended lately", right=(2, 4))
    return card(body, "Ended lately", link_button("All runs", "/runs", look="quiet"), flush=True, key="ended")


def _when(at: float, now: float) -> str:
    return f'<span class="tt-num">{escape(moment(at, now))}</span>'
