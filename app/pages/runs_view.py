"""The Runs page in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app import components as ui
from app.actions import action_button
from app.charts import Chart, Series
from app.evaluations import established, gain_words, newest_of, rate_words, sample_size, split_series
from app.format import duration, moment, percent
from app.pages.overview_view import gain_cell
from app.pages.run_charts import BUCKET_BAND, INTERVAL_BAND
from app.pages.run_records import flat_pairs
from worker.rows import EvaluationRow, RunRow, RunSummary, SeriesPoint


@dataclass(frozen=True)
class Choice:
    """What is chosen: runs to lay over each other, the metric, and whether archived runs are listed.

    `first` and `second` are the two of them that are tested against each other; unset, the first two.
    """

    ids: tuple[int, ...] = ()
    metric: str = "consensus"
    archived: bool = False
    first: int | None = None
    second: int | None = None

    def url(self, **changes: object) -> str:
        """The address of this choice, or of one that differs a little."""
        ids = changes.get("ids", self.ids)
        parts = [f"ids={','.join(map(str, ids))}"] if isinstance(ids, tuple) and ids else []
        if self.archived:
            parts.append("archived=1")
        metric = changes.get("metric", self.metric)
        if metric != "consensus":
            parts.append(f"metric={metric}")
        parts += [
            f"{name}={value}" for name in ("first", "second") if (value := changes.get(name, getattr(self, name)))
        ]
        return "/runs" + ("?" + "&".join(parts) if parts else "")


@dataclass(frozen=True)
class Overlay:
    """Something that runs can be compared by: a metric of every step, or the score of a split."""

    title: str
    unit: str
    metric: str = ""
    split: str = ""


OVERLAYS: dict[str, Overlay] = {
    "consensus": Overlay("Consensus", "share", "consensus"),
    "adapt": Overlay("pass@1, adapt", "share", split="adapt"),
    "held_out": Overlay("pass@1, held-out", "share", split="held_out"),
    "label_accuracy": Overlay("Pseudo-label accuracy", "share", "label_accuracy"),
    "reward_mean": Overlay("Mean reward", "1", "reward_mean"),
    "entropy": Overlay("Entropy per token", "nats", "entropy"),
    "length_mean": Overlay("Mean answer length", "tokens", "length_mean"),
    "num_classes": Overlay("Distinct answers per problem", "count", "num_classes"),
    "flip_share": Overlay("Labels that changed", "share", "flip_share"),
    "kl_step": Overlay("Shift of the policy in one step", "nats", "kl_step"),
}


def head(num_runs: int) -> str:
    """The heading."""
    lead = "Choose up to six to lay them over each other." if num_runs > 1 else ""
    return ui.page_head("Runs", lead, ui.link_button("New run", "/new", icon_name="plus", look="primary"))


def table(runs: Sequence[RunRow], summaries: Mapping[int, RunSummary], choice: Choice, now: float) -> str:
    """All runs, newest first."""
    shown = Choice(choice.ids, choice.metric, not choice.archived)
    switch = ui.link_button(
        "Hide archived" if choice.archived else "Show archived", shown.url(), icon_name="archive", look="quiet"
    )
    if not runs:
        nothing = ui.empty(
            "No runs yet",
            "A run takes a problem set and a model, and reports here for good.",
            ui.link_button("New run", "/new", look="primary"),
            "runs",
        )
        return ui.card(nothing + f'<div class="tt-row">{switch}</div>')
    rows = [_row(run, summaries[run.id], choice, now) for run in runs]
    heads = ("Choose", "Run", "State", "Model", "Steps", "Consensus", "Gain on adapt", "Gain on held-out", "Took", "")
    body = ui.table(heads, rows, "All runs, newest first", right=(4,))
    card = ui.card(body, f"{len(runs):,} run{'s' if len(runs) != 1 else ''}", switch, flush=True)
    # Beside an overlay the list scrolls on its own, so that both stay in reach.
    return f'<div class="tt-table-tall">{card}</div>' if choice.ids and len(runs) > 8 else f"<div>{card}</div>"


def _row(run: RunRow, summary: RunSummary, choice: Choice, now: float) -> str:
    chosen = run.id in choice.ids
    box = (
        f'<input type="checkbox" class="tt-check" data-pick="choose" data-group="ids" value="{run.id}" '
        f'aria-label="Choose {ui.escape(run.name[:80])}"{" checked" if chosen else ""}>'
    )
    started, ended = run.job.started_at, run.job.finished_at
    took = duration((ended or now) - started) if started is not None else "not started"
    consensus = '<span class="tt-muted">no vote</span>'
    if summary.consensus_last is not None:
        consensus = f"{percent(summary.consensus_first, 0)} to {percent(summary.consensus_last, 0)}"
    alarms = f" {ui.pill(str(summary.num_alarms), 'warn', 'warning')}" if summary.num_alarms else ""
    total = f" of {run.total_steps:,}" if run.total_steps else ""
    cells = [
        box,
        f'<a class="tt-run-name" href="/run?id={run.id}">{ui.escape(run.name)}</a>'
        f'<div class="tt-muted tt-small">{ui.escape(run.set_name)}, {ui.escape(moment(run.created_at, now))}</div>',
        ui.state_pill(run.state) + alarms,
        f'<span class="tt-nowrap">{ui.escape(run.model.removeprefix("bundled:").rsplit("/", 1)[-1][:32])}</span>',
        f'<span class="tt-nowrap">{run.step:,}{total}</span>',
        f'<span class="tt-nowrap">{consensus}</span>',
        gain_cell(summary, "adapt", run),
        gain_cell(summary, "held_out", run),
        ui.escape(took),
        _archive_button(run),
    ]
    return ui.row(cells, key=run.id, right=(4,), wrap=(1,), selected=chosen)


def _archive_button(run: RunRow) -> str:
    if run.archived:
        return action_button(
            "restore",
            run.id,
            f"Back into the list: {run.name[:60]}",
            title="Back into the list",
            icon_name="archive",
            look="quiet",
            icon_only=True,
        )
    if not run.job.is_terminal:
        return ""
    return action_button(
        "archive",
        run.id,
        f"Archive {run.name[:60]}",
        title="Archive: out of the lists, nothing is deleted",
        icon_name="archive",
        look="quiet",
        icon_only=True,
    )


# --- several runs -------------------------------------------------------------------------------------------------


def overlay_head(chosen: Sequence[RunRow], choice: Choice) -> str:
    """The chooser of the metric above the overlay."""
    if not chosen:
        return ""
    options = "".join(
        f'<option value="{key}"{" selected" if key == choice.metric else ""}>{ui.escape(each.title)}</option>'
        for key, each in OVERLAYS.items()
    )
    base = choice.url(metric="consensus")
    joint = "&" if "?" in base else "?"
    select = (
        '<label class="tt-select">Compare by <select data-pick-name="metric" '
        f'data-href="{ui.escape(base + joint)}metric=">{options}</select></label>'
    )
    clear = f'<a class="tt-btn tt-btn-small" href="{ui.escape(choice.url(ids=()))}" data-pick="clear:0">Choose none</a>'
    return f'<div class="tt-row tt-row-between">{select}{clear}</div>'


def overlay_chart(
    chosen: Sequence[RunRow],
    key: str,
    data: Mapping[int, Sequence[SeriesPoint]],
    evaluations: Mapping[int, Sequence[EvaluationRow]],
) -> Chart:
    """One line per run, its colour by its place in the choice."""
    overlay = OVERLAYS[key]
    series = []
    for color, run in enumerate(chosen, 1):
        name = f"{run.id}: {run.name}"
        if overlay.split:
            found = next((each for each in split_series(evaluations[run.id]) if each.split == overlay.split), None)
            points = [(row.step, row.avg, row.avg_low, row.avg_high) for row in found.rows] if found else []
            series.append(Series(name, points, color, band=INTERVAL_BAND, whiskers=len(points) <= 16))
        else:
            plain = all(low == high for _, _, low, high in data[run.id])
            series.append(
                Series(
                    name,
                    [point[:2] if plain else point for point in data[run.id]],
                    color,
                    band="" if plain else BUCKET_BAND,
                )
            )
    if not any(each.points for each in series):
        return Chart(
            "overlay",
            overlay.title,
            series,
            overlay.unit,
            missing="Unknown: none of these runs has measured it, or has the reference answers for it.",
        )
    return Chart("overlay", overlay.title, series, overlay.unit, smooth=not overlay.split, file=f"runs-{key}")


def gains_card(
    chosen: Sequence[RunRow], evaluations: Mapping[int, Sequence[EvaluationRow]], controls: Mapping[int, str]
) -> str:
    """The gains side by side, each paired within its own run; under the run's name stands its control, or the button
    that runs it."""
    rows = []
    for run in chosen:
        name = f'{ui.escape(run.name)}<div class="tt-small">{controls.get(run.id, "")}</div>'
        for split, words in (("adapt", "Adapt"), ("held_out", "Held-out")):
            row = newest_of(evaluations[run.id], split)
            if row is None:
                cells = [
                    name if split == "adapt" else ui.escape(run.name),
                    words,
                    '<span class="tt-muted">unknown</span>',
                    '<span class="tt-muted">unknown</span>',
                    "",
                ]
            else:
                mark = "" if established(row) is not False else " tt-muted"
                cells = [
                    name if split == "adapt" else ui.escape(run.name),
                    words,
                    f'<span class="tt-nowrap">{ui.escape(rate_words(row))}</span>',
                    f'<span class="tt-num tt-nowrap{mark}">{ui.escape(gain_words(row))}</span>',
                    ui.escape(f"{sample_size(row)}, step {row.step}"),
                ]
            rows.append(ui.row(cells, key=f"{run.id}-{split}", wrap=(0,)))
    return ui.card(
        ui.table(("Run", "Split", "pass@1 now", "Gain over the base", "Sample"), rows, "Gains of the chosen runs"),
        "Gains",
        flush=True,
    )


def differences_card(chosen: Sequence[RunRow]) -> str:
    """Only the settings in which the chosen runs differ."""
    if len(chosen) < 2:
        return ""
    columns = [
        {name: value for name, value, _ in flat_pairs(run.config, run.config)} | {"problems (content)": run.data_hash}
        for run in chosen
    ]
    names = [name for name in columns[0] if name != "name" and len({column.get(name) for column in columns}) > 1]
    if not names:
        return ui.card(
            '<p class="tt-muted">These runs have the same settings and the same problems.</p>', "Differences"
        )
    rows = [
        ui.row([f"<code>{ui.escape(name)}</code>", *(ui.escape(column.get(name, "")) for column in columns)], key=name)
        for name in names
    ]
    heads = ("Setting", *(f"{run.id}: {run.name[:40]}" for run in chosen))
    return ui.card(ui.table(heads, rows, "Settings in which the chosen runs differ"), "Differences", flush=True)
