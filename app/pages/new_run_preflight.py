"""The check before a run as the new-run page shows it: a button, its progress, then the verdict with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.components import bar, escape, facts, note, pill, progress
from app.config_form import field, shown_value
from app.format import NARROW, duration, duration_range, interval, percent
from app.memory_plan import MemoryPlan
from app.plan import Plan
from app.preflight import advise, whole_run_s
from ttrl_engine.config import RunConfig
from ttrl_engine.models import ModelCheck
from ttrl_engine.preflight import NUM_PROBLEMS, NUM_VOTES, Findings, Judgement
from ttrl_engine.stats import wilson_interval
from worker.rows import PreflightRow
from worker.states import JobState

CHECK, ADVICE = "check", "advice"
_LOOKS = {
    "go": ("Go", "good", "check"),
    "adjust": ("Adjust first", "warn", "warning"),
    "do not bother": ("Do not bother", "bad", "cross"),
    "nothing to learn": ("Nothing to learn", "warn", "info"),
}
_KINDS = (
    ("learnable", "Learnable", "one answer leads and others leave room to learn", "3"),
    ("settled", "Settled", "nearly all answers agree already: nothing to learn", "8"),
    ("scattered", "Scattered", "no answer leads by more than chance: the label is mostly wrong", "2"),
)


def preflight_html(
    row: PreflightRow | None,
    config: RunConfig | None,
    plan: Plan | None,
    model: ModelCheck | None,
    memory: MemoryPlan | None,
    *,
    ready: bool,
    worker_alive: bool,
) -> str:
    """The whole part. `ready`: the form could start, hence can be checked."""
    if row is None or config is None or plan is None:
        body = _offer(ready)
    elif row.findings is not None:
        window = model.context_tokens if model else None
        judged = advise(row.findings, config, window, memory)
        body = _result(row.findings, judged, config, plan)
    elif is_watched(row):
        body = _under_way(row, worker_alive)
    else:
        why = row.job.error_message or row.job.reason or "It was stopped."
        body = note("The check did not finish.", why, "warn") + _button("Check again", ready)
    return f'<div class="tt-stack preflight"><h3>Can it learn from these problems?</h3>{body}</div>'


def advised_changes(
    row: PreflightRow | None, config: RunConfig, model: ModelCheck | None, memory: MemoryPlan | None
) -> Mapping[str, Any]:
    """The settings that the advice would change now; empty where there is none."""
    if row is None or row.findings is None:
        return {}
    return advise(row.findings, config, model.context_tokens if model else None, memory).changes


def is_watched(row: PreflightRow | None) -> bool:
    """Whether something more is to be expected of it."""
    return row is not None and (row.job.is_active or row.state is JobState.QUEUED)


def progress_token(row: PreflightRow | None) -> str:
    """Changes with whatever the page shows of a check."""
    return "" if row is None else f"{row.id}:{row.state}:{row.done}:{row.total}"


def _offer(ready: bool) -> str:
    text = (
        f"{NUM_VOTES} answers to each of {NUM_PROBLEMS} problems show whether their votes can teach anything, and how "
        "long a run takes. It needs no reference answers and never keeps you from starting."
    )
    return f'<p class="tt-muted">{escape(text)}</p>{_button("Check first", ready)}'


def _button(text: str, ready: bool) -> str:
    off = "" if ready else " disabled"
    return f'<div><button type="button" class="tt-btn" data-pick="{CHECK}" data-key="check"{off}>{text}</button></div>'


def _under_way(row: PreflightRow, worker_alive: bool) -> str:
    if row.state is JobState.QUEUED:
        words = "Waits its turn" if worker_alive else "Waits: no worker is running"
        return progress(None, words, '<a href="/queue">See the queue</a>', label="Progress of the check")
    words = f"{row.done:,} of {row.total:,} answers" if row.done and row.total else "Loading the model"
    share = row.done / row.total if row.done and row.total else None
    return progress(share, words, "", label="Progress of the check")


def _result(found: Findings, judged: Judgement, config: RunConfig, plan: Plan) -> str:
    word, look, icon_name = _LOOKS[judged.verdict]
    reasons = "".join(f"<p>{escape(reason)}</p>" for reason in judged.reasons)
    return (
        f'<div class="tt-row" role="status">{pill(word, look, icon_name)}</div>{reasons}{_advice(judged)}'
        f'{_kinds(found)}{facts(_numbers(found, config, plan))}<p class="tt-muted tt-small">From {len(found.polls)} of '
        f"{found.num_available:,} problems, {found.polls[0].num_votes} answers each. It is advice: start whatever it "
        "says.</p>"
    )


def _advice(judged: Judgement) -> str:
    if not judged.changes:
        return ""
    sets = ", ".join(f"{field(name).title}: {shown_value(value)}" for name, value in judged.changes.items())
    return (
        f'<div class="tt-row"><button type="button" class="tt-btn tt-btn-small" data-pick="{ADVICE}" '
        f'data-key="advice">Set it</button><span class="tt-muted tt-small">{escape(sets)}</span></div>'
    )


def _kinds(found: Findings) -> str:
    lines = []
    for kind, word, meaning, colour in _KINDS:
        share = found.share_of(kind)  # type: ignore[arg-type]  # the three kinds
        lines.append(
            f"<span><b>{word}</b></span>{bar(share, f'c{colour}', label=f'{word} problems')}"
            f'<b class="tt-num">{percent(share, 0)}</b><span class="tt-muted tt-small">{escape(meaning)}</span>'
        )
    return f'<div class="preflight-kinds">{"".join(lines)}</div>'


def _numbers(found: Findings, config: RunConfig, plan: Plan) -> list[tuple[str, str]]:
    pairs = [
        ("Right labels", f"about {percent(found.label_quality, 0)} expected, as such votes were on the bundled sets")
    ]
    measured = found.measured_quality
    if measured is not None:
        right, known = measured
        shown = f"{right} of {known} by your reference answers {interval(*wilson_interval(right, known), 0)}{NARROW}%"
        pairs.append(("Measured", f"{shown}; not part of the verdict"))
    pairs += [
        ("Unreadable", f"{percent(found.unread)} of the answers"),
        ("Cut at the limit", f"{percent(found.cut)} of the answers"),
        ("Answer length", f"{found.mean_length:,.0f} tokens on average"),
        ("A step takes", f"about {duration(found.step_s(config))}"),
        ("The whole run", duration_range(*whole_run_s(found, config, plan)) or "unknown"),
    ]
    return pairs
