"""Compare: base and adapted side by side. `?run=ID` picks the run, `&problem=ID` a problem; `?id=ID` is an answer, with
`&problem=ID` one of a comparison over a set; `&view=…&find=…` filter the table of flips."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr

from app.actions import said
from app.choices import Choices
from app.components import (
    Clicks,
    link_button,
    live,
    note,
    on_load,
    page_head,
    query_int,
    tick,
    unless_clicked,
)
from app.mathtext import LATEX_DELIMITERS, math_html
from app.pages.compare_choice import choose_run_html
from app.pages.compare_pair import Pair, pair_parts, picked_pair
from app.pages.compare_result import earlier_html, judge_of, result_html, result_of
from app.pages.compare_scores import View, find_problem, parse_view, picked_view, readable, scores_part, sets_of
from app.pages.compare_set import SetForm, ask_set, set_choices, weights_choices
from app.services import Services
from ttrl_engine.errors import StudioError
from worker.rows import ComparisonRow, ProblemRow, RunRow

_MOST_LISTED = 2000
_CALM_S, _LIVELY_S = 2.0, 0.5
"""Seconds between two looks: while answers are written, they are read along."""

_SHOW = """(run, id) => {
  if (!id) return;
  history.replaceState(null, '', '/compare?run=' + run + '&id=' + id);
  document.getElementById('comparison').scrollIntoView({ block: 'start', behavior: 'smooth' });
}"""
_TO_SCORES = """() => document.getElementById('scores-bar').scrollIntoView({ block: 'start', behavior: 'smooth' })"""
# Gradio's Markdown opens every link in a new tab; these lead to another view of the same page.
_SAME_TAB = """
document.addEventListener('click', (event) => {
  const link = event.target instanceof Element ? event.target.closest('#scores a[href]') : null;
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  window.location.assign(link.href);
}, true);
"""


def build(services: Services) -> None:
    """The page, inside its route."""
    ComparePage(services).wire()


class ComparePage:
    """Components of the page and what fills them."""

    def __init__(self, services: Services) -> None:
        self.services, self.store, self.choices = services, services.store, Choices(services)
        self.seen, self.client_id, self.clicks = gr.State(""), gr.State(""), gr.State(Clicks())
        self.view, self.pair, self.problem_id = gr.State(View()), gr.State(Pair()), gr.State("")
        self.timer = gr.Timer(_CALM_S)
        self.run_id = gr.Number(visible="hidden", container=False)
        self.shown_id = gr.Number(visible="hidden", container=False)
        self.head = live(page_head("Compare", "Base and adapted, side by side."))
        with gr.Column(visible=False) as self.body:
            self._result()
            self._ask()
            self.earlier = live(elem_id="earlier")
            self.set_form = SetForm.draw()
            self.scores_bar = live(elem_id="scores-bar")
            gr.HTML("", js_on_load=_SAME_TAB, elem_classes=["form-marks"], apply_default_css=False)
            self.scores = gr.Markdown(
                "", latex_delimiters=LATEX_DELIMITERS, elem_classes=["tt", "math-text"], elem_id="scores"
            )
        self.shown = [self.problem_text, self.references, self.result, self.pair_bar, self.pair_math]

    def _result(self) -> None:
        with gr.Column(elem_id="comparison", elem_classes=["comparison"]):
            self.problem_text = gr.Markdown(
                "", latex_delimiters=LATEX_DELIMITERS, elem_classes=["tt", "math-text"], elem_id="compared-problem"
            )
            self.references = gr.Checkbox(
                True,
                label="Show the reference answer and who is right",
                visible=False,
                elem_id="compare-references",
                container=False,
            )
            self.result = live(elem_id="comparison-result")
            self.pair_bar = live(elem_id="pair-bar")
            self.pair_math = gr.Markdown(
                "", latex_delimiters=LATEX_DELIMITERS, elem_classes=["tt", "math-text"], elem_id="pair-math"
            )

    def _ask(self) -> None:
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML('<h2 class="tt-h2">Ask both models</h2>', apply_default_css=False)
            with gr.Row(elem_classes=["ask-row"]):
                with gr.Column(scale=3, min_width=280):
                    self.pick = gr.Dropdown(
                        [],
                        label="A problem of its sets",
                        info="Type to search, or write your own below.",
                        elem_id="pick-problem",
                    )
                    self.prompt = gr.Textbox(
                        label="Problem", lines=4, max_lines=14, elem_id="compare-prompt", placeholder="What is 17 + 25?"
                    )
                with gr.Column(scale=2, min_width=240):
                    self.num = gr.Slider(
                        1,
                        64,
                        value=8,
                        step=1,
                        label="Answers from each",
                        info="They vote, as in training.",
                        elem_id="compare-samples",
                    )
                    self.temperature = gr.Slider(
                        0.1, 1.5, value=0.6, step=0.05, label="Temperature", elem_id="compare-temperature"
                    )
                    self.weights = gr.Dropdown([], label="Adapted weights", elem_id="compare-weights")
            self.go = gr.Button("Ask both", variant="primary", elem_id="ask-both")
            self.message = gr.HTML("", apply_default_css=False, elem_id="ask-message")

    def wire(self) -> None:
        """All events of the page."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        form = self.set_form
        asking = [self.pick, self.prompt, self.num, self.temperature, self.weights, self.go]
        states = [self.run_id, self.shown_id, self.problem_id, self.client_id, self.seen, self.view, self.pair]
        table = [self.view, self.scores_bar, self.scores]
        current = [self.shown_id, self.problem_id, self.references, self.pair]
        on_load(
            self.opened,
            None,
            [
                self.head,
                self.body,
                self.timer,
                *states,
                *self.shown,
                *asking,
                form.chosen,
                form.weights,
                form.go,
                self.earlier,
                self.scores_bar,
                self.scores,
            ],
        )
        self.pick.input(self.picked, [self.run_id, self.pick], [self.prompt], **quiet)
        self.references.input(self.referenced, [self.clicks, *current], [self.result], **quiet)
        self.pair_bar.select(self.paired, [self.clicks, *current], [self.pair, self.pair_bar, self.pair_math], **quiet)
        self.scores_bar.select(self.viewed, [self.clicks, self.run_id, self.view], table, **quiet)
        self.result.select(self.cancelled, [self.run_id], [self.timer], **quiet)
        self.go.click(
            self.asked,
            [
                self.clicks,
                self.client_id,
                self.run_id,
                self.pick,
                self.prompt,
                self.num,
                self.temperature,
                self.weights,
                self.references,
            ],
            [self.message, self.client_id, *states[1:3], self.pair, self.timer, *self.shown, self.earlier],
            trigger_mode="once",
            **quiet,
        ).success(None, [self.run_id, self.shown_id], None, js=_SHOW)
        form.go.click(
            self.asked_set,
            [self.clicks, self.client_id, self.run_id, *form.fields],
            [form.message, self.client_id, self.timer, *table],
            trigger_mode="once",
            **quiet,
        ).success(None, None, None, js=_TO_SCORES)
        tick(
            self.timer,
            self.ticked,
            [self.clicks, self.seen, self.run_id, *current, self.view],
            [self.seen, self.timer, self.result, self.pair_bar, self.pair_math, self.earlier, *table[1:]],
        )

    # --- what fills the page -------------------------------------------------------------------------------------

    def opened(self, request: gr.Request) -> list[Any]:
        """The page as its address says."""
        asked = self._comparison(query_int(request, "id"))
        comparison = asked if asked and readable(self.store, asked) else None
        run_id = asked.run_id if asked else query_int(request, "run")
        run = self.store.run(run_id) if run_id is not None else None
        if run is None:
            return [choose_run_html(self.store, run_id), gr.update(visible=False), *[gr.skip() for _ in range(25)]]
        params = request.query_params
        asked_for = str(params.get("problem", ""))[:300]
        problem = self._known(run, comparison, asked_for, str(params.get("set", "")))
        view = parse_view(str(params.get("view", "")), str(params.get("find", "")))
        if comparison is not None and comparison.set_id is not None and "view" not in params:
            view = View(compared=comparison.id)
        scores = scores_part(self.choices, run, view)
        view = replace(view, compared=scores.compared)
        shown = comparison if comparison is not None and (comparison.set_id is None or problem) else None
        problem_id = problem.problem_id if problem else ""
        return [
            self._head(run) + self._blind_note(asked),
            gr.update(visible=True),
            self._pace(run, shown, view),
            run.id,
            shown.id if shown else 0,
            problem_id,
            secrets.token_urlsafe(18),
            "",
            view,
            Pair(),
            *self._shown(shown, problem_id, True, Pair()),
            *self._form(run, shown, problem),
            self._earlier(run, shown.id if shown else None),
            scores.bar_html,
            scores.table_html,
        ]

    def _form(self, run: RunRow, comparison: ComparisonRow | None, problem: ProblemRow | None) -> list[Any]:
        """Updates for the fields of both forms."""
        weights = weights_choices(self.services, run)
        options = self._problem_choices(run)
        picked = problem.problem_id if problem else comparison.problem_id if comparison else None
        prompt = problem.prompt if problem else comparison.prompt if comparison else ""
        chosen = comparison.step or 0 if comparison else None
        value = chosen if any(step == chosen for _, step in weights) else weights[0][1] if weights else None
        sets = set_choices(self.choices, run)
        return [
            gr.update(choices=options, value=picked if any(value == picked for _, value in options) else None),
            prompt,
            comparison.num_samples if comparison else 8,
            comparison.temperature if comparison else run.config.evaluate.temperature,
            gr.update(choices=weights, value=value),
            gr.update(
                value="Ask both" if weights else "No weights saved yet: wait for the first checkpoint",
                interactive=bool(weights),
            ),
            gr.update(choices=sets, value=sets[0][1] if sets else None),
            gr.update(choices=weights, value=weights[0][1] if weights else None),
            gr.update(interactive=bool(weights)),
        ]

    def _comparison(self, comparison_id: int | float | None) -> ComparisonRow | None:
        return self.store.comparison(int(comparison_id)) if comparison_id else None

    def _known(
        self, run: RunRow, comparison: ComparisonRow | None, problem_id: str, set_id: str = ""
    ) -> ProblemRow | None:
        """The stored problem that a question is about; of a comparison over a set, one of its problems."""
        if comparison is not None and comparison.set_id is not None:
            inside = problem_id in comparison.problem_ids
            return self.store.problem(comparison.set_id, problem_id) if inside else None
        name = problem_id or (comparison.problem_id if comparison else None)
        return find_problem(self.choices, run, name, set_id) if name else None

    def _head(self, run: RunRow) -> str:
        links = (
            link_button("Another run", "/compare", look="quiet")
            + link_button("Judge blindly", f"/blind?run={run.id}", icon_name="compare")
            + link_button("Open the run", f"/run?id={run.id}", icon_name="chart")
        )
        lead = (
            f"{run.model} before and after {run.step:,} steps on {run.set_name}. Same questions, same random numbers."
        )
        return page_head(f"Compare: {run.name}", lead, links)

    def _blind_note(self, asked: ComparisonRow | None) -> str:
        """Why a comparison that the address names is not shown; empty where it is."""
        session = self.store.blind_session_of(asked.id) if asked else None
        if session is None or session.ended_at is not None:
            return ""
        link = link_button("Go on judging", f"/blind?session={session.id}", icon_name="compare")
        words = "They are shown here once the session has ended."
        return note("These answers are judged blindly.", words, "info", body_html=f'<div class="tt-row">{link}</div>')

    def _problem_choices(self, run: RunRow) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for set_id in sets_of(self.choices, run):
            for problem in self.store.problems_page(set_id, 0, _MOST_LISTED - len(found)):
                found.setdefault(problem.problem_id, f"{problem.problem_id} · {' '.join(problem.prompt.split())[:110]}")
        return [(label, problem_id) for problem_id, label in found.items()]

    def _pace(self, run: RunRow, shown: ComparisonRow | None, view: View) -> Any:
        """The timer: lively while what is on the page is being written."""
        watched = [shown, self._comparison(view.compared)]
        busy = any(each is not None and each.run_id == run.id and not each.job.is_terminal for each in watched)
        return gr.Timer(_LIVELY_S if busy else _CALM_S)

    def _shown(self, comparison: ComparisonRow | None, problem_id: str, references: bool, pair: Pair) -> list[Any]:
        """Updates for `shown`."""
        run = self.store.run(comparison.run_id) if comparison else None
        if comparison is None or run is None:
            return ["", gr.update(visible=False), "", "", ""]
        known = self._known(run, comparison, problem_id)
        prompt = comparison.prompt or (known.prompt if known else "")
        measurable = known is not None and known.reference is not None and known.prompt == prompt
        text = (
            '<div class="problems"><div class="problem"><div class="problem-text">'
            f"{math_html(prompt)}</div></div></div>"
        )
        result = result_of(self.store, comparison, problem_id)
        return [
            text,
            gr.update(visible=measurable),
            self.result_of(comparison.id, problem_id, references),
            *pair_parts(result, pair),
        ]

    def result_of(self, comparison_id: int | float | None, problem_id: str, references: bool) -> str:
        """The result below the problem; empty where nothing was asked."""
        comparison = self._comparison(comparison_id)
        run = self.store.run(comparison.run_id) if comparison else None
        own = self.store.problem_set(run.set_id) if run else None
        if comparison is None or run is None or own is None:
            return ""
        judge = judge_of(run, comparison, self._known(run, comparison, problem_id), show=bool(references))
        return result_html(self.store, run, comparison, judge, result_of(self.store, comparison, problem_id))

    def _earlier(self, run: RunRow, current: int | None) -> str:
        return earlier_html(run, self.store.comparisons(run.id), current, time.time())

    # --- events --------------------------------------------------------------------------------------------------

    def picked(self, run_id: float | None, problem_id: str | None) -> Any:
        """A problem was picked: its text can be changed before asking."""
        run = self.store.run(int(run_id)) if run_id else None
        problem = find_problem(self.choices, run, problem_id) if run and problem_id else None
        return problem.prompt if problem else gr.skip()

    def referenced(
        self, clicks: Clicks, comparison_id: float | None, problem_id: str, references: bool, _pair: Pair
    ) -> str:
        """The reference answer is to be shown, or not."""
        with clicks.acting():
            return self.result_of(comparison_id, problem_id, references)

    def paired(
        self,
        event: gr.EventData,
        clicks: Clicks,
        comparison_id: float | None,
        problem_id: str,
        _references: bool,
        before: Pair,
    ) -> tuple[Pair, str, str]:
        """Another answer, or another way to read it."""
        with clicks.acting():
            comparison = self._comparison(comparison_id)
            pair = picked_pair(":".join(said(event))) or before
            result = result_of(self.store, comparison, problem_id) if comparison else None
            return pair, *pair_parts(result, pair)

    def viewed(self, event: gr.EventData, clicks: Clicks, run_id: float | None, before: View) -> tuple[View, str, str]:
        """Another source, step, filter, search or page of the flips; or the end of a comparison over a set."""
        with clicks.acting():
            return self._view(event, run_id, before)

    def _view(self, event: gr.EventData, run_id: float | None, before: View) -> tuple[View, str, str]:
        run = self.store.run(int(run_id)) if run_id else None
        if run is None:
            return before, "", ""
        data = event._data if isinstance(event._data, dict) else {}
        value = str(data.get("value", ""))[:400]
        if value.startswith("cancel:"):
            self._cancel(run, value.removeprefix("cancel:"))
        view = before if value.startswith("cancel:") else picked_view(value)
        part = scores_part(self.choices, run, view)
        return replace(view, compared=part.compared), part.bar_html, part.table_html

    def cancelled(self, event: gr.EventData, run_id: float | None) -> Any:
        """Ask no more; what was written by then stays on the page."""
        run = self.store.run(int(run_id)) if run_id else None
        what, ident = said(event)
        if run is not None and what == "cancel":
            self._cancel(run, ident)
        return gr.Timer(_LIVELY_S)

    def _cancel(self, run: RunRow, ident: str) -> None:
        job_id = int(ident) if ident.isascii() and ident.isdigit() and len(ident) < 16 else 0
        comparison = self.store.comparison_of_job(job_id)
        if comparison is not None and comparison.run_id == run.id and not comparison.job.is_terminal:
            # It may end by itself at this very moment; then there is nothing left to cancel.
            with suppress(StudioError):
                self.services.desk.cancel(job_id)

    def asked(self, clicks: Clicks, *values: Any) -> list[Any]:
        """Queue the question; a double click asks once."""
        with clicks.acting():
            return self._ask_both(*values)

    def _ask_both(
        self,
        client_id: str,
        run_id: float | None,
        problem_id: str | None,
        prompt: str,
        num: float,
        temperature: float,
        step: float | None,
        references: bool,
    ) -> list[Any]:
        run = self.store.run(int(run_id)) if run_id else None
        known = find_problem(self.choices, run, problem_id) if run and problem_id else None
        try:
            if run is None:
                raise StudioError("Pick a run first.")
            comparison_id = self.services.desk.submit_comparison(
                run.id,
                prompt or "",
                client_id,
                problem_id=known.problem_id if known and known.prompt == prompt else None,
                step=int(step) if step else None,
                num_samples=int(num),
                temperature=float(temperature),
                max_new_tokens=run.config.vote.max_new_tokens,
                seed=run.seed,
            )
        except StudioError as failure:
            return [_refusal(failure), client_id, *[gr.skip() for _ in range(4 + len(self.shown) + 1)]]
        comparison = self.store.comparison(comparison_id)
        asked_for = comparison.problem_id or "" if comparison else ""
        return [
            "",
            secrets.token_urlsafe(18),
            comparison_id,
            asked_for,
            Pair(),
            gr.Timer(_LIVELY_S),
            *self._shown(comparison, asked_for, references, Pair()),
            self._earlier(run, comparison_id),
        ]

    def asked_set(self, clicks: Clicks, *values: Any) -> list[Any]:
        """Queue a comparison over a set and show it."""
        with clicks.acting():
            return self._ask_set(*values)

    def _ask_set(self, client_id: str, run_id: float | None, *values: Any) -> list[Any]:
        run = self.store.run(int(run_id)) if run_id else None
        try:
            comparison_id = ask_set(self.services, run, client_id, *values)
        except StudioError as failure:
            return [_refusal(failure), client_id, *[gr.skip() for _ in range(4)]]
        assert run is not None
        view = View(compared=comparison_id)
        part = scores_part(self.choices, run, view)
        return ["", secrets.token_urlsafe(18), gr.Timer(_LIVELY_S), view, part.bar_html, part.table_html]

    def ticked(self, clicks: Clicks, *values: Any) -> list[Any]:
        """Refresh what waits for an answer; nothing that a person edits."""
        return unless_clicked(clicks, lambda: self.refreshed(*values))

    def refreshed(
        self,
        seen: str,
        run_id: float | None,
        comparison_id: float | None,
        problem_id: str,
        references: bool,
        pair: Pair,
        view: View,
    ) -> list[Any]:
        """The updates of a tick; all are skipped where nothing changed. `seen` says what the page shows."""
        run = self.store.run(int(run_id)) if run_id else None
        if run is None:
            return [gr.skip() for _ in range(8)]
        changes = f"{self.store.change_token(run.id)} "
        compared = self._comparison(view.compared)
        shows = f" {view.text} {compared.state if compared else ''}"
        # A look that began before the question was asked must not count as one at its answer.
        token = f"{changes}{self.store.progress_token(run.id)} {comparison_id or 0:.0f}{shows}"
        if token == seen:
            return [gr.skip() for _ in range(8)]
        comparison = self._comparison(comparison_id)
        written = comparison is not None and comparison.set_id is None
        result = result_of(self.store, comparison, problem_id) if comparison and written else None
        # Of a finished part every refresh would cost a selection or the place in it.
        moving = compared is not None and (not compared.job.is_terminal or not seen.endswith(shows))
        part = scores_part(self.choices, run, view) if moving else None
        return [
            token,
            self._pace(run, comparison, view),
            self.result_of(comparison_id, problem_id, references) if comparison else gr.skip(),
            *(pair_parts(result, pair) if written else (gr.skip(), gr.skip())),
            # It lists what began and ended; an answer that grows changes nothing in it.
            gr.skip() if seen.startswith(changes) else self._earlier(run, int(comparison_id or 0)),
            part.bar_html if part else gr.skip(),
            part.table_html if part else gr.skip(),
        ]


def _refusal(failure: StudioError) -> str:
    return f'<div class="tt">{note("Not asked.", str(failure), "bad", alert=True)}</div>'
