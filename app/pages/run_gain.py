"""Where the gain came from: the scores of single problems, base against newest, taken apart; and the control."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from app import components as ui
from app.actions import action_button
from app.evaluations import SplitSeries, gain_words, sample_size, split_series
from app.format import interval, percent, points
from app.gain_curves import base_noise
from app.interval_picture import interval_picture
from app.pages.run_control import against_control, control_of, is_control
from app.pages.runs_pair import paired_tests
from app.pages.runs_pair_view import p_words
from app.services import Services
from ttrl_engine.gains import Bin, Pair, Part, Source, by_difficulty, by_length, count, pair_up, sources
from ttrl_engine.stats import mcnemar_exact
from worker.rows import EvaluationRow, RunRow, ScoreRow

SHOWN_PROBLEMS = 40

_SOURCES: dict[Source, tuple[str, str]] = {
    "sharpening": ("Sharpening", "the right answer was already among the base's samples, now it comes more often"),
    "new": ("New", "none of the base's samples was right"),
    "format": ("Format", "answers that became readable, at the rate at which readable ones are right"),
    "lost": ("Lost", "right less often than before"),
}
_LUCK = (
    "“By luck” is what scoring the unchanged base a second time is expected to show: problems it happened to fail "
    "come out better, problems it happened to get right come out worse. A part is established only where its whole "
    "95 % interval lies farther from 0 than that; only the parts of one split add up, not those of several. With a "
    "dozen parts and bins, expect about one to stand out by chance."
)


def gain_view(services: Services, run: RunRow, evaluations: Sequence[EvaluationRow]) -> str:
    """The whole section: every split that was scored before and after, then the control."""
    parts = [
        _split_card(services, run, series)
        for series in split_series(evaluations)
        if series.base is not None and series.newest.step > 0
    ]
    if not parts:
        text = (
            "It appears once base and adapted model have been scored on problems with reference answers."
            if run.set_num_references or run.config.data.benchmarks
            else "Unknown: this problem set has no reference answers. A labelled benchmark would measure the gain."
        )
        return ui.card(ui.empty("Where the gain came from", text, icon_name="chart"))
    return (
        "".join(parts) + ui.card(f'<p class="tt-muted">{_LUCK}</p>', "How to read this") + control_card(services, run)
    )


def control_token(services: Services, run: RunRow) -> str:
    """Changes when the control of the run does; empty where there is none."""
    control = control_of(services.store, run)
    return f"{control.id}:{services.store.change_token(control.id)}" if control is not None else ""


# --- one split ----------------------------------------------------------------------------------------------------


def _split_card(services: Services, run: RunRow, series: SplitSeries) -> str:
    before = services.store.scores(run.id, 0, series.split, series.problem_set)
    after = services.store.scores(run.id, series.newest.step, series.split, series.problem_set)
    pairs = pair_up(before, after)
    if not pairs:
        return ui.card('<p class="tt-muted">The scores of single problems are not stored.</p>', _title(series))
    found = sources(pairs)
    gain = f"Gain <b>{ui.escape(gain_words(series.newest))}</b>, {ui.escape(sample_size(series.newest))}, step "
    body = [
        f"<p>{gain}{series.newest.step:,}. {ui.escape(_sentence(found))}</p>",
        f'<p class="tt-muted tt-small">{ui.escape(_noise_words(before))}</p>',
        _sources_table(found, series),
        f'<p class="tt-muted tt-small">{_caveats(pairs, found, before[0])}</p>',
        f"<p>{ui.escape(count_words(pairs))}</p>",
        f'<p class="tt-muted tt-small">{ui.escape(_reading_words(before, after))}</p>',
        _bins_table("By difficulty at the start", "Base right in", by_difficulty(pairs), series),
        _bins_table("By length of the base's answers", "Base answers", by_length(pairs), series),
        _problem_list("Degraded: the vote was right and is wrong now", run, series, _degraded(pairs)),
        _problem_list("New: no base sample was right, some are now", run, series, _new(pairs)),
    ]
    return ui.card(f'<div class="tt-stack">{"".join(body)}</div>', _title(series), key=f"gain-{series.title}")


def _title(series: SplitSeries) -> str:
    return f"Where the gain came from: {series.title.lower()}"


def _sentence(found: Sequence[Part]) -> str:
    known = [part for part in found if _stands(part.low, part.high, part.luck)]
    if not known:
        return "No part of it stands out from the luck of sampling."
    words = [f"{_SOURCES[part.source][0].lower()} {points(part.gain)}" for part in known]
    return f"Beyond luck: {', '.join(words)}. The parts add up to the gain."


def _stands(low: float, high: float, luck: float | None) -> bool:
    """Whether a whole interval lies farther from 0 than luck would carry it."""
    return low > max(0.0, luck or 0.0) or high < min(0.0, luck or 0.0)


def _noise_words(before: Sequence[ScoreRow]) -> str:
    noise = base_noise(before)
    if noise is None:
        return "With one sample per problem, the noise of sampling is not known."
    return (
        f"A/A noise: the base scored twice on these problems differs by up to {points(noise).lstrip('+')} in 95 % of "
        "cases, by the luck of its samples alone."
    )


def _sources_table(found: Sequence[Part], series: SplitSeries) -> str:
    reach = max(max(abs(part.low), abs(part.high)) for part in found) or 0.01
    rows = []
    for part in found:
        name, words = _SOURCES[part.source]
        rows.append(
            ui.row(
                [
                    f'<b>{name}</b><div class="tt-muted tt-small">{words}</div>',
                    f'<span class="tt-num">{part.num_problems:,} of {series.num_problems:,}</span>',
                    _value(part.gain, part.low, part.high, part.luck),
                    interval_picture(part.gain, part.low, part.high, reach, luck=part.luck),
                    _luck_words(part.luck),
                ],
                key=part.source,
                right=(1, 4),
                wrap=(0,),
            )
        )
    heads = ("Source", "Problems", "Part of the gain", "0 is the line", "By luck")
    return ui.table(heads, rows, f"Sources of the gain, {series.title}", right=(1, 4))


def _value(gain: float, low: float, high: float, luck: float | None) -> str:
    text = f"{points(gain)} {interval(low, high, signed=True)}"
    if _stands(low, high, luck):
        return f'<span class="tt-num tt-nowrap">{text}</span>'
    return f'<span class="tt-muted">not established <span class="tt-num tt-nowrap">({text})</span></span>'


def _luck_words(luck: float | None) -> str:
    return f'<span class="tt-num">{points(luck)}</span>' if luck is not None else '<span class="tt-muted">none</span>'


def _caveats(pairs: Sequence[Pair], found: Sequence[Part], score: ScoreRow) -> str:
    k = score.num_samples
    words = [
        f"That none of {k} samples was right does not mean that the base never is: at 95 % confidence, less often "
        f"than in {percent(1 - 0.05 ** (1 / k), 0)} of its answers.",
    ]
    if not any(part.source == "format" for part in found):
        words.append("Format is unknown: an older version did not count answers that could not be read.")
    elif any(pair.before.num_unparsed == pair.before.num_samples for pair in pairs):
        words.append(
            "Where no base answer could be read, all of the change counts as format: whether those answers were right "
            "is not known."
        )
    return ui.escape(" ".join(words))


def count_words(pairs: Sequence[Pair]) -> str:
    """ "By vote: 12 learned, 5 degraded, …", with the exact test of learned against degraded."""
    counts = count(pairs)
    p = mcnemar_exact(counts.degraded, counts.learned)
    verdict = "" if p < 0.05 else ": a change by vote is not established"
    return (
        f"By vote, {counts.learned:,} of {len(pairs):,} problems were learned (wrong, now right), {counts.degraded:,} "
        f"degraded (right, now wrong), {counts.stable_right:,} stayed right and {counts.stable_wrong:,} stayed wrong; "
        f"exact McNemar {p_words(p)}{verdict}."
    )


def _reading_words(before: Sequence[ScoreRow], after: Sequence[ScoreRow]) -> str:
    then, now = _reading(before), _reading(after)
    if then is None or now is None:
        return ""
    (unread, cut), (unread_now, cut_now) = then, now
    return (
        f"Answers without a readable result: {percent(unread)} at the base, {percent(unread_now)} now; cut at the "
        f"longest length: {percent(cut)}, {percent(cut_now)} now."
    )


def _reading(scores: Sequence[ScoreRow]) -> tuple[float, float] | None:
    unread = [score.num_unparsed for score in scores if score.num_unparsed is not None]
    cut = [score.num_truncated for score in scores if score.num_truncated is not None]
    total = sum(score.num_samples for score in scores)
    return (sum(unread) / total, sum(cut) / total) if len(unread) == len(cut) == len(scores) else None


def _bins_table(title: str, head: str, bins: Sequence[Bin], series: SplitSeries) -> str:
    if not bins:
        return ""
    reach = max(max(abs(each.low), abs(each.high)) for each in bins) or 0.01
    rows = [
        ui.row(
            [
                ui.escape(each.label),
                f'<span class="tt-num tt-nowrap">{each.num_problems:,} × {series.num_samples}</span>',
                percent(each.before),
                _value(each.gain, each.low, each.high, each.luck),
                interval_picture(each.gain, each.low, each.high, reach, luck=each.luck),
                _luck_words(each.luck),
            ],
            key=each.label,
            right=(1, 2, 5),
        )
        for each in bins
    ]
    heads = (head, "n", "Base pass@1", "Gain", "0 is the line", "By luck")
    table = ui.table(heads, rows, f"{title}, {series.title}", right=(1, 2, 5))
    return _fold(title, series, table)


def _fold(title: str, series: SplitSeries, body_html: str) -> str:
    key = ui.escape(f"{series.title}-{title}")
    return f'<details data-key="{key}"><summary>{ui.escape(title)}</summary>{body_html}</details>'


def _degraded(pairs: Sequence[Pair]) -> list[Pair]:
    found = [pair for pair in pairs if pair.before.maj_correct and not pair.after.maj_correct]
    return sorted(found, key=lambda pair: (pair.gain, pair.problem_id))


def _new(pairs: Sequence[Pair]) -> list[Pair]:
    found = [pair for pair in pairs if not pair.before.num_correct and pair.after.num_correct]
    return sorted(found, key=lambda pair: (-pair.gain, pair.problem_id))


def _problem_list(title: str, run: RunRow, series: SplitSeries, pairs: Sequence[Pair]) -> str:
    if not pairs:
        return ""
    page = f"/run?id={run.id}&problem=" if series.split == "adapt" else f"/compare?run={run.id}&problem="
    rows = [
        ui.row(
            [
                f'<a href="{ui.escape(page + quote(pair.problem_id, safe=""))}">{ui.escape(pair.problem_id[:80])}</a>',
                f'<span class="tt-num">{pair.before.num_correct} of {pair.before.num_samples}</span>',
                f'<span class="tt-num">{pair.after.num_correct} of {pair.after.num_samples}</span>',
            ],
            key=pair.problem_id,
            right=(1, 2),
            wrap=(0,),
        )
        for pair in pairs[:SHOWN_PROBLEMS]
    ]
    table = ui.table(("Problem", "Base right", "Now right"), rows, f"{title}, {series.title}", right=(1, 2))
    more = f'<p class="tt-muted tt-small">The first {SHOWN_PROBLEMS}.</p>' if len(pairs) > SHOWN_PROBLEMS else ""
    return _fold(f"{title} ({len(pairs):,})", series, table + more)


# --- the control --------------------------------------------------------------------------------------------------


def control_card(services: Services, run: RunRow) -> str:
    """Gain minus the gain of random rewards, or the button that runs the control."""
    if is_control(run):
        parent = f' of <a href="/run?id={run.parent_run_id}">run {run.parent_run_id}</a>' if run.parent_run_id else ""
        text = "Its rewards are drawn by lot. Whatever it gains does not come from the agreement of answers."
        return ui.card(f"<p>This run is the random-reward control{parent}. {text}</p>", "Control: random rewards")
    control = control_of(services.store, run)
    if control is None:
        body = (
            '<p class="tt-muted">Some models gain from almost any reward, even one drawn by lot, since the update '
            "itself sharpens what they already do. The control is this run with random rewards: what it gains too "
            f"does not come from agreement. It takes about as long as this run.</p>{control_button(run)}"
        )
        return ui.card(f'<div class="tt-stack">{body}</div>', "Control: random rewards", key="control")
    link = (
        f'<p>Control: <a href="/run?id={control.id}">{ui.escape(control.name)}</a> {ui.state_pill(control.state)}</p>'
    )
    lines = "".join(f"<p>{ui.escape(line)}</p>" for line in control_words(services, run, control))
    return ui.card(f'<div class="tt-stack">{link}{lines}</div>', "Control: random rewards", key="control")


def control_button(run: RunRow) -> str:
    """Runs the control of a run, after asking back: it costs as much as the run."""
    return action_button(
        "control",
        run.id,
        "Run the control",
        title="The same run with rewards drawn by lot",
        icon_name="play",
        ask="Run the control with random rewards?",
        yes="Run the control",
        confirm="It joins the queue as a run of its own with the same settings and the same seed.",
    )


def control_words(services: Services, run: RunRow, control: RunRow) -> list[str]:
    """One sentence per split: gain minus the gain of random rewards, with interval, n, p, and what it means."""
    lines = []
    for match in against_control(services.store, run, control):
        if match.refusal:
            lines.append(f"{match.title}: {match.refusal}")
            continue
        test, row, other = paired_tests(match), match.second, match.first
        assert row is not None
        assert other is not None
        # The test speaks of A minus B: the control minus the run.
        text = f"{points(-test.lead)} {interval(-test.high, -test.low, signed=True)}"
        if test.low <= 0 <= test.high:
            meaning = "not established: nothing shows that agreement did more than rewards drawn by lot would have"
        elif test.lead < 0:
            meaning = "agreement adds this much to what random rewards give"
        else:
            meaning = "random rewards gave more than agreement did"
        lines.append(
            f"{match.title}: gain {gain_words(row)}, of random rewards {gain_words(other)}; the difference is {text}, "
            f"{sample_size(row)}, step {row.step}, {p_words(test.p_avg)}: {meaning}."
        )
    return lines or ["The control has not been scored at a step of this run yet."]
