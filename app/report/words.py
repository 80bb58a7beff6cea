"""The sentences of the report: what was done, what came of it, and what that does not prove."""

from __future__ import annotations

from collections.abc import Sequence

from app.evaluations import SplitSeries, established, gain_words, rate_words, sample_size
from app.format import count, duration, interval, percent, points
from app.report.evidence import Evidence
from worker.rows import EvaluationRow
from worker.states import JobState

TTRL = "arXiv 2504.16084"

_ENDINGS = {
    JobState.FINISHED: "The run is finished.",
    JobState.FAILED: "The run has failed: what follows is what it had measured by then.",
    JobState.LOST: "The run was lost with its worker: what follows is what it had measured by then.",
    JobState.STOPPED: "The run was stopped by a person before its end: what follows is what it had measured by then.",
    JobState.PAUSED: "The run is paused: what follows is what it has measured so far.",
    JobState.QUEUED: "The run waits in the queue: there is nothing measured that is not below.",
}
_REWARDS = {
    "majority": "answers that agree with the winner were rewarded, all others were not",
    "soft": "every answer was rewarded by the share of all answers that agree with it",
    "random": "answers were rewarded by lot: this is a control run, and its gain is what chance rewards give",
}


def state_words(evidence: Evidence) -> str:
    """How complete this is."""
    run = evidence.run
    words = _ENDINGS.get(run.state, "The run is still at work: what follows is what it has measured so far.")
    if run.state in (JobState.FAILED, JobState.LOST) and run.job.error_message:
        words += f" Reason: {run.job.error_message}"
    return words


def done_words(evidence: Evidence) -> list[str]:
    """What was done, in plain words."""
    run, config = evidence.run, evidence.run.config
    vote = config.vote
    what = "a LoRA adapter beside frozen weights" if config.model.method == "lora" else "all weights"
    steps = f"{run.step:,} of {run.total_steps:,} steps" if run.total_steps else "no step yet"
    took = f", in {duration(evidence.seconds)}" if evidence.seconds is not None else ""
    parts = [
        f"The model {run.model} answered the problems of “{run.set_name}” by itself, {vote.num_votes} times each. The "
        f"answers to a problem held a vote, and {_REWARDS[vote.reward]}. No reference answer was used "
        f"for training (test-time reinforcement learning, TTRL, {TTRL}).",
        f"{steps.capitalize()} of {config.train.problems_per_step} problems were done{took}; {what} learned, with "
        f"{vote.num_trained} of the {vote.num_votes} answers in each update.",
    ]
    if run.num_adapt is not None:
        held = f"{count(run.num_held_out)} were held out and never trained on" if run.num_held_out else "none held out"
        parts.append(f"The set was split by the seed {run.seed}: {count(run.num_adapt)} problems to adapt on, {held}.")
    if evidence.consensus is not None:
        first, last = evidence.consensus
        parts.append(
            f"The share of votes for the winner went from {percent(first, 0)} to {percent(last, 0)}. That is agreement "
            "of the model with itself, not correctness."
        )
    return parts


def verdict(row: EvaluationRow) -> str:
    """What the interval of a gain says: "established", "not established", "a loss is established", or "unknown"."""
    known = established(row)
    if known is None:
        return "unknown"
    if not known:
        return "not established"
    return "established" if (row.gain or 0.0) > 0 else "a loss is established"


def against_vote(split: SplitSeries) -> str:
    """Where single answers of the adapted model stand against the base model's free majority vote."""
    base, newest = split.base, split.newest
    if base is None or base.maj is None or newest.avg is None or not newest.step:
        return "unknown"
    if newest.avg_low is not None and newest.avg_low > base.maj:
        return "above it"
    if newest.avg_high is not None and newest.avg_high < base.maj:
        return "below it"
    return "not told apart from it"


def luck_words(evidence: Evidence) -> str:
    """What the grey band and the dashed line of the gain figures are."""
    if not evidence.gain_panels:
        return "Unknown: nothing with reference answers was scored before and after."
    return (
        "The grey band is the A/A noise: of two scorings of the unchanged model on the same problems, 95 % differ by "
        "no more, by the luck of its samples alone. A dashed line is a run whose rewards were drawn by lot. A gain "
        "that does not leave both behind says little."
    )


def headline(evidence: Evidence) -> list[str]:
    """The result in a sentence per split, each with its n and its interval."""
    if not evidence.evaluated:
        if not evidence.run.set_num_references and not evidence.splits:
            return ["Whether it got better is unknown: there were no reference answers to measure with."]
        return ["Whether it got better is unknown: the adapted model has not been evaluated yet."]
    return [
        f"{split.title}: {gain_words(split.newest)} ({sample_size(split.newest)}, step {split.newest.step}). Now "
        f"{rate_words(split.newest)}."
        for split in evidence.splits
        if split.newest.step > 0
    ]


def caveats(evidence: Evidence) -> list[tuple[str, str]]:
    """(title, text): what the figures do not prove."""
    return [
        ("The line to beat is the base model's own vote", _vote_caveat(evidence)),
        ("The same problems", _same_problems(evidence)),
        ("Sharpening, not new knowledge", _sharpening(evidence)),
        ("Selection", _selection(evidence)),
        ("Contamination and rewards by lot", _contamination(evidence)),
        ("What the intervals cover", _intervals(evidence)),
        *_unknowns(evidence),
    ]


def _vote_caveat(evidence: Evidence) -> str:
    text = (
        "Asking the unchanged model many times and taking the majority (maj@k) costs no training. Single answers that "
        "got better than single answers before (pass@1) have won the easier comparison only."
    )
    lines = [
        f" {split.title}: pass@1 is now {percent(split.newest.avg)}, the base model's majority vote had "
        f"{percent(split.base.maj)} {interval(split.base.maj_low, split.base.maj_high)}: {against_vote(split)}."
        for split in evidence.splits
        if split.base is not None and split.newest.step > 0
    ]
    return text + "".join(lines)


def _same_problems(evidence: Evidence) -> str:
    text = (
        "On the adapt problems the model practised the very problems it is scored on, though without their answers. A "
        "gain there says how well these problems are answered now, not that the model became better in general."
    )
    held = next((split for split in evidence.splits if split.split == "held_out"), None)
    if held is not None and held.newest.step > 0:
        return (
            f"{text} Only held-out problems and benchmarks say whether it carries over: {gain_words(held.newest)} "
            f"on held-out problems ({sample_size(held.newest)})."
        )
    return f"{text} Nothing held out was measured here, so whether it carries over is unknown."


def _sharpening(evidence: Evidence) -> str:
    text = (
        "Rewarding agreement mostly makes a model surer of what it already leaned to (arXiv 2603.08660, 2605.19444). "
        "Where its first majority was wrong, it tends to become confidently wrong."
    )
    movers = evidence.movers
    if movers is None or movers.learned is None:
        return text
    return (
        f"{text} Majority answers of the {movers.num_problems:,} own problems scored: {movers.learned} turned right, "
        f"{movers.degraded} turned wrong, {movers.stable_right} stayed right, {movers.stable_wrong} stayed wrong."
    )


def _selection(evidence: Evidence) -> str:
    text = "The figures are of the newest evaluation, not of the best one. "
    num = evidence.num_siblings
    if num:
        text += (
            f"This Studio holds {num:,} further run{'s' if num > 1 else ''} of this model on these problems. If this "
            "one was picked because it did best, its gain is too high and its interval too narrow."
        )
    else:
        text += "It is the only run of this model on these problems in this Studio, with one seed."
    if evidence.movers is not None:
        text += " The best and worst problems below are chosen for being extreme: part of each change is luck."
    return text


def _contamination(evidence: Evidence) -> str:
    text = (
        "Problems of public benchmarks may have been in the base model's training data; then a gain is partly recalled "
        "(arXiv 2507.10532). For some models even rewards drawn by lot raise such scores almost as much (2506.10947)."
    )
    if evidence.run.config.vote.reward == "random":
        return f"{text} This run is such a control itself."
    if not evidence.controls:
        return f"{text} No control run with rewards by lot was made for this model and these problems."
    found = [
        f" Control run {control.run.id} (rewards by lot, {control.run.step} steps), {split.title}: "
        f"{gain_words(split.newest)} ({sample_size(split.newest)})."
        for control in evidence.controls
        for split in control.splits
        if split.newest.step > 0
    ]
    return text + ("".join(found) or " A control run with rewards by lot exists, but was not evaluated.")


def _intervals(evidence: Evidence) -> str:
    return (
        "95 % intervals over the problems of a split; the gain is paired by problem. They cover which problems were "
        f"drawn and the luck of sampling, not another seed than {evidence.run.seed}, another split or another set."
    )


def _unknowns(evidence: Evidence) -> Sequence[tuple[str, str]]:
    found = []
    if not evidence.run.set_num_references:
        text = "This set has no reference answers, so label accuracy, reward accuracy and gain on it are unknown."
        found.append(("No reference answers", text))
    if evidence.alarms:
        num = len(evidence.alarms)
        text = f"{num} alarm{'s' if num > 1 else ''} fired, listed below. Read the gain with them in mind."
        found.append(("Safeguards", text))
    if evidence.run.state is not JobState.FINISHED:
        found.append(("Not at its end", state_words(evidence)))
    return found


def change_words(before: float, after: float) -> str:
    """ "12.5 % → 87.5 % (+75.0 pts)"."""
    return f"{percent(before)} → {percent(after)} ({points(after - before)})"
