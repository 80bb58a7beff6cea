"""The table of flips: counts that filter, and problems with their formulas, fifty at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from app.choices import Choices
from app.components import card, empty, escape, note, pill
from app.evaluations import SplitSeries, gain_words, rate_words, sample_size, split_series
from app.flips import VERDICTS, Flip, Verdict, flips
from app.mathtext import math_html
from worker.rows import ProblemRow, RunRow

PAGE_SIZE = 50
_PROMPT_CHARACTERS = 600
_LOOKS: dict[Verdict, str] = {"to_right": "good", "to_wrong": "bad", "both_right": "idle", "both_wrong": "idle"}


@dataclass(frozen=True)
class View:
    """Which flips are shown: the split by its place in the list, the verdict ("all" for every one), the page from 1."""

    place: int = 0
    verdict: str = "all"
    page: int = 1

    @property
    def text(self) -> str:
        return f"{self.place}.{self.verdict}.{self.page}"


def parse_view(text: str) -> View:
    """A view from an address or a click; anything else is the first view."""
    found = re.fullmatch(r"(\d{1,3})\.(all|to_right|to_wrong|both_right|both_wrong)\.(\d{1,6})", text, re.ASCII)
    return View(int(found[1]), found[2], max(1, int(found[3]))) if found else View()


@dataclass(frozen=True)
class ScoresPart:
    """The bar above the table and the table; the table goes into a Markdown part that draws formulas."""

    bar_html: str
    table_html: str


def scores_part(choices: Choices, run: RunRow, view: View) -> ScoresPart:
    """What the stored evaluations say of each problem; no model is needed."""
    found = [series for series in split_series(choices.services.store.evaluations(run.id)) if series.base is not None]
    if not found:
        text = (
            "Scores appear once the base model has been evaluated on problems with reference answers: "
            "held-out ones, or a benchmark."
        )
        return ScoresPart(card(empty("No scores of single problems yet", text, icon_name="chart")), "")
    series = found[min(view.place, len(found) - 1)]
    view = replace(view, place=found.index(series))
    pairs = flips(choices.services.store, run.id, series)
    shown = [flip for flip in pairs if view.verdict in ("all", flip.verdict)]
    pages = max(1, -(-len(shown) // PAGE_SIZE))
    view = replace(view, page=min(view.page, pages))
    parts = [_tabs(run, found, view), _sentence(series)]
    if not pairs:
        parts.append(
            note(
                "Not compared yet.", "The adapted model has not been evaluated so far; the base scores are in.", "idle"
            )
        )
    else:
        parts += [_filters(run, pairs, view), _pager(run, view, len(shown), pages)]
    on_page = shown[(view.page - 1) * PAGE_SIZE : view.page * PAGE_SIZE]
    return ScoresPart(
        card("".join(parts), "Who flipped which way"), _table(choices, run, series, on_page) if on_page else ""
    )


def _pick(run: RunRow, view: View, label_html: str, *, current: bool, look: str = "seg") -> str:
    href = "/compare?" + urlencode({"run": run.id, "view": view.text})
    mark = ' aria-current="true"' if current else ""
    return (
        f'<a class="{look}" href="{escape(href)}" data-pick="view:{view.text}" '
        f'data-key="view-{view.text}"{mark}>{label_html}</a>'
    )


def _tabs(run: RunRow, found: list[SplitSeries], view: View) -> str:
    links = [
        _pick(run, View(place, view.verdict), escape(series.title), current=place == view.place)
        for place, series in enumerate(found)
    ]
    return f'<nav class="segs" aria-label="Which problems">{"".join(links)}</nav>'


def _sentence(series: SplitSeries) -> str:
    base, newest = series.base, series.newest
    assert base is not None
    if newest.step == 0:
        return f'<p class="tt-muted">Base {rate_words(base)}, {sample_size(base)}.</p>'
    return (
        f"<p>pass@1 of the base <b>{rate_words(base)}</b>, after step {newest.step:,} <b>{rate_words(newest)}</b>, "
        f'gain <b>{gain_words(newest)}</b>. <span class="tt-muted">{sample_size(newest)}; brackets are 95 % '
        "intervals.</span></p>"
    )


def _filters(run: RunRow, pairs: list[Flip], view: View) -> str:
    links = [_pick(run, View(view.place, "all"), f"All <b>{len(pairs)}</b>", current=view.verdict == "all")]
    for verdict, words in VERDICTS.items():
        num = sum(flip.verdict == verdict for flip in pairs)
        links.append(_pick(run, View(view.place, verdict), f"{words} <b>{num}</b>", current=view.verdict == verdict))
    return (
        f'<nav class="segs" aria-label="Filter">{"".join(links)}</nav><p class="tt-muted tt-small">Right and '
        "wrong speak of the vote of the samples.</p>"
    )


def _pager(run: RunRow, view: View, total: int, pages: int) -> str:
    if not total:
        return '<p class="tt-muted">No problem did that.</p>'
    if pages == 1:
        return ""
    before = (
        _pick(run, replace(view, page=view.page - 1), "Previous", current=False, look="tt-btn tt-btn-small")
        if view.page > 1
        else ""
    )
    after = (
        _pick(run, replace(view, page=view.page + 1), "Next", current=False, look="tt-btn tt-btn-small")
        if view.page < pages
        else ""
    )
    return f'<div class="tt-row">{before}<span class="tt-muted">Page {view.page} of {pages}</span>{after}</div>'


def _table(choices: Choices, run: RunRow, series: SplitSeries, shown: list[Flip]) -> str:
    set_id = set_of(choices, run, series)
    rows = "".join(_row(choices, run, set_id, flip) for flip in shown)
    heads = (
        '<tr><th scope="col">Problem</th><th scope="col">Base</th><th scope="col">Adapted</th><th '
        'scope="col">Vote</th></tr>'
    )
    return f'<div class="tt-table-wrap flips"><table><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'


def _row(choices: Choices, run: RunRow, set_id: str | None, flip: Flip) -> str:
    problem = choices.services.store.problem(set_id, flip.problem_id) if set_id else None
    text = (
        math_html(problem.prompt, limit=_PROMPT_CHARACTERS)
        if problem
        else '<span class="tt-muted">not stored here</span>'
    )
    ask = ""
    if problem is not None:
        href = "/compare?" + urlencode({"run": run.id, "problem": flip.problem_id, "set": set_id or ""})
        ask = f' · <a href="{escape(href)}" target="_self">Ask both</a>'
    return (
        f'<tr><td><div class="flip-text">{text}</div><div class="tt-small tt-muted">'
        f"{math_html(flip.problem_id, limit=80)}{ask}</div></td>"
        f"<td>{_tally(flip.base.num_correct, flip.base.num_samples)}</td><td>"
        f"{_tally(flip.adapted.num_correct, flip.adapted.num_samples)}</td>"
        f"<td>{pill(VERDICTS[flip.verdict], _LOOKS[flip.verdict])}</td></tr>"
    )


def _tally(right: int, of: int) -> str:
    # No progress bar role: the number beside it says the same, and Markdown strips the label such a role needs.
    fill = f'<span class="tt-bar tt-bar-thin tt-bar-good"><i style="width:{100 * right / max(1, of):.0f}%"></i></span>'
    return f'<div class="tally"><span class="tt-num">{right} of {of}</span>{fill}</div>'


def set_of(choices: Choices, run: RunRow, series: SplitSeries) -> str | None:
    """The stored set that a split's problems come from."""
    if series.split != "benchmark":
        return run.set_id
    if series.problem_set.startswith(("bundled:", "set:")):
        found = choices.find_set(series.problem_set)
        return found.id if found else None
    for ref in run.config.data.benchmarks:
        candidate = choices.find_set(ref)
        if candidate is not None and candidate.name == series.problem_set:
            return candidate.id
    return None


def sets_of(choices: Choices, run: RunRow) -> list[str]:
    """Every stored set whose problems a run trained or measured on, its own first."""
    found = [run.set_id]
    for ref in run.config.data.benchmarks:
        benchmark = choices.find_set(ref)
        if benchmark is not None and benchmark.id not in found:
            found.append(benchmark.id)
    return found


def find_problem(choices: Choices, run: RunRow, problem_id: str, set_id: str = "") -> ProblemRow | None:
    """A problem of the run's sets by id, in the set that is named if it is one of them."""
    allowed = sets_of(choices, run)
    for candidate in [set_id] if set_id in allowed else allowed:
        problem = choices.services.store.problem(candidate, problem_id)
        if problem is not None:
            return problem
    return None
