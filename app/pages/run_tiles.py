"""The numbers of the Run page that matter, each with its split, n and interval."""

from __future__ import annotations

from collections.abc import Sequence

from app import components as ui
from app.evaluations import SplitSeries, established, gain_words, rate_words, sample_size, split_series
from app.format import interval, percent, points
from app.pages import run_spot_view
from app.spot_checks import SpotCheck
from worker.rows import EvaluationRow, RunRow


def tiles(
    run: RunRow,
    first: float | None,
    latest: dict[str, float | None],
    evaluations: Sequence[EvaluationRow],
    check: SpotCheck | None = None,
) -> str:
    """The numbers that matter, each with its split, n and interval."""
    parts = [_consensus_tile(run, first, latest)]
    if run.set_num_references:
        parts.append(_label_tile(run, latest))
    if spot := run_spot_view.tile(run, check):
        parts.append(spot)
    series = split_series(evaluations)
    for split, title in (("adapt", "Gain on adapt problems"), ("held_out", "Gain on held-out problems")):
        found = next((each for each in series if each.split == split), None)
        parts.append(_gain_tile(title, found, _why_no_gain(run, split)))
    parts += [_gain_tile(f"Gain on {each.title.lower()}", each, "") for each in series if each.split == "benchmark"]
    return ui.tiles(parts)


def _consensus_tile(run: RunRow, first: float | None, latest: dict[str, float | None]) -> str:
    value = latest.get("consensus")
    help_text = (
        "Share of all votes that went to the winning answer, over the problems of the newest step. "
        "Agreement is not correctness."
    )
    if value is None:
        return ui.tile("Consensus", "no vote yet", unknown=True, help_text=help_text)
    change = f"from {percent(first)} at the first step" if first is not None and run.step > 1 else ""
    batch = run.config.train.problems_per_step
    return ui.tile(
        "Consensus",
        percent(value),
        [change, f"step {run.step}, {batch} problems × {run.config.vote.num_votes} votes"],
        help_text=help_text,
    )


def _label_tile(run: RunRow, latest: dict[str, float | None]) -> str:
    help_text = (
        "Share of the elected labels that equal the reference answer. References only measure; they "
        "never touch the reward."
    )
    value = latest.get("label_accuracy")
    if value is None:
        return ui.tile("Pseudo-label accuracy", "no vote yet", unknown=True, help_text=help_text)
    notes = [
        f"step {run.step}, {run.config.train.problems_per_step} problems",
        f"reward accuracy {percent(latest.get('reward_accuracy'))}",
    ]
    return ui.tile("Pseudo-label accuracy", percent(value), notes, help_text=help_text)


def _why_no_gain(run: RunRow, split: str) -> str:
    if not run.set_num_references:
        return "no reference answers"
    if split == "held_out" and run.config.data.held_out_share == 0:
        return "nothing is held out"
    return "not evaluated yet"


def _gain_tile(title: str, series: SplitSeries | None, why: str) -> str:
    help_text = "pass@1 now minus pass@1 of the base model, paired per problem, with a 95 % interval over problems."
    if series is None:
        return ui.tile(title, "unknown", [why], unknown=True, help_text=help_text)
    row, base = series.newest, series.base
    if row.gain is None:
        return ui.tile(
            title,
            "not yet",
            [f"base pass@1 {rate_words(row)}", _base_vote(row), sample_size(row)],
            unknown=True,
            help_text=help_text,
        )
    where = f"pass@1 {percent(base.avg)} to {percent(row.avg)}" if base is not None else f"pass@1 {percent(row.avg)}"
    size = f"{sample_size(row)}, step {row.step}"
    if established(row) is False:
        notes = [
            f"{points(row.gain)} {interval(row.gain_low, row.gain_high, signed=True)}: the interval covers 0",
            where,
            size,
        ]
        return ui.tile(title, "not established", notes, unknown=True, help_text=help_text)
    unbroken = interval(row.gain_low, row.gain_high, signed=True).replace(" ", "\u00a0")
    notes = [
        f"95 % {unbroken}",
        where,
        _against_vote(base, row),
        size,
    ]
    return ui.tile(title, points(row.gain), notes, trend="up" if row.gain > 0 else "down", help_text=help_text)


def _base_vote(row: EvaluationRow) -> str:
    return "" if row.maj is None else f"base vote maj@{row.num_samples} {percent(row.maj)}"


def _against_vote(base: EvaluationRow | None, row: EvaluationRow) -> str:
    if base is None or base.maj is None or row.avg is None:
        return ""
    side = "above" if row.avg > base.maj else "below"
    return f"{side} the base vote maj@{base.num_samples} {percent(base.maj)}"


def evaluation_table(evaluations: Sequence[EvaluationRow]) -> str:
    """Base against newest for every split, with intervals, votes and n."""
    rows = []
    for series in split_series(evaluations):
        base, row = series.base, series.newest
        cells = [
            ui.escape(series.title),
            ui.escape(sample_size(row)),
            ui.escape(rate_words(base)) if base else "unknown",
            percent(base.maj) if base else "unknown",
        ]
        if row.step:
            cells += [ui.escape(rate_words(row)), percent(row.maj), ui.escape(gain_words(row)), f"step {row.step}"]
        else:
            cells += ['<span class="tt-muted">not yet</span>'] * 3 + [""]
        rows.append(ui.row(cells, key=series.title, right=(2, 3, 4, 5)))
    if not rows:
        return ""
    heads = ("Split", "Sample", "Base pass@1", "Base vote", "Now pass@1", "Now vote", "Gain (paired)", "")
    return ui.card(
        ui.table(heads, rows, "Base and newest score of every split", right=(2, 3, 4, 5)),
        "Base and adapted",
        flush=True,
    )
