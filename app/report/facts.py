"""The tables of the report as plain text cells; page and PDF only lay them out."""

from __future__ import annotations

import datetime

from app.evaluations import gain_words, rate_words
from app.format import count, percent
from app.pages.run_records import changed_settings
from app.report.evidence import Evidence
from app.report.movers import Mover
from app.report.words import against_vote, change_words, verdict

GAIN_COLUMNS = (
    "Split",
    "n × k",
    "Step",
    "Base pass@1 [95 %]",
    "Now pass@1 [95 %]",
    "Gain [95 %]",
    "Verdict",
    "Base maj@k",
    "Now maj@k",
    "pass@1 now against base maj@k",
)
MOVER_COLUMNS = ("Problem", "Split", "Asked", "Change", "Base majority", "Adapted majority", "Reference")
ALARM_COLUMNS = ("Step", "Alarm", "What was seen", "Action")


def gain_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """One row per split, in the order of GAIN_COLUMNS; "unknown" where nothing is known."""
    rows: list[tuple[str, ...]] = []
    for split in evidence.splits:
        base, newest = split.base, split.newest
        later = newest if newest.step > 0 else None
        rows.append(
            (
                split.title,
                f"{newest.num_problems} × {newest.num_samples}",
                str(newest.step),
                "unknown" if base is None else rate_words(base),
                "unknown" if later is None else rate_words(later),
                gain_words(later),
                "unknown" if later is None else verdict(later),
                percent(None if base is None else base.maj),
                percent(None if later is None else later.maj),
                against_vote(split),
            )
        )
    return rows


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What was computed with what."""
    run, config = evidence.run, evidence.run.config
    weights = f"LoRA, rank {config.model.lora_rank}" if config.model.method == "lora" else "all weights"
    return [
        ("Run", f"{run.id}, submitted {_date(run.created_at)}, now {run.state.value}"),
        ("Model", f"{run.model}{f' at {config.model.revision}' if config.model.revision else ''}"),
        ("Weights that learn", f"{weights} ({count(run.num_trainable)} of {count(run.num_parameters)})"),
        ("Problems", run.set_name),
        ("Content hash of the problems", run.data_hash),
        ("With a reference answer", count(run.set_num_references)),
        ("Adapt / held out", f"{count(run.num_adapt)} / {count(run.num_held_out)}"),
        ("Seed", str(run.seed)),
        ("Digest of the config", run.config_digest),
        *evidence.machine.items(),
        *sorted(run.versions.items()),
        ("Report made", _date(evidence.made_at)),
    ]


def changed(evidence: Evidence) -> list[tuple[str, str]]:
    """The settings that differ from the defaults."""
    return changed_settings(evidence.run.config)


def mover_row(mover: Mover) -> tuple[str, ...]:
    """One problem, in the order of MOVER_COLUMNS."""
    return (
        mover.problem_id,
        mover.split,
        mover.prompt,
        change_words(mover.share_before, mover.share_after),
        mover.answer_before or "none",
        mover.answer_after or "none",
        mover.reference or "unknown",
    )


def alarm_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    """Every alarm, in the order of ALARM_COLUMNS."""
    return [(str(alarm.step), alarm.alarm, alarm.message, alarm.action) for alarm in evidence.alarms]


def movers_title(evidence: Evidence, best: bool) -> str:
    """ "Ten best problems by pass rate"."""
    measure = evidence.movers.measure if evidence.movers else "pass rate"
    return f"{'Best' if best else 'Worst'} problems by change of {measure} (ten at most)"


def movers_lead(evidence: Evidence) -> str:
    """What the two lists rank and how many problems are behind them."""
    movers = evidence.movers
    if movers is None:
        return "No problem has been measured twice yet, so none can be ranked."
    text = (
        f"Of {movers.num_problems:,} problems measured at the start and at the end, {movers.num_better:,} went up and "
        f"{movers.num_worse:,} went down in {movers.measure}."
    )
    if movers.measure == "consensus":
        text += " Without reference answers this ranks agreement, not correctness."
    return text


def reproduce(evidence: Evidence) -> tuple[str, str]:
    """(what to know, the command)."""
    run = evidence.run
    text = "Save the config below as a file, then give it to the command line of the same version:"
    if run.config.data.problems.startswith("set:"):
        text += " The problem set is an uploaded one: it must be in the data folder, with the content hash above."
    return text, f"ttrl-studio run run-{run.id}.yaml --out run-{run.id}"


def _date(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
