"""What a run gives away: the merged model, commands to serve it, the hub, and word of its end to this browser."""

from __future__ import annotations

import time
import uuid
from typing import Any

import gradio as gr

from app import components as ui
from app.actions import action_button, live_actions, said
from app.exports.hub import Push, Pushes
from app.exports.serve import adapter_command, ask_command, whole_command
from app.exports.weights import folder_files, merged_weights, trained_weights
from app.format import moment, size
from app.services import Services
from ttrl_engine.errors import StudioError
from worker.folders import merged_folder
from worker.rows import ExportRow, RunRow
from worker.states import JobState
from worker.webhook import silence_s

_STAGES = {
    "loading": "Loading the base model",
    "merging": "Adding the adapter to its weights",
    "writing": "Writing the merged model",
}


def sharing(services: Services, timer: Any, watch: Any) -> None:
    """The parts, inside the page of a run. `timer` is the page's own; `watch` is a place outside the tabs, for what
    the page's script looks at must be in the page whatever tab is open."""
    pushes = Pushes()
    run_id, seen = gr.State(None), gr.State("")
    message, asking = ui.live(), ui.live()
    weights = live_actions(elem_id="run-share")
    with gr.Accordion("Push to the Hugging Face hub", open=False, elem_classes="tt-more", elem_id="run-push"):
        repo = gr.Textbox(label="Repository", placeholder="owner/name", max_length=200)
        token = gr.Textbox(
            label="Token",
            type="password",
            max_length=400,
            info="With the right to write. Used once and not kept; empty takes HF_TOKEN of the environment.",
        )
        private = gr.Checkbox(label="Private", value=True)
        merged = gr.Checkbox(label="The merged model instead of the adapter", value=False)
        send = gr.Button("Push", size="md")
        pushed = ui.live()
    parts = [watch, asking, weights, pushed]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def drawn(ident: int | None, before: str, *, force: bool = False) -> list[Any]:
        run = services.store.run(ident) if isinstance(ident, int) else None
        if run is None:
            return [before, *[gr.skip()] * len(parts)]
        push, now = pushes.last(run.id), time.time()
        minute = int(now // 15) if run.job.is_active else 0
        token_now = f"{services.store.change_token(run.id)}|{push}|{minute}"
        if token_now == before and not force:
            return [before, *[gr.skip()] * len(parts)]
        texts = [watch_mark(services, run, now), asking_view(run), weights_view(services, run, now), push_view(push)]
        return [token_now, *texts]

    def opened(request: gr.Request) -> list[Any]:
        ident = ui.query_int(request, "id")
        return [ident, "", *drawn(ident, "", force=True)]

    def acted(ident: int | None, before: str, event: gr.EventData) -> list[Any]:
        text = _merge(services, ident) if said(event)[0] == "merge" else ""
        return [text, *drawn(ident, before, force=True)]

    def pushing(ident: int | None, before: str, name: str, secret: str, is_private: bool, whole: bool) -> list[Any]:
        text = _push(services, pushes, ident, name, secret, is_private, whole)
        # The token leaves the page as soon as it was used.
        return ["" if not text else gr.skip(), *drawn(ident, before, force=True)[:-1], text or push_now(pushes, ident)]

    ui.on_load(opened, None, [run_id, message, seen, *parts])
    ui.tick(timer, drawn, [run_id, seen], [seen, *parts])
    weights.select(acted, [run_id, seen], [message, seen, *parts], **quiet)
    send.click(pushing, [run_id, seen, repo, token, private, merged], [token, seen, *parts], **quiet)


def _merge(services: Services, ident: int | None) -> str:
    if not isinstance(ident, int):
        return ui.note("Nothing was done", "There is no such run.", "warn")
    try:
        services.desk.submit_export(ident, uuid.uuid4().hex)
    except StudioError as refusal:
        return ui.note("Nothing was done", str(refusal), "warn")
    return ""


def _push(
    services: Services, pushes: Pushes, ident: int | None, repo: str, token: str, private: bool, merged: bool
) -> str:
    run = services.store.run(ident) if isinstance(ident, int) else None
    if run is None:
        return ui.note("Nothing was sent", "There is no such run.", "warn")
    try:
        _, files = (merged_weights if merged else trained_weights)(services.store, run, time.time())
        if merged and not files:
            return ui.note("Nothing was sent", "Make the merged model first.", "warn")
        pushes.start(run.id, files, repo, token, bool(private), services.settings.hub_allowed)
    except StudioError as refusal:
        return ui.note("Nothing was sent", str(refusal), "warn")
    return ""


def push_now(pushes: Pushes, ident: int | None) -> str:
    """How the last upload stands."""
    return push_view(pushes.last(ident) if isinstance(ident, int) else None)


def push_view(push: Push | None) -> str:
    """One strip: under way, done with a link, or why not."""
    if push is None:
        return ""
    if push.error:
        return ui.note(f"Nothing new at {push.repo}", push.error, "bad")
    if push.url:
        link = f'<p><a href="{ui.escape(push.url)}" rel="noopener noreferrer">{ui.escape(push.url)}</a></p>'
        return ui.note(f"{push.num_files} files are at the hub", "", "good", body_html=link)
    return ui.note(f"Sending {push.num_files} files to {push.repo}", "This page may be closed.", "info")


def watch_mark(services: Services, run: RunRow, now: float) -> str:
    """What the page's script watches to tell of the end, an alarm or a stall. `data-watch-attempt` names the attempt
    for good, so that each event of it is told once; `data-stalled` is 0, or the second since which it is silent."""
    alarms = services.store.alarms(run.id)
    heard = run.last_event_at if run.state is JobState.RUNNING and run.last_event_at is not None else now
    stalled = int(heard) if now - heard > silence_s(services.store) else 0
    newest = alarms[-1].message if alarms else ""
    return (
        f'<span hidden data-watch-run="{run.id}" data-watch-attempt="{run.id}.{run.created_at:.0f}.{run.job.attempt}" '
        f'data-state="{run.state}" data-alarms="{len(alarms)}" '
        f'data-stalled="{stalled}" data-name="{ui.escape(run.name)}" data-alarm="{ui.escape(newest)}"></span>'
    )


def asking_view(run: RunRow) -> str:
    """The button that allows this browser to tell of the run; nothing once it has ended."""
    if run.job.is_terminal:
        return ""
    button = (
        '<button type="button" class="tt-btn tt-btn-small" data-notify-ask data-key="ask">Tell me in this browser'
        "</button>"
    )
    text = (
        "When this run ends, fails, raises an alarm or goes silent, as long as this page is open in some tab. "
        'For word without a page, add a webhook under <a href="/settings">Settings</a>.'
    )
    said_here = '<p class="tt-muted" data-notify-said role="status"></p>'
    return ui.card(f'<p class="tt-muted">{text}</p>{said_here}', "Notifications", button, key="notify")


def weights_view(services: Services, run: RunRow, now: float) -> str:
    """The merged model with its button, and the commands that serve what there is."""
    if not run.policy_path:
        text = (
            "Trained weights are written when the run ends in good order. Then they can be merged, served and pushed."
        )
        return ui.card(ui.empty("No weights yet", text, icon_name="clock"), "The adapted model")
    parts = []
    if run.config.model.method == "lora":
        parts.append(_merged_card(services, run, now))
    parts.append(_serve_card(services, run))
    return "".join(parts)


def _merged_card(services: Services, run: RunRow, now: float) -> str:
    export = services.store.newest_export(run.id)
    files = folder_files(merged_folder(services.store.data_dir, run.id))
    body = (
        '<p class="tt-muted">Base model and adapter as one model of safetensors, for servers that take no adapter.</p>'
    )
    under_way = export is not None and not (export.job.is_terminal or export.state is JobState.PAUSED)
    if export is not None and under_way:
        body += _merging(export)
    elif export is not None and export.state in (JobState.FAILED, JobState.LOST):
        body += ui.error_card("It could not be merged", export.job.error_message, export.job.error_hint)
    actions = ""
    if files:
        num_bytes = sum(path.stat().st_size for _, path in files)
        url = f"/download/runs/{run.id}/merged.zip"
        text = f"Download ({size(num_bytes)})"
        actions += ui.link_button(text, url, icon_name="download", look="small", download=True)
        if export is not None and export.job.finished_at is not None:
            body += f'<p class="tt-muted tt-small">Merged {ui.escape(moment(export.job.finished_at, now))}.</p>'
    words = "Merge again" if files else "Merge"
    title = "It waits its turn among the jobs" if under_way else "Runs as a job; the page may be closed"
    actions += action_button("merge", run.id, words, title=title, disabled=under_way)
    return ui.card(body, "Merged model", actions, key="merged")


def _merging(export: ExportRow) -> str:
    if export.state is JobState.QUEUED:
        return ui.note("It waits its turn", "It starts when the worker is free, before the runs that wait.", "info")
    share = export.done / export.total if export.total and export.done is not None else None
    words = _STAGES.get(export.phase or "", "Starting")
    return ui.progress(share, ui.escape(words), label="Progress of the merge")


def _serve_card(services: Services, run: RunRow) -> str:
    adapter = adapter_command(run)
    parts = ['<p class="tt-muted">Needs vLLM on a machine with a GPU. Download the archive there, then:</p>']
    if adapter is not None:
        parts.append(f"<h3>The base model with the adapter</h3>{ui.copyable(adapter, name='serve-adapter')}")
    title = "The merged model" if run.config.model.method == "lora" else "The trained weights"
    parts.append(f"<h3>{title}</h3>{ui.copyable(whole_command(run), name='serve-whole')}")
    ask = ask_command(run, services.run_folder(run.id) / "policy")
    parts.append(f"<h3>Ask it</h3>{ui.copyable(ask, name='serve-ask')}")
    return ui.card("".join(parts), "Serve it with vLLM", key="serve")
