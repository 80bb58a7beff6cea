"""One problem set: its problems page by page, with their formulas drawn; reference answers only when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.answer_words import rule_words
from app.components import escape, note
from app.mathtext import LATEX_DELIMITERS, answer_html, math_html
from app.pages.answer_fields import NAMES, AnswerFields, edited, examples_html, kind_of, read_answers
from app.services import Services
from ttrl_engine.config import AnswerConfig
from ttrl_engine.errors import DataError, StudioError
from ttrl_engine.problems import Problem
from worker.rows import ProblemRow, ProblemSetRow

PAGE_SIZE = 50
# Examples are looked for among so many problems.
_EXAMPLES_AMONG = 200

# The address follows what is shown, so that a reload or a shared link opens the same page of problems.
_KEEP_ADDRESS = """
(set_id, page, query, references) => {
  const address = new URL(location.href);
  const put = (name, value) => value ? address.searchParams.set(name, value) : address.searchParams.delete(name);
  put('page', page > 1 ? page : ''); put('q', query); put('references', references ? '1' : ''); put('saved', '');
  history.replaceState(null, '', address);
}
"""


class Detail:
    """The detail part of the page: components, and what fills them."""

    def __init__(self, services: Services) -> None:
        self.store = services.store
        with gr.Column(visible=False) as self.column:
            self.set_id = gr.State("")
            # A component, not a State: the browser must know it to keep it in the address.
            self.page = gr.Number(1, visible="hidden", container=False, precision=0)
            with (
                gr.Column(elem_classes=["form-card"]),
                gr.Accordion("How answers are read and compared", open=False, elem_id="set-answers"),
            ):
                self.answers = AnswerFields("rule", "as detected")
                self.examples = gr.HTML("", apply_default_css=False, elem_id="rule-examples")
                with gr.Row(elem_classes=["tt-actions"]):
                    self.save_rule = gr.Button("Save for new runs", variant="primary", size="sm", elem_id="save-rule")
                self.rule_message = gr.HTML("", apply_default_css=False, elem_id="rule-message")
            with gr.Row(elem_classes=["form-card", "set-bar"]):
                self.query = gr.Textbox(
                    label="Search",
                    placeholder="Words of a problem, or an id",
                    elem_id="problem-search",
                    scale=3,
                    max_lines=1,
                )
                self.references = gr.Checkbox(
                    False,
                    label="Show reference answers",
                    elem_id="show-references",
                    scale=1,
                    min_width=220,
                    info="They only measure; a run never sees them while it learns.",
                )
            self.shown_query = gr.State("")
            self.count = gr.HTML("", elem_id="problem-count")
            self.problems = gr.Markdown(
                "", latex_delimiters=LATEX_DELIMITERS, elem_id="problems", elem_classes=["tt", "math-text"]
            )
            with gr.Row(elem_classes=["tt-actions", "pager"]):
                self.previous = gr.Button("Previous", size="sm", elem_id="previous-page")
                self.next = gr.Button("Next", size="sm", elem_id="next-page")
        self.view = [self.page, self.shown_query, self.count, self.problems, self.previous, self.next]
        self.rule = [*self.answers.parts, self.examples, self.rule_message]
        self.outputs = [self.column, self.set_id, self.query, self.references, *self.view, *self.rule]

    def opened(self, found: ProblemSetRow | None, params: Mapping[str, str]) -> list[Any]:
        """Updates for `outputs`: the set that the address names, at the page and search that it names."""
        if found is None:
            return [gr.update(visible=False), "", "", False, *[gr.skip() for _ in [*self.view, *self.rule]]]
        page = str(params.get("page", ""))
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1
        query, references = str(params.get("q", ""))[:200], params.get("references") == "1"
        reference_box = gr.update(value=references, visible=found.num_references > 0)
        return [
            gr.update(visible=True),
            found.id,
            query,
            reference_box,
            *self.show(found.id, number, query, references),
            *self.answers.filled(found.rule, found.answers.kind or found.kind),
            self._examples(found.id, found.answers),
            "",
        ]

    def show(self, set_id: str, page: int, query: str, references: bool) -> list[Any]:
        """Updates for `view`. A page beyond the last shows the last."""
        total = self.store.count_problems(set_id, query)
        pages = max(1, -(-total // PAGE_SIZE))
        page = min(max(1, page), pages)
        rows = self.store.problems_page(set_id, (page - 1) * PAGE_SIZE, PAGE_SIZE, query)
        first = (page - 1) * PAGE_SIZE + 1
        found = f"matching “{escape(query)}”" if query else ""
        words = (
            f"Problems {first:,} to {first + len(rows) - 1:,} of {total:,} {found}"
            if total
            else f"No problem {found}. Try fewer words."
        )
        return [
            page,
            query,
            f'<p class="tt-muted tt-num" role="status">{words}{f" · page {page} of {pages}" if pages > 1 else ""}</p>',
            problems_html(rows, references=references),
            gr.update(interactive=page > 1, visible=pages > 1),
            gr.update(interactive=page < pages, visible=pages > 1),
        ]

    def _examples(self, set_id: str, answers: AnswerConfig) -> str:
        rows = self.store.problems_page(set_id, 0, _EXAMPLES_AMONG)
        problems = [Problem(row.problem_id, row.prompt, row.choices) for row in rows]
        references = {row.problem_id: row.reference for row in rows if row.reference is not None}
        words = rule_words(answers)
        shown = examples_html(problems, references, answers)
        return f'<div class="tt"><p><b>{escape(words[:1].upper() + words[1:])}.</b></p>{shown}</div>'

    def _rule(self, set_id: str, values: Sequence[Any]) -> tuple[AnswerConfig, AnswerConfig]:
        """What the fields say, with what was said of single answers before; and that over the set's own kind.

        Raises StudioError where it cannot be used.
        """
        said, fault = read_answers(values)
        found = self.store.problem_set(set_id)
        if fault or found is None:
            raise DataError(fault or "This set is no longer here.")
        rule = said.model_copy(update={"merges": found.rule.merges, "detached": found.rule.detached})
        return rule, rule.over(AnswerConfig(kind=found.kind))

    def _rule_changed(self, set_id: str, *values: Any) -> list[Any]:
        """Updates for `rule`: what the fields would do."""
        try:
            _, answers = self._rule(set_id, values)
            shown = self._examples(set_id, answers)
        except StudioError as failure:
            message = f'<div class="tt">{note("Not used yet.", str(failure), "bad", alert=True)}</div>'
            kind = kind_of(values[0])
            parts = self.answers.visibility(kind) if kind else [gr.skip() for _ in NAMES]
            return [*parts, gr.skip(), message]
        return [*self.answers.visibility(answers.kind or "math"), shown, ""]

    def _rule_saved(self, set_id: str, *values: Any) -> str:
        try:
            self.store.save_rule(set_id, self._rule(set_id, values)[0])
        except StudioError as failure:
            return f'<div class="tt">{note("Not saved.", str(failure), "bad", alert=True)}</div>'
        done = note(
            "Saved.", "New runs with this set read answers like this. Runs that were started keep theirs.", "good"
        )
        return f'<div class="tt">{done}</div>'

    def wire(self) -> None:
        """Connect search, paging, the switch for references, and the rule."""
        common: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        rule = [self.set_id, *self.answers.parts]
        changed = [edited(part) for part in self.answers.parts]
        gr.on(changed, self._rule_changed, rule, self.rule, trigger_mode="always_last", **common)
        self.save_rule.click(self._rule_saved, rule, [self.rule_message], trigger_mode="once", **common)
        inputs = [self.set_id, self.page, self.query, self.references]

        def turned(by: int) -> Any:
            return lambda set_id, page, query, references: self.show(set_id, page + by, query, references)

        events = [
            self.previous.click(turned(-1), inputs, self.view, **common),
            self.next.click(turned(+1), inputs, self.view, **common),
            self.references.input(turned(0), inputs, self.view, **common),
            # `change` and not `input`: Gradio's text box keeps quiet about pasted text.
            self.query.change(
                self._searched, [*inputs, self.shown_query], self.view, trigger_mode="always_last", **common
            ),
        ]
        for event in events:
            event.then(None, inputs, None, js=_KEEP_ADDRESS)
        for event in events[:2]:
            event.then(
                None, None, None, js="() => document.getElementById('problem-search').scrollIntoView({block: 'center'})"
            )

    def _searched(self, set_id: str, _page: int, query: str, references: bool, shown: str) -> list[Any]:
        if query == shown:
            return [gr.skip() for _ in self.view]
        return self.show(set_id, 1, query, references)


def problems_html(rows: list[ProblemRow], *, references: bool) -> str:
    """Problems as one HTML block without blank lines, for a Markdown part that draws the formulas in it."""
    cards = []
    for problem in rows:
        choices = "".join(
            f"<li><b>{letter}</b> {math_html(text)}</li>"
            for letter, text in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", problem.choices, strict=False)
        )
        answer = ""
        if references:
            value = (
                answer_html(problem.reference)
                if problem.reference is not None
                else '<span class="tt-muted">none</span>'
            )
            answer = (
                '<div class="problem-answer"><span class="tt-muted tt-small">Reference answer</span> <b>'
                f"{value}</b></div>"
            )
        cards.append(
            f'<div class="problem"><div class="problem-head"><span class="tt-num">{problem.idx + 1}</span>'
            f'<span class="tt-muted tt-small">{math_html(problem.problem_id, limit=120)}</span></div><div '
            f'class="problem-text">{math_html(problem.prompt)}</div>'
            f"{f'<ol class=problem-choices>{choices}</ol>' if choices else ''}{answer}</div>"
        )
    return f'<div class="problems">{"".join(cards)}</div>'
