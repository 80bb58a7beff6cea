"""The table of flips: where the answers come from, counts that filter, a search, and problems fifty at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from app.actions import action_button
from app.choices import Choices
from app.components import card, empty, escape, note, pill, progress
from app.evaluations import SplitSeries, gain_words, rate_words, sample_size, split_series
from app.flips import VERDICTS, Filter, Flip, Said, Verdict, compared_flips, flips
from app.format import interval, percent, points
from app.mathtext import answer_html, math_html
from app.pages.runs_pair_view import p_words
from app.spot_checks import answer_rule
from ttrl_engine.stats import mcnemar_exact, paired_gain, wilson_interval
from worker.rows import ComparisonRow, EvaluationRow, ProblemRow, RunRow
from worker.store import Store
from worker.store.comparisons import rule_of

PAGE_SIZE = 50
LEAST_P = 0.05
_PROMPT_CHARACTERS = 600
_MOST_QUERY = 100
_LOOKS: dict[Verdict, str] = {"to_right": "good", "to_wrong": "bad", "both_right": "idle", "both_wrong": "idle"}
_FILTERS: dict[Filter, str] = {
    "all": "All",
    "to_right": VERDICTS["to_right"],
    "to_wrong": VERDICTS["to_wrong"],
    "both_right": VERDICTS["both_right"],
    "both_wrong": VERDICTS["both_wrong"],
    "different": "Different answers",
    "same": "Same answer",
}
_VIEW = re.compile(rf"([sc])(\d{{1,9}})\.({'|'.join(_FILTERS)})\.(\d{{1,6}})\.(\d{{1,9}})", re.ASCII)


@dataclass(frozen=True)
class View:
    """Which flips are shown: of the split at a place in the list of scores, or of the comparison over a set with this
    id; the filter; the page from 1; the step whose scores stand against the base's, 0 for the newest; a search."""

    place: int = 0
    compared: int | None = None
    wanted: Filter = "all"
    page: int = 1
    step: int = 0
    query: str = ""

    @property
    def text(self) -> str:
        source = f"s{self.place}" if self.compared is None else f"c{self.compared}"
        return f"{source}.{self.wanted}.{self.page}.{self.step}"


def parse_view(text: str, query: str = "") -> View:
    """A view from an address or a click; anything else is the first view."""
    found = _VIEW.fullmatch(text)
    if found is None:
        return View(query=query.strip()[:_MOST_QUERY])
    number = int(found[2])
    wanted = next(name for name in _FILTERS if name == found[3])
    place, compared = (number, None) if found[1] == "s" else (0, number)
    return View(place, compared, wanted, max(1, int(found[4])), int(found[5]), query.strip()[:_MOST_QUERY])


def picked_view(value: str) -> View:
    """The view that a click or an entry asks for: `view:VIEW:QUERY`, `step.VIEW:STEP` or `find.VIEW:QUERY`."""
    if value.startswith("step."):
        head, _, number = value.removeprefix("step.").rpartition(":")
        text, _, query = head.partition("~")
        step = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
        return replace(parse_view(text, query), step=step, page=1)
    what, _, rest = value.partition(":")
    if what.startswith("find."):
        return replace(parse_view(what.removeprefix("find."), rest), page=1)
    text, _, query = rest.partition(":")
    return parse_view(text, query)


@dataclass(frozen=True)
class ScoresPart:
    """The bar above the table and the table; the table goes into a Markdown part that draws formulas. `compared` is the
    comparison over a set that is shown."""

    bar_html: str
    table_html: str
    compared: int | None = None


def readable(store: Store, comparison: ComparisonRow) -> bool:
    """Whether the names may be shown; one that is judged blindly may not be read before its session has ended."""
    session = store.blind_session_of(comparison.id)
    return session is None or session.ended_at is not None


def scores_part(choices: Choices, run: RunRow, view: View) -> ScoresPart:
    """What stored evaluations and comparisons over sets say of each problem; no model is needed."""
    store = choices.services.store
    found = [series for series in split_series(store.evaluations(run.id)) if series.base is not None]
    compared = store.set_comparisons(run.id)
    if not found and not compared:
        text = (
            "Scores appear once the base model has been evaluated on problems with reference answers: "
            "held-out ones, or a benchmark. Below, both models can be asked about any set, with or without answers."
        )
        return ScoresPart(card(empty("No scores of single problems yet", text, icon_name="chart")), "")
    asked = store.comparison(view.compared) if view.compared is not None else None
    chosen = next((each for each in compared if asked is not None and each.id == asked.id), None)
    if chosen is None and asked is not None and asked.run_id == run.id and asked.set_id and readable(store, asked):
        chosen = asked
        compared.append(asked)
    if chosen is None and not found:
        chosen = compared[0]
    tabs = _tabs(choices, run, found, compared, chosen, view)
    if chosen is not None:
        view = replace(view, compared=chosen.id, place=0, step=0)
        head = tabs + _progress(chosen)
        pairs = compared_flips(store, chosen, rule_of(run, chosen))
        return _part(run, view, pairs, head, chosen.set_id, chosen)
    series = found[min(view.place, len(found) - 1)]
    steps = [row.step for row in series.rows if row.step > 0]
    step = view.step if view.step in steps else series.newest.step
    view = replace(view, compared=None, place=found.index(series), step=step if step in steps[:-1] else 0)
    set_id = set_of(choices, run, series)
    pairs = flips(store, run.id, series, answer_rule(store, run), set_id, step)
    scored = next(row for row in series.rows if row.step == step)
    head = tabs + _step_choice(view, steps, step) + _sentence(series, scored)
    if not pairs:
        text = "The adapted model has not been evaluated so far; the base scores are in."
        return ScoresPart(card(head + note("Not compared yet.", text, "idle"), "Who flipped which way"), "")
    return _part(run, view, pairs, head, set_id, None)


def _part(
    run: RunRow, view: View, pairs: list[Flip], head: str, set_id: str | None, comparison: ComparisonRow | None
) -> ScoresPart:
    held = [flip for flip in pairs if flip.holds(view.query)] if view.query else pairs
    shown = [flip for flip in held if flip.passes(view.wanted)]
    pages = max(1, -(-len(shown) // PAGE_SIZE))
    view = replace(view, page=min(view.page, pages))
    bar = head
    if pairs:
        bar += votes_sentence(pairs) + _filters(run, held, view) + _pager(run, view, len(shown), pages)
    on_page = shown[(view.page - 1) * PAGE_SIZE : view.page * PAGE_SIZE]
    rows = "".join(_row(run, set_id, flip, comparison) for flip in on_page)
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("Problem", "Base", "Adapted", "Vote"))
    table = (
        f'<div class="tt-table-wrap flips"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
    compared = comparison.id if comparison else None
    return ScoresPart(card(bar, "Who flipped which way"), table if on_page else "", compared)


def _href(run: RunRow, view: View) -> str:
    return "/compare?" + urlencode({"run": run.id, "view": view.text, **({"find": view.query} if view.query else {})})


def _pick(run: RunRow, view: View, label_html: str, *, current: bool, look: str = "seg") -> str:
    mark = ' aria-current="true"' if current else ""
    return (
        f'<a class="{look}" href="{escape(_href(run, view))}" data-pick="{escape(f"view:{view.text}:{view.query}")}" '
        f'data-key="view-{view.text}"{mark}>{label_html}</a>'
    )


def _tabs(
    choices: Choices,
    run: RunRow,
    found: list[SplitSeries],
    compared: list[ComparisonRow],
    chosen: ComparisonRow | None,
    view: View,
) -> str:
    place = min(view.place, len(found) - 1)
    links = [
        _pick(run, View(number), escape(series.title), current=chosen is None and number == place)
        for number, series in enumerate(found)
    ]
    for each in compared:
        own = choices.services.store.problem_set(each.set_id or "")
        step = f", step {each.step:,}" if each.step else ""
        name = f"Asked: {own.name.removeprefix('bundled:') if own else 'a set'}, {len(each.problem_ids):,}{step}"
        links.append(_pick(run, View(compared=each.id), escape(name), current=each is chosen))
    return f'<nav class="segs" aria-label="Which problems">{"".join(links)}</nav>'


def _step_choice(view: View, steps: list[int], step: int) -> str:
    if len(steps) < 2:
        return ""
    options = "".join(
        f'<option value="{0 if each == steps[-1] else each}"{" selected" if each == step else ""}>after step '
        f"{each:,}{' (newest)' if each == steps[-1] else ''}</option>"
        for each in steps
    )
    name = escape(f"step.{view.text}~{view.query}")
    return f'<label class="tt-select">Base against <select data-pick-name="{name}">{options}</select></label>'


def _sentence(series: SplitSeries, scored: EvaluationRow) -> str:
    base = series.base
    assert base is not None
    if scored.step == 0:
        return f'<p class="tt-muted">Base {rate_words(base)}, {sample_size(base)}.</p>'
    return (
        f"<p>pass@1 of the base <b>{rate_words(base)}</b>, after step {scored.step:,} <b>{rate_words(scored)}</b>, "
        f'gain <b>{gain_words(scored)}</b>. <span class="tt-muted">{sample_size(scored)}; brackets are 95 % '
        "intervals.</span></p>"
    )


def votes_sentence(pairs: list[Flip]) -> str:
    """What the votes come to: flips both ways with the exact McNemar test, or how many answers are the same."""
    num = len(pairs)
    same = sum(flip.same for flip in pairs)
    low, high = wilson_interval(same, num)
    agree = f"Both give the same answer to <b>{same:,} of {num:,}</b> ({percent(same / num)} {interval(low, high)})."
    judged = [flip for flip in pairs if flip.verdict is not None]
    if not judged:
        return f'<p>{agree} <span class="tt-muted">No reference answers: who is right is not known.</span></p>'
    won = sum(flip.verdict == "to_right" for flip in judged)
    lost = sum(flip.verdict == "to_wrong" for flip in judged)
    before = [float(bool(flip.base.right)) for flip in judged]
    after = [float(bool(flip.adapted.right)) for flip in judged]
    gain, low, high = paired_gain(before, after)
    p = mcnemar_exact(lost, won)
    change = f"{points(gain)} {interval(low, high, signed=True)}"
    change = change if p < LEAST_P and (low > 0 or high < 0) else f"not established ({change})"
    unknown = f" {num - len(judged):,} without a reference answer are left out." if len(judged) < num else ""
    return (
        f'<p data-key="votes">By vote <b>{won:,}</b> flipped to right and <b>{lost:,}</b> to wrong, <b>{change}</b>. '
        f'<span class="tt-muted">n = {len(judged):,} problems, exact McNemar {escape(p_words(p))}.{unknown}</span> '
        f"{agree}</p>"
    )


def _filters(run: RunRow, pairs: list[Flip], view: View) -> str:
    links = []
    judged = any(flip.verdict is not None for flip in pairs)
    for wanted, words in _FILTERS.items():
        if wanted in VERDICTS and not judged and view.wanted != wanted:
            continue
        num = sum(flip.passes(wanted) for flip in pairs)
        there = replace(view, wanted=wanted, page=1)
        links.append(_pick(run, there, f"{words} <b>{num:,}</b>", current=view.wanted == wanted))
    address = escape(_href(run, replace(view, query="", page=1)) + "&find=")
    find = (
        '<label class="flips-find"><span class="tt-sr">Find in problems and answers</span><input type="search" '
        f'data-pick-name="find.{view.text}" data-href="{address}" maxlength="{_MOST_QUERY}" data-key="find" '
        f'placeholder="Find in problems and answers" value="{escape(view.query)}"></label>'
    )
    return (
        f'<div class="flips-bar compare-bar"><nav class="segs" aria-label="Filter">{"".join(links)}</nav>{find}</div>'
        '<p class="tt-muted tt-small">Right, wrong and same speak of the vote of the samples.</p>'
    )


def _pager(run: RunRow, view: View, total: int, pages: int) -> str:
    if not total:
        return '<p class="tt-muted flips-none">No problem does that. Choose “All”, or clear the search.</p>'
    if pages == 1:
        return ""
    look = "tt-btn tt-btn-small"
    before = replace(view, page=view.page - 1)
    after = replace(view, page=view.page + 1)
    return (
        f'<div class="tt-row">{_pick(run, before, "Previous", current=False, look=look) if view.page > 1 else ""}'
        f'<span class="tt-muted">Page {view.page} of {pages}, {total:,} problems</span>'
        f"{_pick(run, after, 'Next', current=False, look=look) if view.page < pages else ''}</div>"
    )


def _progress(comparison: ComparisonRow) -> str:
    """How far a comparison over a set is, with the button that ends it; empty once it has ended well."""
    job = comparison.job
    if job.state == "finished":
        return ""
    if job.is_terminal:
        why = job.error_message or job.reason or ""
        return note("This comparison did not end.", f"{why} What was answered by then is below.", "warn")
    total = comparison.total or 0
    words = f"{comparison.done or 0:,} of {total:,} answers" if total else f"{str(job.state).capitalize()}"
    stop = action_button("cancel", job.id, "Stop", title="Keep what has been answered and ask no more")
    share = (comparison.done or 0) / total if total else None
    return progress(share, f"<b>{words}</b>", stop, label="Progress of the comparison")


def _row(run: RunRow, set_id: str | None, flip: Flip, comparison: ComparisonRow | None) -> str:
    problem = flip.problem
    text = '<span class="tt-muted">not stored here</span>'
    links = ""
    if problem is not None:
        text = math_html(problem.prompt, limit=_PROMPT_CHARACTERS)
        links = f" · {_link({'run': run.id, 'problem': flip.problem_id, 'set': set_id or ''}, 'Ask both')}"
    if comparison is not None:
        read = _link({"run": run.id, "id": comparison.id, "problem": flip.problem_id}, "Read the answers")
        links = f" · {read}{links}"
    verdict = flip.verdict
    mark = pill("Same answer" if flip.same else "Different answers", "idle" if flip.same else "live")
    mark = pill(VERDICTS[verdict], _LOOKS[verdict]) if verdict is not None else mark
    return (
        f'<tr><td><div class="flip-text">{text}</div><div class="tt-small tt-muted">'
        f"{math_html(flip.problem_id, limit=80)}{_reference(problem)}{links}</div></td>"
        f"<td>{_said(flip.base)}</td><td>{_said(flip.adapted)}</td><td>{mark}</td></tr>"
    )


def _link(parts: dict[str, object], text: str) -> str:
    return f'<a href="{escape("/compare?" + urlencode(parts))}" target="_self">{text}</a>'


def _reference(problem: ProblemRow | None) -> str:
    if problem is None or problem.reference is None:
        return ""
    return f' · reference <span class="answer-chip">{answer_html(problem.reference[:120])}</span>'


def _said(said: Said) -> str:
    """The answer that the vote elected, and how many samples stand behind it or are right."""
    answer = '<span class="tt-muted">no winner</span>'
    if said.answer is not None:
        answer = f'<span class="answer-chip">{answer_html(said.answer[:120])}</span>'
    if said.num_right is not None:
        share, words = said.num_right / max(1, said.num_samples), f"{said.num_right} of {said.num_samples} right"
    else:
        share = said.consensus or 0.0
        words = f"{round(share * said.num_samples)} of {said.num_samples} agree"
    # No progress bar role: the number beside it says the same, and Markdown strips the label such a role needs.
    look = "tt-bar-good" if said.num_right is not None else "tt-bar-c1"
    fill = f'<span class="tt-bar tt-bar-thin {look}"><i style="width:{100 * share:.0f}%"></i></span>'
    return f'<div class="tally">{answer}<span class="tt-num tt-small tt-muted">{words}</span>{fill}</div>'


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
