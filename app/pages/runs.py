"""The Runs page: all of them, and up to six laid over each other. Its address says which are chosen."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import gradio as gr

from app import charts
from app import components as ui
from app.actions import live_actions, said
from app.pages import runs_view as view
from app.pages.run_control import control_of, is_control, start_control
from app.pages.run_gain import control_button
from app.pages.runs_pair import matches
from app.pages.runs_pair_view import pair_card
from app.pages.runs_view import Choice
from app.services import Services
from ttrl_engine.errors import StudioError
from worker.rows import RunRow

MAX_CHOSEN = 6
SHOWN_RUNS = 300


def build(services: Services) -> None:
    """The page, inside its route."""
    choice, token = gr.State(Choice()), gr.State("")
    head = ui.live(elem_id="runs-head")
    message = ui.live(elem_id="runs-message")
    table = live_actions(ui.skeleton(240), elem_id="runs-table")
    overlay_head = live_actions(elem_id="runs-overlay-head")
    overlay = charts.board(elem_id="runs-overlay")
    overlay_tables = live_actions(elem_id="runs-overlay-tables")
    timer = gr.Timer(4)
    outputs = [choice, token, message, head, table, overlay_head, overlay, overlay_tables]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}

    def opened(request: gr.Request) -> list[Any]:
        return _drawn(services, choice_of(dict(request.query_params)))

    def ticked(before: Choice, seen: str) -> list[Any]:
        if _token(services, before) == seen:
            return [gr.skip()] * len(outputs)
        _, *drawn = _drawn(services, before)
        drawn[1] = gr.skip()
        # Only clicks choose: a refresh that began before a click must not put back what was chosen then.
        return [gr.skip(), *drawn]

    def acted(before: Choice, event: gr.EventData) -> list[Any]:
        after, message_html = _act(services, before, *said(event))
        return _drawn(services, after, message_html)

    ui.on_load(opened, None, outputs)
    ui.tick(timer, ticked, [choice, token], outputs)
    table.select(acted, [choice], outputs, **quiet)
    overlay_head.select(acted, [choice], outputs, **quiet)
    overlay_tables.select(acted, [choice], outputs, **quiet)


def ids_of(text: str) -> tuple[int, ...]:
    """Run ids from "1,2,3"; whatever is no number is left out."""
    parts = text.split(",")
    return tuple(dict.fromkeys(int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 16))


def choice_of(query: dict[str, Any]) -> Choice:
    """What an address asks for; whatever it says that we do not know is left out."""
    ids = ids_of(str(query.get("ids", "") or ""))
    metric = str(query.get("metric", "") or "")
    first, second = (next(iter(ids_of(str(query.get(name, "") or ""))), None) for name in ("first", "second"))
    shown = metric if metric in view.OVERLAYS else "consensus"
    return Choice(ids[:MAX_CHOSEN], shown, query.get("archived") == "1", first, second)


def _chosen(choice: Choice, value: str) -> tuple[Choice, str]:
    """The choice after a box was ticked; what was chosen before keeps its place, and with it its colour."""
    wanted = ids_of(value)
    ids = (*(each for each in choice.ids if each in wanted), *(each for each in wanted if each not in choice.ids))
    if len(ids) > MAX_CHOSEN:
        message = ui.note("Six at most", "More lines than six cannot be told apart. Take one out first.", "warn")
        return dataclasses.replace(choice, ids=ids[:MAX_CHOSEN]), message
    return dataclasses.replace(choice, ids=ids), ""


def _act(services: Services, choice: Choice, what: str, value: str) -> tuple[Choice, str]:
    """The choice after a click, and a message where something could not be done."""
    if what == "metric" and value in view.OVERLAYS:
        return dataclasses.replace(choice, metric=value), ""
    if what == "clear":
        return dataclasses.replace(choice, ids=()), ""
    if what == "choose":
        return _chosen(choice, value)
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        return choice, ""
    run_id = int(value)
    if what == "first":
        return dataclasses.replace(choice, first=run_id), ""
    if what == "second":
        return dataclasses.replace(choice, second=run_id), ""
    if what == "control":
        return choice, _control(services, run_id)
    if what in ("archive", "restore"):
        try:
            services.store.archive_run(run_id, what == "archive")
        except StudioError as refusal:
            return choice, ui.note("Nothing was done", str(refusal), "warn")
        kept = choice.ids if what == "restore" else tuple(each for each in choice.ids if each != run_id)
        return dataclasses.replace(choice, ids=kept), ""
    return choice, ""


def _control(services: Services, run_id: int) -> str:
    run = services.store.run(run_id)
    if run is None or is_control(run):
        return ui.note("Nothing was done", "This page is out of date. Reload it and try again.", "warn")
    try:
        control = start_control(services, run)
    except StudioError as refusal:
        return ui.note("The control was not started", str(refusal), "warn")
    link = f'<p><a href="/run?id={control}">Run {control}</a> has the same settings and rewards drawn by lot.</p>'
    return ui.note("The control is in the queue", "", "good", body_html=link)


def _token(services: Services, choice: Choice) -> str:
    return f"{services.store.change_token(None)}|{choice.url()}"


def _drawn(services: Services, choice: Choice, message_html: str = "") -> list[Any]:
    store = services.store
    token = _token(services, choice)
    runs = store.runs(archived=choice.archived, limit=SHOWN_RUNS)
    chosen = [run for run in (store.run(run_id) for run_id in choice.ids) if run is not None]
    choice = dataclasses.replace(choice, ids=tuple(run.id for run in chosen))
    summaries = store.summaries([run.id for run in runs])
    page = view.table(runs, summaries, choice, time.time())
    return [
        choice,
        token,
        message_html,
        view.head(len(runs)),
        page,
        view.overlay_head(chosen, choice),
        *_overlay(services, chosen, choice),
    ]


def _overlay(services: Services, chosen: list[RunRow], choice: Choice) -> tuple[str, str]:
    if not chosen:
        return charts.dump([], tools=False), ""
    store = services.store
    evaluations = {run.id: store.evaluations(run.id) for run in chosen}
    name = view.OVERLAYS[choice.metric].metric
    series = {run.id: store.metric_series(run.id, [name])[name] for run in chosen} if name else {}
    chart = view.overlay_chart(chosen, choice.metric, series, evaluations)
    controls = {run.id: _control_line(services, run) for run in chosen}
    standing = {run.id: store.standing_evaluations(run.id) for run in chosen}
    tables = view.gains_card(chosen, standing, controls)
    if len(chosen) > 1:
        first, second = pair_of(chosen, choice)
        found = matches(store, first, second, (standing[first.id], standing[second.id]))
        tables += pair_card(chosen, (first, second), found, choice)
    return charts.dump([chart]), tables + view.differences_card(chosen)


def pair_of(chosen: list[RunRow], choice: Choice) -> tuple[RunRow, RunRow]:
    """The two that are tested against each other; a run that is not chosen (any more) gives way to the first free."""
    known = {run.id: run for run in chosen}
    first = known.get(choice.first or 0) or next(run for run in chosen if run.id != choice.second)
    second = known.get(choice.second or 0)
    if second is None or second.id == first.id:
        second = next(run for run in chosen if run.id != first.id)
    return first, second


def _control_line(services: Services, run: RunRow) -> str:
    if is_control(run):
        parent = f' of <a href="/run?id={run.parent_run_id}">run {run.parent_run_id}</a>' if run.parent_run_id else ""
        return f"Random-reward control{parent}"
    control = control_of(services.store, run)
    if control is None:
        return control_button(run)
    return f'Control: <a href="/run?id={control.id}">run {control.id}</a> {ui.state_pill(control.state)}'
