"""The tab Spot check of a run: a person answers problems drawn at random, and the label accuracy becomes known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import charts
from app import components as ui
from app.actions import live_actions, said
from app.mathtext import LATEX_DELIMITERS
from app.pages import run_spot_view as view
from app.pages.problem_set_detail import problems_html
from app.services import Services
from app.spot_checks import Checked, SpotCheck, answer_rule, of_references, spot_check, unreadable
from ttrl_engine.errors import DataError, StudioError
from worker.rows import RunRow
from worker.store.spot_checks import MAX_ANSWER

# To the verdict where the label is shown, else to the answer box, so that one problem after the other needs no mouse.
_FOCUS = """() => setTimeout(() => {
  const next = document.querySelector('#spot-buttons [data-pick^="right:"], #spot-buttons [data-pick^="wrong:"]')
    || document.querySelector('#spot-answer input, #spot-answer textarea');
  if (next) next.focus();
}, 120)"""


@dataclass(frozen=True)
class Spot:
    """What this visitor's browser shows. `asked` is the problem in question, kept while it is to be asked, so that no
    refresh changes it under a person's hands; `drawn` is the one whose text is on the page."""

    run_id: int | None = None
    token: str = ""
    asked: str | None = None
    revealed: bool = False
    drawn: str | None = None
    open: bool | None = None


@dataclass(frozen=True)
class Parts:
    """The components, in the order of the outputs."""

    head: Any
    message: Any
    question: Any
    text: Any
    buttons: Any
    result: Any
    accuracy: Any
    calibration: Any
    tables: Any

    def all(self) -> list[Any]:
        """Every component."""
        return [getattr(self, each.name) for each in dataclasses.fields(self)]


def spot_checking(services: Services, timer: Any) -> None:
    """The parts, inside the page of a run. `timer` is the page's own."""
    state, clicks = gr.State(Spot()), gr.State(ui.Clicks())
    head = live_actions(elem_id="spot-head")
    message = ui.live(elem_id="spot-message")
    with gr.Column(visible=False, elem_classes=["form-card"], elem_id="spot-question") as question:
        text = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_classes=["tt", "math-text"])
        answer = gr.Textbox(
            label="Your answer",
            info="Answer before you look at the label: a label that is seen first is agreed with too easily.",
            placeholder="Only the final answer; Enter checks it",
            max_length=MAX_ANSWER,
            elem_id="spot-answer",
        )
        check = gr.Button("Check my answer", variant="primary", size="md", elem_id="spot-submit")
        buttons = live_actions(elem_id="spot-buttons")
    result, accuracy = ui.live(elem_id="spot-result"), charts.board(elem_id="spot-accuracy")
    calibration, tables = charts.board(elem_id="spot-calibration"), ui.live(elem_id="spot-tables")
    parts = Parts(head, message, question, text, buttons, result, accuracy, calibration, tables)
    outputs = [state, *parts.all()]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # One after the other: each verdict is on the problem that the one before it left.
    one: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_limit": 1, "concurrency_id": "spot-check"}

    def opened(request: gr.Request) -> list[Any]:
        return drawn(services, Spot(ui.query_int(request, "id")), message="")

    def ticked(before: Spot, clicked: ui.Clicks) -> list[Any]:
        return ui.unless_clicked(clicked, lambda: drawn(services, before))

    def acted(before: Spot, clicked: ui.Clicks, event: gr.EventData) -> list[Any]:
        with clicked.acting():
            after, words = act(services, before, *said(event))
            return drawn(services, after, message=words)

    def answered(before: Spot, clicked: ui.Clicks, typed: str) -> list[Any]:
        with clicked.acting():
            after, words, taken = give(services, before, typed)
            return ["" if taken else gr.skip(), *drawn(services, after, message=words)]

    ui.on_load(opened, None, outputs)
    ui.tick(timer, ticked, [state, clicks], outputs)
    for part in (head, buttons):
        part.select(acted, [state, clicks], outputs, **one).then(None, None, None, js=_FOCUS)
    for trigger in (answer.submit, check.click):
        trigger(answered, [state, clicks, answer], [answer, *outputs], **one).then(None, None, None, js=_FOCUS)


# --- what a person does --------------------------------------------------------------------------------------------


def act(services: Services, before: Spot, what: str, value: str) -> tuple[Spot, str]:
    """What a button does; with a message as HTML. `value` is the step of the label that was on the page."""
    run = services.store.run(before.run_id) if before.run_id else None
    if run is None:
        return before, ui.note("Nothing was done", "There is no such run.", "warn")
    try:
        if what in ("draw", "redraw"):
            return _draw(services, run, before, what)
        check = spot_check(services.store, run)
        if what == "undo" and check is not None:
            return _undo(services, check, before)
        asked = _asked(check, before)
        if check is None or asked is None:
            raise DataError("This page is out of date. Reload it and try again.")
        if what == "reveal":
            return dataclasses.replace(before, asked=asked.problem.problem_id, revealed=True), ""
        if what not in ("right", "wrong", "skip"):
            return before, ""
        return _judge(services, run, check, asked, before, what, value)
    except StudioError as refusal:
        return before, ui.note("Nothing was kept", str(refusal), "warn", alert=True)


def _draw(services: Services, run: RunRow, before: Spot, what: str) -> tuple[Spot, str]:
    # Two tabs that both offer the first draw make one.
    if what == "redraw" or services.store.spot_check(run.id) is None:
        services.store.draw_spot_check(run.id)
    return dataclasses.replace(before, asked=None, revealed=False), ""


def _undo(services: Services, check: SpotCheck, before: Spot) -> tuple[Spot, str]:
    back = services.store.undo_spot_verdict(check.row)
    if back is None:
        return before, ""
    words = ui.note("Taken back", f"Problem {back.problem_id[:80]} is asked again.", "info")
    return dataclasses.replace(before, asked=back.problem_id, revealed=False), words


def _judge(
    services: Services, run: RunRow, check: SpotCheck, asked: Checked, before: Spot, what: str, value: str
) -> tuple[Spot, str]:
    name = asked.problem.problem_id
    labels = services.store.label_history(run.id, [name])
    seen = next((each for each in labels if str(each.step) == value), None)
    if seen is None or (what == "right" and seen.label is None) or (what != "skip" and not before.revealed):
        raise DataError("This page is out of date. Reload it and try again.")
    if what == "skip":
        services.store.say_spot_verdict(check.row, name, seen.step, "skip", seen.label)
    else:
        services.store.say_spot_verdict(check.row, name, seen.step, "right" if what == "right" else "wrong", seen.label)
    return _next(services, run, before, name)


def give(services: Services, before: Spot, typed: str) -> tuple[Spot, str, bool]:
    """A typed answer: the state after it, a message, and whether it was taken."""
    run = services.store.run(before.run_id) if before.run_id else None
    check = spot_check(services.store, run) if run is not None else None
    asked = _asked(check, before)
    if run is None or check is None or asked is None:
        return before, ui.note("Nothing was kept", "This page is out of date. Reload it and try again.", "warn"), False
    text = str(typed or "").strip()
    try:
        why = unreadable(answer_rule(services.store, run), asked.problem, text[:MAX_ANSWER])
        if why is not None:
            raise DataError(f"This answer cannot be compared: {why}. Write it more simply.")
        name, step = asked.problem.problem_id, asked.newest.step
        services.store.say_spot_verdict(check.row, name, step, "answer", text)
    except StudioError as refusal:
        return before, ui.note("Nothing was kept", str(refusal), "warn", alert=True), False
    return *_next(services, run, before, name), True


def _next(services: Services, run: RunRow, before: Spot, name: str) -> tuple[Spot, str]:
    check = spot_check(services.store, run)
    judged = next((each for each in check.problems if each.problem.problem_id == name), None) if check else None
    return dataclasses.replace(before, asked=None, revealed=False), view.verdict_note(judged) if judged else ""


def _asked(check: SpotCheck | None, shown: Spot) -> Checked | None:
    """The problem in question: the one on the page as long as it is to be asked, else the next of the draw."""
    if check is None:
        return None
    kept = next((each for each in check.problems if each.problem.problem_id == shown.asked and each.to_ask), None)
    return kept or check.next


# --- refreshing ----------------------------------------------------------------------------------------------------


def drawn(services: Services, before: Spot, message: str | None = None) -> list[Any]:
    """The state and every part; all are skipped where nothing changed. A `message` of None leaves what is there."""
    run = services.store.run(before.run_id) if before.run_id else None
    skipped = len(dataclasses.fields(Parts))
    if run is None:
        return [before, *[gr.skip()] * skipped]
    token = services.store.change_token(run.id)
    if token == before.token and message is None:
        return [before, *[gr.skip()] * skipped]
    check = spot_check(services.store, run)
    asked = _asked(check, before)
    name = asked.problem.problem_id if asked is not None else None
    after = dataclasses.replace(before, token=token, asked=name, drawn=name, open=asked is not None)
    if name != before.asked:
        after = dataclasses.replace(after, revealed=False)
    # A part that is sent again loses what is being typed in it or selected.
    text = problems_html([asked.problem], references=False) if asked is not None else ""
    pool = services.store.spot_check_pool(run.id)
    drawings = view.accuracy_chart(run, check)
    return [
        after,
        view.head(run, check, len(pool), asked),
        gr.skip() if message is None else message,
        gr.skip() if after.open == before.open else gr.Column(visible=asked is not None),
        gr.skip() if after.drawn == before.drawn else text,
        view.question_buttons(asked, revealed=after.revealed),
        view.result(run, check),
        charts.dump([drawings] if drawings is not None else [], tools=False),
        *_calibrations(services, run, check),
    ]


def _calibrations(services: Services, run: RunRow, check: SpotCheck | None) -> list[str]:
    """The charts and their tables: by reference answers and by the check, never both in one."""
    known = of_references(services.store.newest_labels(run.id)) if run.set_num_references else None
    checked = check.calibration if check is not None else None
    found = [("by reference answers", "references", known), ("by the spot check", "spot", checked)]
    shown = [(by, name, each) for by, name, each in found if each is not None]
    pictures = [view.calibration_chart(run, each, by, name) for by, name, each in shown]
    tables = "".join(view.calibration_table(each, by) for by, _, each in shown)
    return [charts.dump(pictures, tools=False), view.checked_table(run, check) + tables]
