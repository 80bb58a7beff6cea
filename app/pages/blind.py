"""Blind comparison: `?run=ID` starts one or lists them, `?session=ID` goes on with one."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import components as ui
from app.actions import live_actions, said
from app.blind import Session, session_of
from app.choices import Choices
from app.mathtext import LATEX_DELIMITERS
from app.pages import blind_view as view
from app.pages.compare_set import ask_set, set_choices, weights_choices
from app.services import Services
from ttrl_engine.errors import DataError, StudioError
from worker.rows import RunRow

_CALM_S, _LIVELY_S = 2.0, 0.7
# A key is a click on its button, which the server takes for the pair that it was drawn with.
_KEYS = """
document.addEventListener('keydown', (event) => {
  const place = event.target instanceof Element ? event.target : document.body;
  if (place.closest('input, textarea, select, dialog') || event.repeat) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const found = key === 'u' ? document.querySelector('#blind-stage [data-pick^="undo:"]')
    : /^[1-4]$/.test(key) ? document.querySelector(`#blind-buttons [data-hotkey="${key}"]`) : null;
  if (found && !found.disabled) { event.preventDefault(); found.click(); }
});
"""
_TO_SESSION = """(id) => {
  if (id) history.replaceState(null, '', '/blind?session=' + id);
}"""


@dataclass(frozen=True)
class Shown:
    """What is on a visitor's page: `drawn` is the pair in question, so that no refresh sends it again."""

    run_id: int | None = None
    token: str = ""
    drawn: str = ""


def build(services: Services) -> None:
    """The page, inside its route."""
    BlindPage(services).wire()


class BlindPage:
    """Components of the page and what fills them."""

    def __init__(self, services: Services) -> None:
        self.services, self.store, self.choices = services, services.store, Choices(services)
        self.state, self.client_id, self.clicks = gr.State(Shown()), gr.State(""), gr.State(ui.Clicks())
        self.session_id = gr.Number(visible="hidden", container=False)
        self.timer = gr.Timer(_CALM_S)
        self.head = ui.live(ui.page_head("Blind comparison"), elem_id="blind-head")
        self.message = ui.live(elem_id="blind-message")
        self.stage = live_actions(elem_id="blind-stage")
        self.question = gr.Markdown(
            "", latex_delimiters=LATEX_DELIMITERS, elem_classes=["tt", "math-text"], elem_id="blind-question"
        )
        self.buttons = live_actions(elem_id="blind-buttons")
        gr.HTML("", js_on_load=_KEYS, elem_classes=["form-marks"], apply_default_css=False)
        self.result = ui.live(elem_id="blind-result")
        with gr.Column(visible=False, elem_classes=["form-card"], elem_id="blind-form") as self.form:
            gr.HTML('<h2 class="tt-h2">Start a session</h2>', apply_default_css=False)
            with gr.Row(elem_classes=["ask-row"]):
                self.chosen = gr.Dropdown([], label="Draw from", elem_id="blind-set", min_width=280)
                self.num = gr.Slider(
                    5, 200, value=20, step=5, label="Problems", elem_id="blind-problems", min_width=200
                )
                self.temperature = gr.Slider(
                    0.1, 1.5, value=0.6, step=0.05, label="Temperature", elem_id="blind-temperature", min_width=200
                )
                self.weights = gr.Dropdown([], label="Adapted weights", elem_id="blind-weights", min_width=160)
            self.go = gr.Button("Draw problems and ask both", variant="primary", elem_id="blind-start")
        self.earlier = ui.live(elem_id="blind-earlier")
        self.parts = [self.message, self.stage, self.question, self.buttons, self.result, self.earlier]

    def wire(self) -> None:
        """All events of the page."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # One after the other: each verdict is on the pair that the one before it left.
        one: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_limit": 1, "concurrency_id": "blind"}
        outputs = [self.state, self.timer, *self.parts]
        fields = [self.chosen, self.num, self.temperature, self.weights]
        ui.on_load(
            self.opened, None, [self.head, self.form, self.client_id, *fields, self.go, self.session_id, *outputs]
        )
        for part in (self.stage, self.buttons):
            part.select(self.acted, [self.clicks, self.state, self.session_id], outputs, **one)
        self.go.click(
            self.started,
            [self.clicks, self.state, self.client_id, *fields],
            [self.client_id, self.form, self.session_id, *outputs],
            trigger_mode="once",
            **quiet,
        ).success(None, [self.session_id], None, js=_TO_SESSION)
        ui.tick(self.timer, self.ticked, [self.clicks, self.state, self.session_id], outputs)

    # --- what fills the page -------------------------------------------------------------------------------------

    def opened(self, request: gr.Request) -> list[Any]:
        """The page as its address says."""
        session = self._session(ui.query_int(request, "session"))
        run_id = session.comparison.run_id if session else ui.query_int(request, "run")
        run = self.store.run(run_id) if run_id is not None else None
        if run is None:
            return [view.head_html(None), gr.update(visible=False), "", *[gr.skip()] * 14]
        weights, sets = weights_choices(self.services, run), set_choices(self.choices, run)
        session_id = session.row.id if session else 0
        return [
            view.head_html(run),
            gr.update(visible=session is None),
            secrets.token_urlsafe(18),
            gr.update(choices=sets, value=sets[0][1] if sets else None),
            gr.skip(),
            run.config.evaluate.temperature,
            gr.update(choices=weights, value=weights[0][1] if weights else None),
            gr.update(
                value="Draw problems and ask both"
                if weights
                else "No weights saved yet: wait for the first checkpoint",
                interactive=bool(weights),
            ),
            session_id,
            *self.drawn(Shown(run.id), session_id, ""),
        ]

    def _session(self, session_id: float | None) -> Session | None:
        return session_of(self.store, int(session_id)) if session_id else None

    def ticked(self, clicks: ui.Clicks, before: Shown, session_id: float | None) -> list[Any]:
        """Refresh what waits for the answers."""
        return ui.unless_clicked(clicks, lambda: self.drawn(before, session_id))

    def drawn(self, before: Shown, session_id: float | None, message: str | None = None) -> list[Any]:
        """The state, the timer and every part; all are skipped where nothing changed. A `message` of None leaves what
        is there."""
        run = self.store.run(before.run_id) if before.run_id else None
        if run is None:
            return [before, *[gr.skip()] * (1 + len(self.parts))]
        token = f"{self.store.change_token(run.id)} {self.store.progress_token(run.id)} {session_id or 0:.0f}"
        if token == before.token and message is None:
            return [before, *[gr.skip()] * (1 + len(self.parts))]
        session = self._session(session_id)
        asked = session.next if session else None
        drawn = f"{asked[0]}" if asked else ""
        busy = session is not None and not session.ready
        return [
            Shown(run.id, token, drawn),
            gr.Timer(_LIVELY_S if busy else _CALM_S),
            gr.skip() if message is None else message,
            view.stage_html(session),
            # A part that is sent again loses what is selected in it.
            gr.skip() if drawn == before.drawn and drawn else view.question_html(asked[1]) if asked else "",
            view.buttons_html(asked[0]) if asked else "",
            view.result_html(run, session),
            self._earlier(run, session.row.id if session else None),
        ]

    def _earlier(self, run: RunRow, current: int | None) -> str:
        found = []
        for row in self.store.blind_sessions(run.id):
            comparison = self.store.comparison(row.comparison_id)
            chosen = self.store.problem_set(comparison.set_id or "") if comparison else None
            if comparison is not None:
                found.append((row, comparison, chosen.name.removeprefix("bundled:") if chosen else "a set"))
        return view.earlier_html(found, current, time.time())

    # --- events --------------------------------------------------------------------------------------------------

    def started(self, clicks: ui.Clicks, before: Shown, client_id: str, *values: Any) -> list[Any]:
        """Draw problems, ask both models, and open the session on the answers; a double click starts one."""
        with clicks.acting():
            return self._start(before, client_id, *values)

    def _start(self, before: Shown, client_id: str, *values: Any) -> list[Any]:
        run = self.store.run(before.run_id) if before.run_id else None
        set_id, num, temperature, step = values
        try:
            blind_seed = secrets.randbits(31)
            asked = ask_set(self.services, run, client_id, set_id, num, 1, temperature, step, blind_seed=blind_seed)
        except StudioError as failure:
            words = ui.note("Not started.", str(failure), "bad", alert=True)
            return [client_id, gr.skip(), gr.skip(), *self.drawn(before, 0, words)]
        session = self.store.blind_session_of(asked)
        assert session is not None
        parts = self.drawn(before, session.id, "")
        return [secrets.token_urlsafe(18), gr.update(visible=False), session.id, *parts]

    def acted(self, clicks: ui.Clicks, before: Shown, session_id: float | None, event: gr.EventData) -> list[Any]:
        """A verdict, an undo, the end of the session or of the asking."""
        with clicks.acting():
            session = self._session(session_id)
            try:
                message = self._act(session, *said(event)) if session else ""
            except StudioError as refusal:
                message = ui.note("Nothing was kept", str(refusal), "warn", alert=True)
            return self.drawn(before, session_id, message)

    def _act(self, session: Session, what: str, value: str) -> str:
        """Does it; a message as HTML. Both words come from the browser."""
        if what == "stop" and not session.comparison.job.is_terminal:
            self.services.desk.cancel(session.comparison.job.id)
            return ""
        if what == "undo":
            back = self.store.undo_blind_vote(session.row)
            return ui.note("Taken back", "The pair is asked again.", "info") if back else ""
        if what == "end" and session.votes:
            self.store.end_blind_session(session.row)
            return ""
        chosen = next((each for each, _ in view.CHOICES if each == what), None)
        asked = session.next
        if chosen is None or asked is None:
            return ""
        if value != str(asked[0]):
            # A key pressed twice before the next pair was there: the first verdict stands.
            if value.isascii() and value.isdigit() and len(value) < 6 and int(value) < asked[0]:
                return ""
            raise DataError("This page is out of date. Reload it and go on from there.")
        self.store.say_blind_vote(session.row, asked[1].problem.problem_id, chosen)
        return ""
