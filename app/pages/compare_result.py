"""One comparison as HTML: what base and adapted answered to the same question, how each voted, and who is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.actions import action_button
from app.components import bar, card, error_card, escape, link_button, note, pill, progress, row, state_pill, table
from app.format import moment, number, percent
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import Task, task_for
from worker.rows import ComparisonRow, ProblemRow, RunRow
from worker.states import JobState
from worker.store import Store
from worker.store.comparisons import rule_of

_TEXT_CHARACTERS = 20_000
_SIDES = (("base", "Base"), ("adapted", "Adapted"))


@dataclass(frozen=True)
class Judge:
    """Tells right answers from wrong ones, where a reference is known and may be shown."""

    task: Task
    problem: Problem
    reference: str | None

    def is_right(self, answer: str | None) -> bool | None:
        """None where nothing can be said."""
        if self.reference is None or answer is None:
            return None
        return self.task.equivalent(answer, self.reference, self.problem)


def judge_of(run: RunRow, comparison: ComparisonRow, known: ProblemRow | None, *, show: bool) -> Judge:
    """The judge of a comparison; a prompt that was changed has no reference any more."""
    prompt = comparison.prompt or (known.prompt if known else "")  # one over a set asks each problem as it is stored
    same = known is not None and known.prompt == prompt
    problem = Problem(known.problem_id, prompt, known.choices) if known and same else Problem("typed", prompt)
    return Judge(task_for(rule_of(run, comparison)), problem, known.reference if known and same and show else None)


def result_of(store: Store, comparison: ComparisonRow, problem_id: str) -> Mapping[str, Any] | None:
    """The sides by name once both are there; of a comparison over a set, those of one problem."""
    if comparison.set_id is None:
        return comparison.result
    sides = store.compared_answers(comparison.id, problem_id)
    return sides if len(sides) == len(_SIDES) else None


def result_html(
    store: Store, run: RunRow, comparison: ComparisonRow, judge: Judge, result: Mapping[str, Any] | None = None
) -> str:
    """The whole result, or what there is of it while it grows, or what went wrong."""
    result = result or comparison.result
    if result is None:
        return _pending(store, comparison) + _growing(run, comparison, judge)
    sides = "".join(_side(name, title, result[name], run, comparison, judge) for name, title in _SIDES)
    return f'{_headline(result, judge)}<div class="compare-grid">{sides}</div>'


def _pending(store: Store, comparison: ComparisonRow) -> str:
    job = comparison.job
    if job.state in (JobState.FAILED, JobState.LOST):
        return error_card(
            "This comparison failed.", job.error_message or job.reason, job.error_hint or "Ask again.", job.error_trace
        )
    if job.state is JobState.STOPPED:
        return note("This comparison was cancelled.", "Ask again when you like.", "idle")
    if job.state is JobState.QUEUED:
        status = store.worker_status()
        if not status.alive:
            return note(
                "Waiting for a worker.",
                "None is running. Start one with `ttrl-studio up`; the question keeps its place.",
                "warn",
            )
        active = store.active_jobs()
        before = f"It begins when “{active[0].title}” has ended or is paused." if active else "It begins in a moment."
        link = link_button("See the queue", "/queue", icon_name="queue")
        links = f'<div class="tt-row">{link}{_stop_button(comparison)}</div>'
        return note("In the queue.", before, "info", body_html=links)
    total = comparison.total or 2 * comparison.num_samples
    share = (comparison.done or 0) / total if comparison.partial_json else None
    words = f"{comparison.done or 0} of {total} answers" if comparison.partial_json else "Loading the base model"
    return card(
        progress(share, f"<b>{words}</b>", label="Progress of the comparison"), "Asking both", _stop_button(comparison)
    )


def _stop_button(comparison: ComparisonRow) -> str:
    stopping = comparison.state is JobState.STOPPING
    words = "Stopping" if stopping else "Stop"
    return action_button("cancel", comparison.job.id, words, title="Ask no more", disabled=stopping)


def _growing(run: RunRow, comparison: ComparisonRow, judge: Judge) -> str:
    """Both sides as far as they have come: one after the other, so that one model is in memory at a time."""
    partial = comparison.partial
    if not partial:
        return ""
    columns = []
    for name, title in _SIDES:
        side = partial.get(name)
        if side is not None and "growing" not in side:
            columns.append(_side(name, title, side, run, comparison, judge))
            continue
        ended = comparison.job.is_terminal
        words = "not asked" if ended else "its turn comes when the base has answered" if side is None else "answering"
        lines = "".join(
            _growing_answer(name, place, each, ended)
            for place, each in enumerate(side["growing"] if side else (), start=1)
        )
        head = f'<span class="tt-muted tt-small">{words}</span>'
        columns.append(card(f'<div class="answers growing">{lines}</div>', title, head, key=f"side-{name}"))
    return f'<div class="compare-grid">{"".join(columns)}</div>'


def _growing_answer(name: str, place: int, answer: Mapping[str, Any], ended: bool) -> str:
    mark = pill("stopped", "idle", "stop") if ended else pill("writing", "live", "spinner")
    mark = pill("done", "good", "check") if answer["ended"] else mark
    opened = " open" if place == 1 else ""
    return (
        f'<details data-key="{name}-{place}"{opened}><summary><span class="tt-muted tt-num">{place}</span> {mark}'
        f'<span class="tt-muted tt-small answer-length tt-num">{answer["length"]:,} tokens</span></summary>'
        f'<pre class="tt-log">{escape(str(answer["text"])[-_TEXT_CHARACTERS:])}</pre></details>'
    )


def _headline(result: Mapping[str, Any], judge: Judge) -> str:
    base, adapted = result["base"]["label"], result["adapted"]["label"]
    right = (
        judge.is_right(base) if base is not None else False,
        judge.is_right(adapted) if adapted is not None else False,
    )
    if judge.reference is None:
        same = base is not None and adapted is not None and judge.task.equivalent(base, adapted, judge.problem)
        return note(
            "Both votes say the same." if same else "The votes differ.",
            "No reference answer is shown, so who is right is for you to judge.",
            "idle",
        )
    reference = f"<p>Reference answer: <b>{escape(judge.task.display(judge.reference))}</b></p>"
    words = {
        (True, True): ("Both votes are right.", "good"),
        (False, True): ("The adapted model is right, the base is not.", "good"),
        (True, False): ("The base is right, the adapted model is not.", "bad"),
        (False, False): ("Neither vote is right.", "warn"),
    }
    title, look = words[bool(right[0]), bool(right[1])]
    return note(title, "", look, body_html=reference)


def _mark(right: bool | None) -> str:
    if right is None:
        return ""
    return pill("right", "good", "check") if right else pill("wrong", "bad", "cross")


def _side(name: str, title: str, side: Mapping[str, Any], run: RunRow, comparison: ComparisonRow, judge: Judge) -> str:
    answers, classes = side["answers"], side["classes"]
    num = max(1, len(answers))
    label = side["label"]
    if label is None:
        vote = f'<span class="tt-muted">No winner: {escape(side["abstained"] or "no answer could be read")}</span>'
    else:
        vote = (
            f'<span class="tt-muted">The vote says</span> <span class="answer-chip">{escape(label)}</span> '
            f"{_mark(judge.is_right(label))}"
        )
    shares = [_share(each["answer"], each["count"], num, judge.is_right(each["answer"])) for each in classes[:8]]
    rest = sum(each["count"] for each in classes[8:])
    if rest:
        shares.append(_share(f"{len(classes) - 8} more answers", rest, num, None, quiet=True))
    unread = len(answers) - sum(each["count"] for each in classes)
    if unread:
        shares.append(_share("no answer found", unread, num, None, quiet=True))
    what = (
        run.model if name == "base" else f"after step {comparison.step:,}" if comparison.step else "its newest weights"
    )
    right = [judge.is_right(answer["answer"]) for answer in answers]
    tally = f" · <b>{sum(map(bool, right))} of {len(answers)} right</b>" if judge.reference is not None else ""
    lines = "".join(
        _answer(name, place, answer, mark)
        for place, (answer, mark) in enumerate(zip(answers, right, strict=True), start=1)
    )
    body = (
        f'<div class="tt-row vote-line">{vote}</div><p class="tt-muted tt-num">Consensus '
        f"{percent(side['consensus'], 0)}{tally}</p>"
        f'<div class="vote-bars">{"".join(shares)}</div><div class="answers">{lines}</div>'
    )
    return card(body, title, f'<span class="tt-muted tt-small">{escape(what)}</span>', key=f"side-{name}")


def _share(answer: str, num: int, of: int, right: bool | None, *, quiet: bool = False) -> str:
    look = "good" if right else "bad" if right is False else "idle" if quiet else ""
    shown = (
        f'<span class="tt-muted">{escape(answer)}</span>'
        if quiet
        else f'<span class="answer-chip">{escape(answer[:200])}</span>'
    )
    return (
        f'<div class="vote-bar"><div class="vote-answer">{shown}</div>'
        f'{bar(num / of, look, label=f"share of answer {answer[:60]}")}<span class="tt-num">{num}</span></div>'
    )


def _answer(name: str, place: int, answer: Mapping[str, Any], right: bool | None) -> str:
    said = answer["answer"]
    chip = (
        f'<span class="answer-chip">{escape(said[:120])}</span>'
        if said is not None
        else f'<span class="tt-muted">{escape(answer["reason"] or "no answer")}</span>'
    )
    cut = pill("cut", "warn", "warning") if answer["finish"] == "length" else ""
    opened = " open" if place == 1 else ""
    return (
        f'<details data-key="{name}-{place}"{opened}><summary><span class="tt-muted tt-num">{place}</span> '
        f"{chip} {_mark(right)} {cut}"
        f'<span class="tt-muted tt-small answer-length">{answer["length"]:,} tokens</span></summary>'
        f"<pre>{escape(str(answer['text'])[:_TEXT_CHARACTERS])}</pre></details>"
    )


def earlier_html(run: RunRow, comparisons: list[ComparisonRow], current: int | None, now: float) -> str:
    """Earlier questions to this run, newest first."""
    if not comparisons:
        return ""
    rows = []
    for each in comparisons:
        url = f"/compare?run={run.id}&id={each.id}"
        result = each.result
        votes = " → ".join(_label(result, name) for name, _ in _SIDES) if result else state_pill(each.state)
        rows.append(
            row(
                [
                    f'<a href="{url}" class="tt-strong"><span class="tt-clip">{escape(each.prompt[:200])}</span></a>',
                    votes,
                    f"{each.num_samples} at {number(each.temperature, 1)}",
                    escape(moment(each.created_at, now)),
                ],
                key=each.id,
                wrap=(0,),
                selected=each.id == current,
            )
        )
    return card(
        table(("Problem", "Base → adapted", "Answers", "Asked"), rows, "Earlier questions"),
        "Earlier questions",
        flush=True,
    )


def _label(result: Mapping[str, Any], name: str) -> str:
    label = result[name]["label"]
    return (
        f'<span class="answer-chip">{escape(label[:40])}</span>'
        if label is not None
        else '<span class="tt-muted">no winner</span>'
    )
