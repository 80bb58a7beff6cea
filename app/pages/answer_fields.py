"""The settings of `AnswerConfig` for one problem set, and examples of what they do. Every cell is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.answer_words import KIND_CHOICES, KIND_WORDS
from app.components import escape, note, row, table
from app.config_form import draw, field, read_form
from ttrl_engine.config import AnswerConfig, TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import Task, task_for

NAMES: tuple[str, ...] = ("kind", "labels", "pattern", "unit", "tolerance", "read")
_EXAMPLES = 3
_SHOWN_CHARACTERS = 160
# Which of them mean something for which kinds.
_ONLY_FOR: dict[str, tuple[TaskKind, ...]] = {
    "labels": ("decision",),
    "pattern": ("pattern",),
    "unit": ("number",),
    "tolerance": ("number",),
    "read": ("math", "number", "choice", "text", "decision"),
}
# What a key says of its sort; a person is shown the rest.
_SORTS = ("words ", "text ", "decision ", "number ")


class AnswerFields:
    """One component per setting, in the order of `NAMES`. `prefix` tells the fields of two pages apart."""

    def __init__(self, prefix: str, unset: str) -> None:
        kind = field("answers.kind")
        self.kind = gr.Radio(
            [(unset, ""), *KIND_CHOICES],
            value="",
            label=kind.title,
            info="How answers are read out of the model's text and compared.",
            elem_id=f"{prefix}-kind",
        )
        with gr.Row(elem_classes=["cfg-grid"]):
            others = [
                draw(field(f"answers.{name}"), elem_id=f"{prefix}-{name}", min_width=230, visible=False)
                for name in NAMES[1:]
            ]
        self.parts: list[Any] = [self.kind, *others]

    def filled(self, answers: AnswerConfig, kind: TaskKind) -> list[Any]:
        """Updates for `parts`. `kind` is the one in force, which decides what is shown."""
        held: dict[str, Any] = {"kind": answers.kind or "", "labels": list(answers.labels), "read": answers.read or ""}
        held |= {"pattern": answers.pattern or "", "unit": answers.unit or "", "tolerance": answers.tolerance}
        shown = self.shown(kind)
        return [held["kind"], *(gr.update(value=held[name], **shown[name]) for name in NAMES[1:])]

    def visibility(self, kind: TaskKind) -> list[Any]:
        """Updates for `parts` that leave every value as it is."""
        shown = self.shown(kind)
        return [gr.skip(), *(gr.update(**shown[name]) for name in NAMES[1:])]

    @staticmethod
    def shown(kind: TaskKind) -> dict[str, dict[str, Any]]:
        """Setting -> what of its component changes with the kind."""
        return {name: {"visible": kind in kinds} for name, kinds in _ONLY_FOR.items()}


def edited(component: Any) -> Any:
    """The event of an edit. A text box fires `input` for keys only, not for pasted text; `change` it always fires."""
    return component.change if isinstance(component, gr.Textbox) else component.input


def kind_of(value: Any) -> TaskKind | None:
    """The kind that the radio holds; None for the entry that leaves it to something else."""
    return next((kind for kind in KIND_WORDS if kind == value), None)


def read_answers(values: Sequence[Any]) -> tuple[AnswerConfig, str]:
    """What the components say, and what is wrong with it in a sentence, "" if nothing; then the answers are empty."""
    reading = read_form({f"answers.{name}": value for name, value in zip(NAMES, values, strict=True)})
    if reading.config is None:
        name, why = next(iter(reading.errors.items()))
        title = field(name).title if name.rpartition(".")[2] in NAMES else "Kind of answer"
        return AnswerConfig(), f"{title}: {why}"
    answers = reading.config.answers
    if answers.kind == "pattern" and answers.pattern is None:
        return answers, "Pattern: a regular expression is needed here, such as #### (.+)"
    return answers, ""


def examples_html(problems: Sequence[Problem], references: Mapping[str, str], answers: AnswerConfig) -> str:
    """Three references as they are given and as they are compared; without any, what a model may write."""
    task = task_for(answers)
    known = [problem for problem in problems if problem.id in references][:_EXAMPLES]
    if known:
        rows = [_example(task, problem, references[problem.id], references[problem.id]) for problem in known]
        return table(("Problem", "Reference answer", "Compared as"), rows, "References and how they are compared")
    rows = []
    for problem, text in zip(problems, _written(answers), strict=False):
        found = task.extract(text, problem)
        rows.append(_example(task, problem, text, found.raw, found.reason))
    if not rows:
        return note("Nothing to show before an answer is there.", "", "idle")
    return table(("Problem", "If the model writes", "Compared as"), rows, "Answers and how they are compared")


def _example(task: Task, problem: Problem, given: str, raw: str | None, reason: str | None = None) -> str:
    if raw is None:
        read = f'<span class="tt-muted">no answer: {escape(reason or "")}</span>'
    else:
        read = f'<span class="answer-chip">{escape(_key_shown(task.canonical(raw, problem)))}</span>'
    cells = [f'<span class="tt-clip">{escape(_cut(problem.prompt))}</span>', escape(_cut(given)), read]
    return row(cells, wrap=(0, 1, 2))


def _key_shown(key: str) -> str:
    for sort in _SORTS:
        key = key.removeprefix(sort)
    return _cut(key)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"


def _written(answers: AnswerConfig) -> tuple[str, ...]:
    """Two answers as models write them, of the kind."""
    unit = f" {answers.unit}" if answers.unit else " apples"
    label = (answers.labels or ("yes", "no"))[-1]
    written: dict[str, tuple[str, ...]] = {
        "math": (r"So it is \boxed{\dfrac{1}{2}}.", "The answer is 0.50."),
        "number": (rf"So it is \boxed{{1,200\text{{{unit}}}}}.", "The answer is 1200."),
        "choice": (r"So it is \boxed{B}.", "The answer is (c)."),
        "text": (r"So it is \boxed{The Nile}.", "The answer is Nile."),
        "decision": (rf"So it is \boxed{{{label}}}.", f"The answer is {label}."),
    }
    return written.get(answers.kind or "math", ())
