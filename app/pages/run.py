"""The Run page: one run, live. A pure function of its address and the database."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from typing import Any

import gradio as gr

from app import charts
from app import components as ui
from app.actions import live_actions, said
from app.mathtext import LATEX_DELIMITERS
from app.pages import inspector, run_charts, run_flips, run_gain, run_problems, run_triage
from app.pages.inspector import Inspect
from app.pages.inspector_view import inspector_html
from app.pages.run_control import start_control
from app.pages.run_flips import FlipView
from app.pages.run_header import header
from app.pages.run_naming import naming
from app.pages.run_problems import View
from app.pages.run_records import config_view, files_view, history_view
from app.pages.run_share import sharing
from app.pages.run_spot_check import spot_checking
from app.pages.run_strips import strips
from app.pages.run_tiles import evaluation_table, tiles
from app.services import Services
from app.spot_checks import spot_check
from ttrl_engine.errors import StudioError
from worker.rows import RunRow
from worker.states import JobState

LIVE_S, REST_S = 2.0, 10.0
LOG_LINES = 400
_OPEN = "(address) => { if (address) window.location.assign(address); }"

# The parts of the page that are refreshed, in the order of the outputs.
PARTS = (
    "head",
    "strips",
    "tiles",
    "charts",
    "details",
    "scores",
    "gain",
    "problems",
    "picked_head",
    "picked_text",
    "picked_votes",
    "picked_answers",
    "map",
    "flips",
    "log",
    "config",
    "history",
    "files",
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What this visitor's browser shows: which run, in which view, and a mark of each part."""

    run_id: int | None = None
    token: str = ""
    view: View = dataclasses.field(default_factory=View)
    flips: FlipView = dataclasses.field(default_factory=FlipView)
    marks: dict[str, str] = dataclasses.field(default_factory=dict)


def build(services: Services) -> None:
    """The page, inside its route."""
    seen, trying = gr.State(Seen()), gr.State(Inspect())
    message, watch, timer = ui.live(elem_id="run-message"), ui.live(elem_id="run-watch"), gr.Timer(LIVE_S)
    parts: dict[str, Any] = {
        "head": live_actions(ui.skeleton(150), elem_id="run-head"),
        "strips": live_actions(),
        "tiles": ui.live(),
    }
    with gr.Tabs(elem_id="run-tabs") as tabs:
        with gr.Tab("Charts", id="charts"):
            parts["charts"] = charts.board(elem_id="run-charts")
            parts["scores"] = ui.live()
            with gr.Accordion("More charts: the update, the labels, the time", open=False, elem_classes="tt-more"):
                parts["details"] = charts.board(elem_id="run-details")
        with gr.Tab("Gain", id="gain"):
            parts["gain"] = live_actions(elem_id="run-gain")
        with gr.Tab("Problems", id="problems"):
            parts["picked_head"] = ui.live()
            parts["picked_text"] = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_classes="math-text")
            parts["picked_votes"] = charts.board(elem_id="run-votes")
            parts["picked_answers"] = ui.live(elem_id="run-answers")
            parts["map"] = run_triage.triage_map(elem_id="run-map")
            parts["problems"] = ui.live(elem_id="run-problems")
        with gr.Tab("Label changes", id="flips"):
            parts["flips"] = ui.live(elem_id="run-flips")
        with gr.Tab("Spot check", id="spot"):
            spot_checking(services, timer)
        with gr.Tab("Log", id="log"):
            parts["log"] = ui.live(elem_id="run-log")
        with gr.Tab("Config", id="config"):
            parts["config"] = ui.live(elem_id="run-config")
        with gr.Tab("History", id="history"):
            parts["history"] = ui.live()
            naming(services)
        with gr.Tab("Files", id="files"):
            parts["files"] = ui.live()
        with gr.Tab("Share", id="share"):
            sharing(services, timer, watch)
    _connect(services, seen, trying, message, tabs, timer, parts)


def _connect(
    services: Services, seen: Any, trying: Any, message: Any, tabs: Any, timer: Any, parts: dict[str, Any]
) -> None:
    outputs = [seen, timer, *(parts[name] for name in PARTS)]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    goto = gr.Textbox(visible="hidden", elem_id="run-goto", container=False)

    def opened(request: gr.Request) -> list[Any]:
        view = View(problem=request.query_params.get("problem") or None, step=ui.query_int(request, "step"))
        start = Seen(ui.query_int(request, "id"), view=view)
        tab = "problems" if view.problem else "spot" if request.query_params.get("tab") == "spot" else None
        chosen = gr.Tabs(selected=tab) if tab else gr.skip()
        return [chosen, "", *refreshed(services, start, force=True)]

    def ticked(before: Seen, tried: Inspect) -> list[Any]:
        return refreshed(services, before, tried)

    def acted(before: Seen, tried: Inspect, event: gr.EventData) -> list[Any]:
        return [_act(services, before, *said(event)), *refreshed(services, before, tried, force=True)]

    def picked(before: Seen, tried: Inspect, event: gr.EventData) -> list[Any]:
        after = dataclasses.replace(before, view=_pick(before.view, *said(event)))
        return refreshed(services, after, tried, force=True)

    def inspected(before: Seen, tried: Inspect, event: gr.EventData) -> list[Any]:
        after, draft = _inspect(services, before, tried, *inspector.said(event))
        return [draft, *refreshed(services, after, draft, force=True)]

    def mapped(before: Seen, tried: Inspect, event: gr.EventData) -> list[Any]:
        what, value = run_triage.said(event)
        if what in run_triage.ACTIONS:
            address, refused = _derive(services, before, what, value)
            return [address, refused, *[gr.skip()] * len(outputs)]
        after = dataclasses.replace(before, view=_pick(before.view, what, value))
        return ["", "", *refreshed(services, after, tried, force=True)]

    def turned(before: Seen, tried: Inspect, event: gr.EventData) -> list[Any]:
        what, value = said(event)
        if what == "change":
            step, _, problem = value.partition(":")
            view = _pick(dataclasses.replace(before.view, problem=problem or None), "step", step)
            after, tab = dataclasses.replace(before, view=view), gr.Tabs(selected="problems")
        else:
            after, tab = dataclasses.replace(before, flips=run_flips.flip_view(before.flips, what, value)), gr.skip()
        return [tab, *refreshed(services, after, tried, force=True)]

    ui.on_load(opened, None, [tabs, message, *outputs])
    ui.tick(timer, ticked, [seen, trying], outputs)
    for name in ("head", "strips", "gain"):
        parts[name].select(acted, [seen, trying], [message, *outputs], **quiet)
    for name in ("problems", "picked_head", "picked_votes"):
        parts[name].select(picked, [seen, trying], outputs, trigger_mode="multiple", **quiet)
    parts["map"].select(mapped, [seen, trying], [goto, message, *outputs], **quiet).success(
        None, [goto], None, js=_OPEN, show_progress="hidden"
    )
    parts["flips"].select(turned, [seen, trying], [tabs, *outputs], trigger_mode="multiple", **quiet)
    # One after the other: each click works on what the one before it left.
    parts["picked_answers"].select(
        inspected, [seen, trying], [trying, *outputs], trigger_mode="multiple", concurrency_limit=1, **quiet
    )


def _act(services: Services, seen: Seen, action: str, ident: str) -> str:
    """Does what a button says, to the run of this page only; returns a message where it could not."""
    run = services.store.run(seen.run_id) if seen.run_id else None
    if run is not None and action == "control" and ident == str(run.id):
        return _control(services, run)
    commands = {"pause": services.desk.pause, "cancel": services.desk.cancel, "resume": services.desk.resume}
    if run is None or action not in commands or ident != str(run.job_id):
        return ui.note("Nothing was done", "This page is out of date. Reload it and try again.", "warn")
    try:
        commands[action](run.job_id)
    except StudioError as refusal:
        return ui.note("Nothing was done", str(refusal), "warn")
    return ""


def _control(services: Services, run: RunRow) -> str:
    try:
        start_control(services, run)
    except StudioError as refusal:
        return ui.note("The control was not started", str(refusal), "warn")
    text = "It is linked under Gain, where its gain is set against this one's."
    return ui.note("The control is in the queue", text, "good")


def _derive(services: Services, seen: Seen, action: str, places: str) -> tuple[str, str]:
    """The address of New run with the chosen problems, or a message where they cannot be made into a run."""
    run = services.store.run(seen.run_id) if seen.run_id else None
    try:
        if run is not None:
            return run_triage.derived_run(services, run, action, places), ""
    except StudioError as refusal:
        return "", ui.note("No new run was prepared", str(refusal), "warn")
    return "", ui.note("No new run was prepared", "This page is out of date. Reload it and try again.", "warn")


def _pick(view: View, what: str, value: str) -> View:
    """The view after a click in the table, the pager, the sorter or the chart of votes."""
    if what == "problem":
        return dataclasses.replace(view, problem=value or None, step=None)
    if what == "sort" and value in run_problems.SORTS:
        return dataclasses.replace(view, sort=value, page=0)
    if value.isascii() and value.isdigit() and len(value) < 10:
        if what == "page":
            return dataclasses.replace(view, page=int(value))
        if what == "step":
            return dataclasses.replace(view, step=int(value))
    return view


def _inspect(services: Services, before: Seen, tried: Inspect, what: str, value: str) -> tuple[Seen, Inspect]:
    """What a click in the inspector does: to the step that is shown, or to the rule that is tried."""
    run, view = services.store.run(before.run_id) if before.run_id else None, before.view
    if run is None or view.problem is None:
        return before, tried
    history = services.store.election_history(run.id, view.problem)
    if what == "turn" and value.isascii() and value.isdigit() and len(value) < 8 and int(value) < len(history):
        return dataclasses.replace(before, view=dataclasses.replace(view, step=history[int(value)].step)), tried
    if what == "step":
        return dataclasses.replace(before, view=_pick(view, what, value)), tried
    step = view.step if view.step is not None else (history[-1].step if history else None)
    if step is None:
        return before, tried
    here = tried.at(view.problem)
    vote = inspector.look(services, run, view.problem, step, history, here, effects=False)
    return before, inspector.act(services, vote, here, what, value)


# --- refreshing ---------------------------------------------------------------------------------------------------


def refreshed(services: Services, before: Seen, tried: Inspect | None = None, *, force: bool = False) -> list[Any]:
    """The state, the timer and every part; parts that would look the same are skipped."""
    run = services.store.run(before.run_id) if before.run_id else None
    if run is None:
        return _nothing(before)
    token = _token(services, run)
    if token == before.token and not force:
        return [gr.skip()] * (2 + len(PARTS))
    now = time.time()
    # Only the sign of life moved: nothing else is read.
    if not force and token.rpartition("|")[0] == before.token.rpartition("|")[0]:
        texts = {"head": _head(services, run, now)}
    else:
        texts = {**_all_parts(services, run, before, tried or Inspect(), now), "head": _head(services, run, now)}
    marks = {
        **before.marks,
        **{name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for name, text in texts.items()},
    }
    values = [
        gr.skip() if name not in texts or marks[name] == before.marks.get(name) else texts[name] for name in PARTS
    ]
    was_live, is_live = _is_live(before.token), _is_live(token)
    timer = gr.skip() if was_live == is_live and before.token else gr.Timer(LIVE_S if is_live else REST_S)
    return [dataclasses.replace(before, token=token, marks=marks), timer, *values]


def _token(services: Services, run: RunRow) -> str:
    """Changes whenever the page would look different. The last part is the sign of life of the job, in steps of 4 s."""
    log = services.run_folder(run.id) / "log.txt"
    size = log.stat().st_size if run.job.is_active and log.is_file() else 0
    live = "live" if not (run.job.is_terminal or run.state is JobState.PAUSED) else "rest"
    place = _place(services, run) if run.state is JobState.QUEUED else ""
    alive = services.store.worker_status().alive
    control = run_gain.control_token(services, run)
    changes = f"{services.store.change_token(run.id)}|{control}"
    return f"{live}|{changes}|{size}|{place}|{alive}|{(run.job.heartbeat_at or 0) // 4:.0f}"


def _is_live(token: str) -> bool:
    return token.startswith("live|")


def _place(services: Services, run: RunRow) -> int | None:
    waiting = [job.id for job in services.store.queue()]
    return waiting.index(run.job_id) + 1 if run.job_id in waiting else None


def _nothing(before: Seen) -> list[Any]:
    text = (
        "There is no run under this address. It may belong to another data folder."
        if before.run_id
        else "The address of a run ends with its number: /run?id=1."
    )
    page = ui.page_head("Run not found") + ui.card(
        ui.empty("No such run", text, ui.link_button("All runs", "/runs", look="primary"), "question")
    )
    hidden = dict.fromkeys(PARTS, "") | {"head": page}
    return [before, gr.Timer(active=False), *(hidden[name] for name in PARTS)]


def _head(services: Services, run: RunRow, now: float) -> str:
    store = services.store
    place = _place(services, run) if run.state is JobState.QUEUED else None
    flips = run_flips.flip_counts(store, run.id)
    return header(run, store.latest_metrics(run.id), store.evaluations(run.id), place, now, flips)


def _all_parts(services: Services, run: RunRow, seen: Seen, tried: Inspect, now: float) -> dict[str, str]:
    store, view = services.store, seen.view
    overview = store.problem_overview(run.id)
    series = store.metric_series(run.id, run_charts.METRICS)
    latest, evaluations = store.latest_metrics(run.id), store.evaluations(run.id)
    alarms, notes, checkpoints = store.alarms(run.id), store.notes(run.id), store.checkpoints(run.id)
    marks = run_charts.event_marks(alarms, notes, checkpoints)
    first = series["consensus"][0][1] if series["consensus"] else None
    folder = services.run_folder(run.id) / "checkpoints"
    on_disk = {int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdigit()}
    log = store.log_tail(run.id, LOG_LINES)
    return {
        "strips": strips(run, alarms, store.worker_status().alive),
        "tiles": tiles(run, first, latest, evaluations, spot_check(services, run)),
        "charts": charts.dump(run_charts.learning_charts(run, series, evaluations, marks)),
        "details": charts.dump(run_charts.detail_charts(run, series, marks)),
        "scores": evaluation_table(evaluations),
        "gain": run_gain.gain_view(services, run, evaluations),
        "map": run_triage.dump(run, overview),
        "problems": run_problems.problems_table(run, overview, view),
        "flips": run_flips.ledger(store, run, seen.flips),
        **_picked_parts(services, run, view, tried),
        "log": _log_view(run, log),
        "config": config_view(run),
        "history": history_view(store.history(run.job_id), notes, now),
        "files": files_view(run, checkpoints, on_disk, now),
    }


def _picked_parts(services: Services, run: RunRow, view: View, tried: Inspect) -> dict[str, str]:
    """The chosen problem; empty where none is chosen."""
    if view.problem is None:
        return dict.fromkeys(("picked_head", "picked_text", "picked_votes", "picked_answers"), "")
    store = services.store
    history = store.election_history(run.id, view.problem)
    found = [each for each in store.problems_page(run.set_id, 0, 20, view.problem) if each.problem_id == view.problem]
    problem = found[0] if found else None
    if not history and problem is None:
        nothing = ui.card(ui.empty("No such problem", "This run has no problem of that name.", icon_name="question"))
        return {"picked_head": nothing, "picked_text": "", "picked_votes": "", "picked_answers": ""}
    step = view.step if view.step is not None else (history[-1].step if history else None)
    here = tried.at(view.problem)
    vote = inspector.look(services, run, view.problem, step or 0, history, here)
    return {
        "picked_head": run_problems.problem_head(run, problem, view.problem, history),
        "picked_text": run_problems.problem_markdown(problem),
        "picked_votes": charts.dump([run_problems.vote_chart(run, view.problem, history, step)], tools=False),
        "picked_answers": inspector_html(vote, here),
    }


def _log_view(run: RunRow, log: str) -> str:
    if not log:
        return ui.card(ui.empty("No log yet", "The log begins when the worker takes the run.", icon_name="file"))
    download = ui.link_button(
        "Whole log", f"/download/runs/{run.id}/log.txt", icon_name="download", look="quiet", download=True
    )
    return ui.card(ui.copyable(log, log=True, name="log"), f"Log, last {LOG_LINES} lines", download)
