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
from app.pages import inspector, run_charts, run_flips, run_gain, run_gain_charts, run_problems, run_triage
from app.pages.inspector import Inspect
from app.pages.inspector_view import inspector_html
from app.pages.run_control import start_control
from app.pages.run_flips import FlipView
from app.pages.run_header import header
from app.pages.run_naming import naming
from app.pages.run_problems import View
from app.pages.run_records import config_view, files_view, history_view
from app.pages.run_roll_back import chosen_step, healthy_steps, measured
from app.pages.run_share import sharing
from app.pages.run_spot_check import spot_checking
from app.pages.run_strips import strips
from app.pages.run_tiles import evaluation_table, tiles
from app.services import Services
from app.shared import Shared
from app.spot_checks import spot_check
from ttrl_engine.errors import StudioError
from worker.rows import ProblemOverviewRow, RunRow
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
    "gain_charts",
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


@dataclasses.dataclass
class Choice:
    """What this visitor chose to see and tries out. Clicks change it in place, so that no refresh that began before a
    click can put back what was chosen then."""

    view: View = dataclasses.field(default_factory=View)
    flips: FlipView = dataclasses.field(default_factory=FlipView)
    tried: Inspect = dataclasses.field(default_factory=Inspect)

    def over(self, seen: Seen) -> Seen:
        """What is on the page, to be drawn again as chosen now."""
        return dataclasses.replace(seen, view=self.view, flips=self.flips)


def build(services: Services) -> None:
    """The page, inside its route."""
    seen, choice = gr.State(Seen()), gr.State(Choice())
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
            parts["gain_charts"] = charts.board(elem_id="run-gain-charts")
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
    _connect(services, seen, choice, message, tabs, timer, parts)


def _connect(
    services: Services, seen: Any, choice: Any, message: Any, tabs: Any, timer: Any, parts: dict[str, Any]
) -> None:
    outputs = [seen, timer, *(parts[name] for name in PARTS)]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    goto = gr.Textbox(visible="hidden", elem_id="run-goto", container=False)

    def opened(chosen: Choice, request: gr.Request) -> list[Any]:
        chosen.view = View(problem=request.query_params.get("problem") or None, step=ui.query_int(request, "step"))
        start = chosen.over(Seen(ui.query_int(request, "id")))
        tab = "problems" if chosen.view.problem else "spot" if request.query_params.get("tab") == "spot" else None
        shown = gr.Tabs(selected=tab) if tab else gr.skip()
        return [shown, "", *refreshed(services, start, force=True)]

    def drawn(before: Seen, chosen: Choice) -> list[Any]:
        return refreshed(services, chosen.over(before), chosen.tried, force=True)

    def ticked(before: Seen, chosen: Choice) -> list[Any]:
        start = dataclasses.replace(chosen)
        values = refreshed(services, start.over(before), start.tried)
        # A click that came meanwhile has drawn the page, or is about to.
        return values if start == chosen else [gr.skip()] * len(outputs)

    def acted(before: Seen, chosen: Choice, event: gr.EventData) -> list[Any]:
        return [_act(services, before, *said(event)), *drawn(before, chosen)]

    def picked(before: Seen, chosen: Choice, event: gr.EventData) -> list[Any]:
        chosen.view = _pick(chosen.view, *said(event))
        return drawn(before, chosen)

    def inspected(before: Seen, chosen: Choice, event: gr.EventData) -> list[Any]:
        _inspect(services, before, chosen, *inspector.said(event))
        return drawn(before, chosen)

    def mapped(before: Seen, chosen: Choice, event: gr.EventData) -> list[Any]:
        what, value = run_triage.said(event)
        if what in run_triage.ACTIONS:
            address, refused = _derive(services, before, what, value)
            return [address, refused, *[gr.skip()] * len(outputs)]
        chosen.view = _pick(chosen.view, what, value)
        return ["", "", *drawn(before, chosen)]

    def turned(before: Seen, chosen: Choice, event: gr.EventData) -> list[Any]:
        what, value = said(event)
        tab = gr.skip()
        if what == "change":
            step, _, problem = value.partition(":")
            chosen.view = _pick(dataclasses.replace(chosen.view, problem=problem or None), "step", step)
            tab = gr.Tabs(selected="problems")
        else:
            chosen.flips = run_flips.flip_view(chosen.flips, what, value)
        return [tab, *drawn(before, chosen)]

    ui.on_load(opened, [choice], [tabs, message, *outputs])
    ui.tick(timer, ticked, [seen, choice], outputs)
    for name in ("head", "strips", "gain"):
        parts[name].select(acted, [seen, choice], [message, *outputs], **quiet)
    for name in ("problems", "picked_head", "picked_votes"):
        parts[name].select(picked, [seen, choice], outputs, trigger_mode="multiple", **quiet)
    parts["map"].select(mapped, [seen, choice], [goto, message, *outputs], **quiet).success(
        None, [goto], None, js=_OPEN, show_progress="hidden"
    )
    parts["flips"].select(turned, [seen, choice], [tabs, *outputs], trigger_mode="multiple", **quiet)
    # One after the other: each click works on what the one before it left.
    parts["picked_answers"].select(
        inspected, [seen, choice], outputs, trigger_mode="multiple", concurrency_limit=1, **quiet
    )


def _act(services: Services, seen: Seen, action: str, ident: str) -> str:
    """Does what a button says, to the run of this page only; returns a message where it could not."""
    run = services.store.run(seen.run_id) if seen.run_id else None
    if run is not None and action == "control" and ident == str(run.id):
        return _control(services, run)
    desk = services.desk
    commands = {"pause": desk.pause, "cancel": desk.cancel, "resume": desk.resume}
    try:
        if run is not None and action == "roll_back":
            healthy = healthy_steps(services.store.alarms(run.id), _on_disk(services, run))
            desk.roll_back(run.job_id, chosen_step(ident, run.job_id, healthy))
            return ""
        if run is None or action not in commands or ident != str(run.job_id):
            return ui.note("Nothing was done", "This page is out of date. Reload it and try again.", "warn")
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


def _inspect(services: Services, before: Seen, chosen: Choice, what: str, value: str) -> None:
    """What a click in the inspector does: to the step that is shown, or to the rule that is tried."""
    run, view = services.store.run(before.run_id) if before.run_id else None, chosen.view
    if run is None or view.problem is None:
        return
    history = services.store.election_history(run.id, view.problem)
    if what == "turn":
        if value.isascii() and value.isdigit() and len(value) < 8 and int(value) < len(history):
            chosen.view = dataclasses.replace(view, step=history[int(value)].step)
        return
    if what == "step":
        chosen.view = _pick(view, what, value)
        return
    step = view.step if view.step is not None else (history[-1].step if history else None)
    if step is not None:
        here = chosen.tried.at(view.problem)
        vote = inspector.look(services, run, view.problem, step, history, here, effects=False)
        chosen.tried = inspector.act(services, vote, here, what, value)


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
    texts = _moving_parts(services, run, now)
    if force or _recorded(token) != _recorded(before.token):
        texts |= _shared_parts(services, run, _recorded(token)) | _own_parts(services, run, before, tried, now)
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
    """Changes whenever the page would look different. What follows the "#" moves all the time while the run works: how
    far its phase is, its log, and its sign of life in steps of 4 s."""
    log = services.run_folder(run.id) / "log.txt"
    size = log.stat().st_size if run.job.is_active and log.is_file() else 0
    live = "live" if not (run.job.is_terminal or run.state is JobState.PAUSED) else "rest"
    place = _place(services, run) if run.state is JobState.QUEUED else ""
    alive = services.store.worker_status().alive
    control = run_gain.control_token(services, run)
    changes = f"{services.store.change_token(run.id)}|{control}"
    beat = f"{(run.job.heartbeat_at or 0) // 4:.0f}"
    return f"{live}|{changes}|{place}|{alive}#{services.store.progress_token(run.id)}|{size}|{beat}"


def _recorded(token: str) -> str:
    """The part of a token that changes only when something about the run was stored for good."""
    return token.partition("#")[0]


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
    return header(run, store.latest_metrics(run.id), store.standing_evaluations(run.id), place, now, flips)


def _moving_parts(services: Services, run: RunRow, now: float) -> dict[str, str]:
    """What is drawn at every sign of life."""
    store = services.store
    alarms, on_disk = store.alarms(run.id), _on_disk(services, run)
    recorded = measured(store, run, healthy_steps(alarms, on_disk)) if run.job.can_resume else {}
    return {
        "head": _head(services, run, now),
        "strips": strips(run, alarms, store.worker_status().alive, on_disk, recorded),
        "log": _log_view(run, store.log_tail(run.id, LOG_LINES)),
    }


_shared: Shared[dict[str, str]] = Shared(size=16)
_overviews: Shared[list[ProblemOverviewRow]] = Shared(size=16)
_ledgers: Shared[str] = Shared(size=64)


def _overview(services: Services, run: RunRow) -> list[ProblemOverviewRow]:
    store = services.store
    return _overviews.get((store.path, run.id), store.elections_mark(run.id), lambda: store.problem_overview(run.id))


def _shared_parts(services: Services, run: RunRow, recorded: str) -> dict[str, str]:
    """What every visitor of the run sees alike."""
    return _shared.get((services.store.path, run.id), recorded, lambda: _made_parts(services, run))


def _made_parts(services: Services, run: RunRow) -> dict[str, str]:
    store = services.store
    series = store.metric_series(run.id, run_charts.METRICS)
    latest, evaluations = store.latest_metrics(run.id), store.evaluations(run.id)
    standing = store.standing_evaluations(run.id)
    marks = run_charts.event_marks(store.alarms(run.id), store.notes(run.id), store.checkpoints(run.id))
    first = series["consensus"][0][1] if series["consensus"] else None
    return {
        "tiles": tiles(run, first, latest, standing, spot_check(services.store, run)),
        "charts": charts.dump(run_charts.learning_charts(run, series, evaluations, marks)),
        "details": charts.dump(run_charts.detail_charts(run, series, marks)),
        "scores": evaluation_table(standing),
        "gain_charts": charts.dump(run_gain_charts.gain_charts(services, run)),
        "gain": run_gain.gain_view(services, run, standing),
        "map": run_triage.dump(run, _overview(services, run)),
        "config": config_view(run),
    }


def _own_parts(services: Services, run: RunRow, seen: Seen, tried: Inspect | None, now: float) -> dict[str, str]:
    """What depends on this visitor's choice, or says how long ago something was."""
    store = services.store
    mark, place = store.elections_mark(run.id), (store.path, run.id, seen.flips)
    return {
        "problems": run_problems.problems_table(run, _overview(services, run), seen.view),
        "flips": _ledgers.get(place, mark, lambda: run_flips.ledger(store, run, seen.flips)),
        **_picked_parts(services, run, seen.view, tried or Inspect()),
        "history": history_view(store.history(run.job_id), store.notes(run.id), now),
        "files": files_view(run, store.checkpoints(run.id), _on_disk(services, run), now),
    }


def _on_disk(services: Services, run: RunRow) -> set[int]:
    """Steps of the checkpoints that are still there."""
    folder = services.run_folder(run.id) / "checkpoints"
    return {int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdigit()}


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
