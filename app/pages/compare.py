"""Compare: base and adapted side by side. `?run=ID` picks the run, `&problem=ID` a problem; `?id=ID` is an answer."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import gradio as gr

from app.choices import Choices
from app.components import (
    link_button,
    live,
    note,
    on_load,
    page_head,
    query_int,
    tick,
)
from app.mathtext import LATEX_DELIMITERS, math_html
from app.pages.compare_choice import choose_run_html
from app.pages.compare_result import earlier_html, judge_of, result_html
from app.pages.compare_scores import find_problem, parse_view, scores_part, sets_of
from app.services import Services
from ttrl_engine.errors import StudioError
from worker.rows import ComparisonRow, RunRow

_MOST_LISTED = 2000
_SHOW = """(run, id) => {
  if (!id) return;
  history.replaceState(null, '', '/compare?run=' + run + '&id=' + id);
  document.getElementById('comparison').scrollIntoView({ block: 'start', behavior: 'smooth' });
}"""
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
        self.seen, self.client_id = gr.State(""), gr.State("")
        self.run_id = gr.Number(visible="hidden", container=False)
        self.shown_id = gr.Number(visible="hidden", container=False)
        self.head = live(page_head("Compare", "Base and adapted, side by side."))
        with gr.Column(visible=False) as self.body:
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
            self._ask()
            self.earlier = live(elem_id="earlier")
            self.scores_bar = live(elem_id="scores-bar")
            gr.HTML("", js_on_load=_SAME_TAB, elem_classes=["form-marks"], apply_default_css=False)
            self.scores = gr.Markdown(
                "", latex_delimiters=LATEX_DELIMITERS, elem_classes=["tt", "math-text"], elem_id="scores"
            )
        self.shown = [self.problem_text, self.references, self.result]

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
        asking = [self.pick, self.prompt, self.num, self.temperature, self.weights, self.go]
        on_load(
            self.opened,
            None,
            [
                self.head,
                self.body,
                self.run_id,
                self.shown_id,
                self.client_id,
                self.seen,
                *self.shown,
                *asking,
                self.scores_bar,
                self.scores,
                self.earlier,
            ],
        )
        self.pick.input(self.picked, [self.run_id, self.pick], [self.prompt], **quiet)
        self.references.input(self.result_of, [self.shown_id, self.references], [self.result], **quiet)
        self.scores_bar.select(self.viewed, [self.run_id], [self.scores_bar, self.scores], **quiet)
        self.go.click(
            self.asked,
            [
                self.client_id,
                self.run_id,
                self.pick,
                self.prompt,
                self.num,
                self.temperature,
                self.weights,
                self.references,
            ],
            [self.message, self.client_id, self.shown_id, *self.shown, self.earlier],
            trigger_mode="once",
            **quiet,
        ).success(None, [self.run_id, self.shown_id], None, js=_SHOW)
        tick(
            gr.Timer(2),
            self.ticked,
            [self.seen, self.run_id, self.shown_id, self.references],
            [self.seen, self.result, self.earlier],
        )

    # --- what fills the page -------------------------------------------------------------------------------------

    def opened(self, request: gr.Request) -> list[Any]:
        """The page as its address says."""
        comparison = self._comparison(query_int(request, "id"))
        run_id = comparison.run_id if comparison else query_int(request, "run")
        run = self.store.run(run_id) if run_id is not None else None
        if run is None:
            return [choose_run_html(self.store, run_id), gr.update(visible=False), *[gr.skip() for _ in range(16)]]
        params = request.query_params
        problem = find_problem(self.choices, run, str(params.get("problem", ""))[:300], str(params.get("set", "")))
        weights = self._weights(run)
        scores = scores_part(self.choices, run, parse_view(str(params.get("view", ""))))
        prompt = problem.prompt if problem else comparison.prompt if comparison else ""
        picked = problem.problem_id if problem else comparison.problem_id if comparison else None
        options = self._problem_choices(run)
        return [
            self._head(run),
            gr.update(visible=True),
            run.id,
            comparison.id if comparison else 0,
            secrets.token_urlsafe(18),
            self.store.change_token(run.id),
            *self._shown(comparison, True),
            gr.update(choices=options, value=picked if any(value == picked for _, value in options) else None),
            prompt,
            comparison.num_samples if comparison else 8,
            comparison.temperature if comparison else run.config.evaluate.temperature,
            gr.update(choices=weights, value=weights[0][1] if weights else None),
            gr.update(
                value="Ask both" if weights else "No weights saved yet: wait for the first checkpoint",
                interactive=bool(weights),
            ),
            scores.bar_html,
            scores.table_html,
            self._earlier(run, comparison.id if comparison else None),
        ]

    def _comparison(self, comparison_id: int | float | None) -> ComparisonRow | None:
        return self.store.comparison(int(comparison_id)) if comparison_id else None

    def _head(self, run: RunRow) -> str:
        links = link_button("Another run", "/compare", look="quiet") + link_button(
            "Open the run", f"/run?id={run.id}", icon_name="chart"
        )
        lead = (
            f"{run.model} before and after {run.step:,} steps on {run.set_name}. Same questions, same random numbers."
        )
        return page_head(f"Compare: {run.name}", lead, links)

    def _weights(self, run: RunRow) -> list[tuple[str, int]]:
        """(label, step) of what can be loaded, 0 for the final weights; newest first."""
        found = [("final", 0)] if run.policy_path else []
        saved = [row for row in self.store.checkpoints(run.id) if Path(row.path).is_dir()]
        return found + [(f"step {row.step:,}", row.step) for row in sorted(saved, key=lambda row: -row.step)]

    def _problem_choices(self, run: RunRow) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        for set_id in sets_of(self.choices, run):
            for problem in self.store.problems_page(set_id, 0, _MOST_LISTED - len(found)):
                found.setdefault(problem.problem_id, f"{problem.problem_id} · {' '.join(problem.prompt.split())[:110]}")
        return [(label, problem_id) for problem_id, label in found.items()]

    def _shown(self, comparison: ComparisonRow | None, references: bool) -> list[Any]:
        """Updates for `shown`."""
        run = self.store.run(comparison.run_id) if comparison else None
        if comparison is None or run is None:
            return ["", gr.update(visible=False), ""]
        known = find_problem(self.choices, run, comparison.problem_id) if comparison.problem_id else None
        measurable = known is not None and known.reference is not None and known.prompt == comparison.prompt
        text = (
            '<div class="problems"><div class="problem"><div class="problem-text">'
            f"{math_html(comparison.prompt)}</div></div></div>"
        )
        return [text, gr.update(visible=measurable), self.result_of(comparison.id, references)]

    def result_of(self, comparison_id: int | float | None, references: bool) -> str:
        """The result below the problem; empty where nothing was asked."""
        comparison = self._comparison(comparison_id)
        run = self.store.run(comparison.run_id) if comparison else None
        own = self.store.problem_set(run.set_id) if run else None
        if comparison is None or run is None or own is None:
            return ""
        known = find_problem(self.choices, run, comparison.problem_id) if comparison.problem_id else None
        return result_html(self.store, run, comparison, judge_of(run, comparison, known, show=bool(references)))

    def _earlier(self, run: RunRow, current: int | None) -> str:
        return earlier_html(run, self.store.comparisons(run.id), current, time.time())

    # --- events --------------------------------------------------------------------------------------------------

    def picked(self, run_id: float | None, problem_id: str | None) -> Any:
        """A problem was picked: its text can be changed before asking."""
        run = self.store.run(int(run_id)) if run_id else None
        problem = find_problem(self.choices, run, problem_id) if run and problem_id else None
        return problem.prompt if problem else gr.skip()

    def viewed(self, event: gr.EventData, run_id: float | None) -> tuple[str, str]:
        """Another split, filter or page of the flips."""
        run = self.store.run(int(run_id)) if run_id else None
        if run is None:
            return "", ""
        data = event._data if isinstance(event._data, dict) else {}
        part = scores_part(self.choices, run, parse_view(str(data.get("value", "")).removeprefix("view:")))
        return part.bar_html, part.table_html

    def asked(
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
        """Queue the question; a double click asks once."""
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
            message = f'<div class="tt">{note("Not asked.", str(failure), "bad", alert=True)}</div>'
            return [message, client_id, gr.skip(), *[gr.skip() for _ in self.shown], gr.skip()]
        comparison = self.store.comparison(comparison_id)
        return [
            "",
            secrets.token_urlsafe(18),
            comparison_id,
            *self._shown(comparison, references),
            self._earlier(run, comparison_id),
        ]

    def ticked(
        self, seen: str, run_id: float | None, comparison_id: float | None, references: bool
    ) -> tuple[Any, Any, Any]:
        """Refresh what waits for an answer; nothing that a person edits."""
        run = self.store.run(int(run_id)) if run_id else None
        if run is None:
            return gr.skip(), gr.skip(), gr.skip()
        token = self.store.change_token(run.id)
        if token == seen:
            return gr.skip(), gr.skip(), gr.skip()
        return (
            token,
            self.result_of(comparison_id, references),
            self._earlier(run, int(comparison_id) if comparison_id else None),
        )
