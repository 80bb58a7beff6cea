"""The problems of a run: a table of all, and the vote of one over the steps, down to the answers themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from app import components as ui
from app.charts import Chart, Series
from app.format import percent
from app.mathtext import math_html
from worker.rows import ElectionRow, ProblemOverviewRow, ProblemRow, RunRow

PAGE_SIZE = 50
SHOWN_CLASSES = 6

SORTS: dict[str, str] = {
    "set": "Order of the set",
    "low": "Least agreement first",
    "flips": "Most changes of label first",
    "wrong": "Wrong labels first",
    "gain": "Agreement rose most",
}
_KEYS: dict[str, Callable[[ProblemOverviewRow], Any]] = {
    "low": lambda row: row.consensus_last,
    "flips": lambda row: -row.flips,
    "wrong": lambda row: (row.label_correct is not False, row.consensus_last),
    "gain": lambda row: row.consensus_first - row.consensus_last,
}


@dataclass(frozen=True)
class View:
    """What the visitor looks at; `sort` is a key of SORTS, `page` counts from 0."""

    sort: str = "set"
    page: int = 0
    problem: str | None = None
    step: int | None = None


def problem_url(run_id: int, problem_id: str, step: int | None = None) -> str:
    """The address of one problem of a run, and of one of its steps."""
    return f"/run?id={run_id}&problem={quote(problem_id, safe='')}" + (f"&step={step}" if step is not None else "")


def problems_table(run: RunRow, overview: Sequence[ProblemOverviewRow], view: View) -> str:
    """One line per problem that has voted."""
    if not overview:
        return ui.card(
            ui.empty("No vote yet", "Each problem appears here once its first vote is held.", icon_name="chart")
        )
    ordered = sorted(overview, key=_KEYS[view.sort]) if view.sort in _KEYS else list(overview)
    last_page = (len(ordered) - 1) // PAGE_SIZE
    page = min(max(view.page, 0), last_page)
    rows = [
        _problem_row(run, row, row.problem_id == view.problem)
        for row in ordered[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
    ]
    heads = ("Problem", "Label now", "Consensus", "Since the start", "Changes", "Label is", "Last vote")
    right = (4, 6)
    table = ui.table(heads, rows, "Problems of this run, one line each; choose one to see its votes", right=right)
    return ui.card(
        table + _pager(page, last_page), f"{len(overview):,} problems have voted", _sorter(view.sort), flush=True
    )


def _sorter(chosen: str) -> str:
    options = "".join(
        f'<option value="{key}"{" selected" if key == chosen else ""}>{ui.escape(words)}</option>'
        for key, words in SORTS.items()
    )
    return (
        '<label class="tt-select"><span class="tt-sr">Order of the problems</span>'
        f'<select data-pick-name="sort">{options}</select></label>'
    )


def _pager(page: int, last_page: int) -> str:
    if last_page == 0:
        return ""
    back = (
        f'<button type="button" class="tt-btn tt-btn-small" data-pick="page:{page - 1}'
        f'"{" disabled" if page == 0 else ""}>Back</button>'
    )
    on = (
        f'<button type="button" class="tt-btn tt-btn-small" data-pick="page:{page + 1}'
        f'"{" disabled" if page == last_page else ""}>Next</button>'
    )
    return (
        f'<div class="tt-row tt-pager">{back}<span class="tt-muted">Page {page + 1} of {last_page + 1}</span>{on}</div>'
    )


def _problem_row(run: RunRow, row: ProblemOverviewRow, selected: bool) -> str:
    url = problem_url(run.id, row.problem_id)
    name = row.prompt or row.problem_id
    link = (
        f'<a href="{ui.escape(url)}" data-pick="problem:{ui.escape(row.problem_id)}" '
        f'data-scroll="run-tabs" class="tt-clip">{ui.escape(name[:400])}</a>'
    )
    agreement = (
        f'<div class="tt-cell-bar">{ui.bar(row.consensus_last, label="Consensus", thin=True)}<span>'
        f"{percent(row.consensus_last, 0)}</span></div>"
    )
    label = (
        f'<span class="tt-clip">{ui.escape(row.last_label)}</span>'
        if row.last_label is not None
        else '<span class="tt-muted">none elected</span>'
    )
    change = f"{percent(row.consensus_first, 0)} to {percent(row.consensus_last, 0)}"
    cells = [
        link,
        label,
        agreement,
        change,
        str(row.flips),
        verdict(row.label_correct, row.reference),
        f"step {row.last_step:,}",
    ]
    return ui.row(cells, key=row.problem_id, right=(4, 6), wrap=(0,), selected=selected)


def verdict(correct: bool | None, reference: str | None = None) -> str:
    """Whether a label equals the reference, as icon and word; unknown without one."""
    if correct is None:
        return '<span class="tt-muted">unknown</span>'
    if correct:
        return ui.pill("right", "good", "check")
    hint = f' <span class="tt-muted tt-small">reference {ui.escape(reference[:60])}</span>' if reference else ""
    return ui.pill("wrong", "bad", "cross") + hint


# --- one problem ---------------------------------------------------------------------------------------------------


def problem_head(run: RunRow, problem: ProblemRow | None, problem_id: str, history: Sequence[ElectionRow]) -> str:
    """The heading above one problem: where it stands."""
    newest = history[-1] if history else None
    facts = [ui.chip("votes held", len(history))]
    if newest is not None:
        facts.append(ui.chip("agreement now", percent(newest.consensus, 0)))
        facts.append(ui.chip("ahead of the second answer by", percent(newest.margin, 0)))
        labels = [election.label for election in history if election.label is not None]
        facts.append(ui.chip("changes of label", sum(a != b for a, b in pairwise(labels))))
    if problem is not None and problem.reference is not None:
        facts.append(ui.chip("reference, only to measure", problem.reference[:80]))
    compare = ui.link_button(
        "Compare base and adapted on it",
        f"/compare?run={run.id}&problem={quote(problem_id, safe='')}",
        icon_name="compare",
        look="small",
    )
    close = f'<a class="tt-btn tt-btn-small" href="/run?id={run.id}" data-pick="problem:">Close</a>'
    title = (
        f'<div class="tt-card-head"><h2>Problem {ui.escape(problem_id)}</h2><div class="tt-row">'
        f"{compare}{close}</div></div>"
    )
    return f'<div class="tt-stack">{title}<div class="tt-chips">{"".join(facts)}</div></div>'


def problem_markdown(problem: ProblemRow | None) -> str:
    """The prompt with its formulas, as `gr.Markdown` takes it; empty where the problem is not stored."""
    return f'<div class="tt-prompt">{math_html(problem.prompt, limit=6000)}</div>' if problem is not None else ""


def vote_chart(run: RunRow, problem_id: str, history: Sequence[ElectionRow], step: int | None) -> Chart:
    """The votes of one problem, step by step, stacked by answer. The largest classes of the whole run get a colour."""
    totals: dict[str, int] = {}
    right: set[str] = set()
    for election in history:
        for part in election.classes:
            totals[part.answer] = totals.get(part.answer, 0) + part.count
            if part.correct:
                right.add(part.answer)
    shown = sorted(totals, key=lambda answer: (answer not in right, -totals[answer]))[: SHOWN_CLASSES - 1]
    # The right answer, where it is known, is always the same green.
    free = iter([color for color in (1, 2, 4, 7, 6, 3) if not (right and color == 3)])
    series = []
    for answer in shown:
        points = [
            (election.step, next((part.count for part in election.classes if part.answer == answer), 0))
            for election in history
        ]
        title = f"{_short(answer)} (right)" if answer in right else _short(answer)
        series.append(Series(title, points, 3 if answer in right else next(free)))
    others = [
        (e.step, max(0, e.num_rollouts - e.num_unparsed - sum(p.count for p in e.classes if p.answer in shown)))
        for e in history
    ]
    if any(count for _, count in others):
        series.append(Series("Other answers", others, 8))
    unread = [(e.step, e.num_unparsed) for e in history]
    if any(count for _, count in unread):
        series.append(Series("Unreadable", unread, 5))
    newest = history[-1] if history else None
    label = newest.label if newest is not None and newest.label is not None else "no label"
    text = (
        (
            f"At step {newest.step} {percent(newest.consensus, 0)} of {newest.num_rollouts} votes went to "
            f"the winner ({_short(label)}). Click a bar to read its answers."
        )
        if newest
        else ""
    )
    return Chart(
        f"votes-{problem_id}",
        "Votes of this problem over the steps",
        series,
        "count",
        kind="stack",
        smooth=False,
        text=text,
        pick="step",
        pick_url=f"{problem_url(run.id, problem_id)}&step=",
        chosen=step,
        file=f"run-{run.id}-votes",
    )


def _short(answer: str) -> str:
    line = " ".join(answer.split())
    return line if len(line) <= 48 else f"{line[:47]}…"
