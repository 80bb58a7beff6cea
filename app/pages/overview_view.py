"""The Overview page in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app import components as ui
from app.actions import action_button
from app.charts import sparkline
from app.evaluations import established, gain_words, newest_of, sample_size
from app.format import duration, duration_range, interval, moment, percent, points
from app.icons import icon
from app.pages.run_header import fine_progress, live_sign, phase_words, steps_words
from app.pages.run_strips import worker_missing
from ttrl_engine.config import RunConfig
from worker.rows import JobRow, RunRow, RunSummary, WorkerStatus

Curves = Mapping[int, Sequence[float | None]]
Summaries = Mapping[int, RunSummary]

LEAD = "Make a model better at problems that have no answers, and see whether it did."


def page(now_html: str, waiting_html: str, results_html: str, worker: WorkerStatus) -> str:
    """Everything below the header."""
    head = ui.page_head("Overview", LEAD, ui.link_button("New run", "/new", icon_name="plus", look="primary"))
    missing = "" if worker.alive else worker_missing()
    return (
        f'{head}{missing}<div class="tt-overview"><div class="tt-stack-l">{now_html}</div>'
        f'<div class="tt-stack-l">{waiting_html}</div></div>{results_html}'
    )


def first_visit(config: RunConfig, worker: WorkerStatus) -> str:
    """What a new visitor sees: the run to begin with, what it shows, and the other ways to begin."""
    missing = "" if worker.alive else worker_missing()
    start = action_button("demo", "0", "Start the demo run", icon_name="play", look="primary")
    steps = (
        ("Ask", f"The bundled model answers each problem {config.vote.num_votes} times. Nobody told it the answers."),
        ("Vote", "The most frequent answer becomes the pseudo-label. Answers that agree with it earn a reward of 1."),
        ("Learn", "The model is updated towards what it agrees on, and asked again."),
    )
    cards = "".join(
        f'<div class="tt-step"><b>{number}</b><div><h3>{word}</h3><p class="tt-muted">{text}</p></div></div>'
        for number, (word, text) in enumerate(steps, 1)
    )
    hero = (
        '<section class="tt-card tt-hero"><div class="tt-stack"><h2>'
        "See it work first: five minutes, no GPU, no download</h2>"
        '<p class="tt-lead">The demo run takes a small bundled model that is right about one time in '
        "three and a bundled set of sums without answers. "
        "You watch it teach itself. The known answers are kept aside and only measure whether it did.</p>"
        f'<div class="tt-row">{start}{ui.link_button("Upload my own problems", "/problem-sets")}'
        f"{ui.link_button('Plan a run', '/new')}</div></div>"
        f'<div class="tt-steps">{cards}</div></section>'
    )
    return ui.page_head("Welcome to TTRL Studio", LEAD, document_title="Overview") + missing + hero


def now_card(active: Sequence[RunRow], summaries: Summaries, curves: Curves, now: float) -> str:
    """The runs under way."""
    if not active:
        nothing = ui.empty(
            "Nothing is running",
            "Start a run, or resume one that waits for you.",
            ui.link_button("New run", "/new", look="primary"),
            "play",
        )
        return ui.card(nothing, "Running now")
    return "".join(_active_run(run, summaries[run.id], curves[run.id], now) for run in active)


def _active_run(run: RunRow, summary: RunSummary, curve: Sequence[float | None], now: float) -> str:
    eta = duration_range(run.eta_low_s, run.eta_high_s)
    right = " · ".join(part for part in (f"{eta} left" if eta else "", live_sign(run, now)) if part)
    words = phase_words(run)
    left = f"<b>{ui.escape(steps_words(run))}</b>" + (f" · {ui.escape(words)}" if words else "")
    accuracy = percent(summary.label_accuracy_last) if run.set_num_references else "unknown, no reference answers"
    facts = [
        (
            "Consensus",
            f"{percent(summary.consensus_first)} to {percent(summary.consensus_last)}"
            if summary.consensus_last is not None
            else "no vote yet",
        ),
        ("Pseudo-label accuracy", accuracy),
        ("Gain, adapt", _gain_with_sample(summary, "adapt")),
        ("Gain, held-out", _gain_with_sample(summary, "held_out")),
    ]
    alarms = (
        ui.pill(f"{summary.num_alarms} alarm{'s' if summary.num_alarms > 1 else ''}", "warn", "warning")
        if summary.num_alarms
        else ""
    )
    picture = (
        '<div class="tt-now-curve">'
        f"{sparkline(curve, 'Consensus over the steps', width=300, height=72, fixed=(0.0, 1.0))}<span "
        'class="tt-muted tt-small">Consensus, 0 to 100 %</span></div>'
    )
    head = (
        '<div class="tt-card-head"><div class="tt-row">'
        f'<a class="tt-run-name" href="/run?id={run.id}">{ui.escape(run.name)}</a>'
        f"{ui.state_pill(run.state)}{alarms}</div>"
        f"{ui.link_button('Watch', f'/run?id={run.id}', icon_name='chart', look='small')}</div>"
    )
    return (
        f'<section class="tt-card" data-key="run{run.id}">'
        f"{head}{ui.progress(fine_progress(run), left, right, '', f'Progress of {run.name[:60]}')}"
        f'<div class="tt-now">{ui.facts(facts)}{picture}</div></section>'
    )


def _gain_with_sample(summary: RunSummary, split: str) -> str:
    row = newest_of(summary.evaluations, split)
    return "not evaluated yet" if row is None else f"{gain_words(row)}, {sample_size(row)}"


def waiting_card(queue: Sequence[JobRow], paused: Sequence[RunRow], held: bool, now: float) -> str:
    """The queue in short, and what waits for a person."""
    parts = []
    if held:
        parts.append(ui.note("The queue is held", "What runs goes on; nothing new starts.", "warn"))
    for place, job in enumerate(queue[:6], 1):
        url = {"run": f"/run?id={job.subject_id}", "compare": f"/compare?id={job.subject_id}"}.get(job.kind, "/queue")
        parts.append(
            f'<div class="tt-wait" data-key="q{job.id}"><span class="tt-muted tt-num">{place}</span>'
            f'<a href="{url}">{ui.escape(job.title)}</a>'
            f'<span class="tt-muted tt-small">since {ui.escape(moment(job.created_at, now))}</span></div>'
        )
    if len(queue) > 6:
        parts.append(f'<p class="tt-muted tt-small">and {len(queue) - 6} more</p>')
    parts.extend(
        f'<div class="tt-wait" data-key="p{run.id}">{icon("pause")}<a href="/run?id={run.id}">'
        f"{ui.escape(run.name)}</a>{ui.state_pill(run.state)}</div>"
        for run in paused[:4]
    )
    body = "".join(parts) or '<p class="tt-muted">Nothing waits. A new run starts at once.</p>'
    return ui.card(f'<div class="tt-stack">{body}</div>', "Waiting", ui.link_button("Queue", "/queue", look="quiet"))


def results_card(ended: Sequence[RunRow], summaries: Summaries, curves: Curves, now: float) -> str:
    """What came out last."""
    if not ended:
        return ui.card(
            ui.empty(
                "No results yet",
                "The first run that ends shows up here, with its gain and how sure it is.",
                icon_name="flag",
            ),
            "Latest results",
        )
    rows = [_result(run, summaries[run.id], curves[run.id], now) for run in ended]
    heads = ("Run", "State", "Consensus", "Gain on adapt", "Gain on held-out", "Ended")
    body = ui.table(heads, rows, "Latest results, newest first")
    return ui.card(body, "Latest results", ui.link_button("All runs", "/runs", look="quiet"), flush=True)


def _result(run: RunRow, summary: RunSummary, curve: Sequence[float | None], now: float) -> str:
    consensus = '<span class="tt-muted">no vote</span>'
    if summary.consensus_last is not None:
        line = sparkline(curve, "Consensus over the steps", width=84, height=26, fixed=(0.0, 1.0))
        consensus = f'<div class="tt-row tt-nowrap">{line}<span>{percent(summary.consensus_last, 0)}</span></div>'
    took = duration(run.job.finished_at - run.job.started_at) if run.job.finished_at and run.job.started_at else ""
    cells = [
        f'<a class="tt-run-name" href="/run?id={run.id}">{ui.escape(run.name)}</a>'
        f'<div class="tt-muted tt-small">{ui.escape(run.set_name)}, {run.step:,} steps</div>',
        ui.state_pill(run.state),
        consensus,
        gain_cell(summary, "adapt", run),
        gain_cell(summary, "held_out", run),
        f"{ui.escape(moment(run.job.finished_at, now, 'unknown'))}"
        f'<div class="tt-muted tt-small">{ui.escape(took)}</div>',
    ]
    return ui.row(cells, key=run.id, wrap=(0,))


def gain_cell(summary: RunSummary, split: str, run: RunRow) -> str:
    """A gain with its interval and n, or the reason why it is unknown."""
    row = newest_of(summary.evaluations, split)
    if row is None:
        why = "no reference answers" if not run.set_num_references else "not evaluated"
        return f'<span class="tt-muted">unknown</span><div class="tt-muted tt-small">{why}</div>'
    sample = f"n = {row.num_problems} × {row.num_samples}"
    if established(row) is False:
        first, second = (
            '<span class="tt-muted">not established</span>',
            f"{points(row.gain)} {interval(row.gain_low, row.gain_high, signed=True)}",
        )
    else:
        first, second = f'<b class="tt-num">{points(row.gain)}</b>', interval(row.gain_low, row.gain_high, signed=True)
    return f'<div class="tt-gain">{first}<div class="tt-muted tt-small tt-num">{second}, {sample}</div></div>'
