"""The Overview page: what runs now, what waits, what came out last; on the first visit, the run to begin with."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from app import components as ui
from app.actions import live_actions, said
from app.pages import overview_view as view
from app.services import Services
from ttrl_engine.config import PRESETS
from ttrl_engine.errors import StudioError
from worker.rows import RunRow

SHOWN_RESULTS = 8
DEMO_PRESET = "quick-look"


def build(services: Services) -> None:
    """The page, inside its route."""
    token = gr.State("")
    goal = gr.Textbox(visible=False)
    message = ui.live(elem_id="overview-message")
    body = live_actions(ui.skeleton(240), elem_id="overview")
    timer = gr.Timer(2)

    def opened() -> tuple[str, str]:
        return _token(services), _page(services)

    def ticked(seen: str) -> tuple[Any, Any]:
        current = _token(services)
        return (gr.skip(), gr.skip()) if current == seen else (current, _page(services))

    def acted(event: gr.EventData) -> tuple[str, str]:
        action, _ = said(event)
        if action != "demo":
            return "", ""
        try:
            return "", f"/run?id={start_demo(services)}"
        except StudioError as refusal:
            return ui.note("The demo run could not be started", str(refusal), "bad", alert=True), ""

    ui.on_load(opened, None, [token, body])
    ui.tick(timer, ticked, [token], [token, body])
    started = body.select(acted, None, [message, goal], show_progress="hidden", api_visibility="private")
    started.then(
        None,
        [goal],
        None,
        js="(url) => { if (url) location.href = url; }",
        show_progress="hidden",
        api_visibility="private",
    )


def start_demo(services: Services) -> int:
    """Queue the run proposed to a new visitor; returns its id.

    The client id is made of the newest run's, so that a double click, or a click in a second tab, gives one run.
    """
    newest = services.store.runs(archived=True, limit=1)
    client_id = f"demo-after-{newest[0].id if newest else 0}"
    if newest and newest[0].client_id.startswith("demo-after-") and not newest[0].archived:
        return newest[0].id
    config = PRESETS[DEMO_PRESET].config().with_changes(name="Demo: sums without answers")
    return services.desk.submit_run(config, client_id)


def _token(services: Services) -> str:
    status = services.store.worker_status()
    beats = [int((job.heartbeat_at or 0) // 4) for job in services.store.active_jobs()]
    return f"{services.store.change_token(None)}|{status.alive}|{beats}"


def _page(services: Services) -> str:
    store, now = services.store, time.time()
    runs = store.runs(limit=60)
    if not runs:
        return view.first_visit(PRESETS[DEMO_PRESET].config(), store.worker_status())
    active = [run for run in runs if run.job.is_active]
    ended = [run for run in runs if run.job.is_terminal][:SHOWN_RESULTS]
    curves = {run.id: _curve(services, run) for run in (*active, *ended)}
    summaries = store.summaries([run.id for run in (*active, *ended)])
    paused = [run for run in runs if run.state == "paused"]
    return view.page(
        view.now_card(active, summaries, curves, now),
        view.waiting_card(store.queue(), paused, store.queue_held(), now),
        view.results_card(ended, summaries, curves, now),
        store.worker_status(),
    )


def _curve(services: Services, run: RunRow) -> list[float | None]:
    return [point[1] for point in services.store.metric_series(run.id, ["consensus"], max_points=60)["consensus"]]
