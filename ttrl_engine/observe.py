"""What a finished step looks like from outside: its metrics and elections, held against references where there are
any. It reads what the learner did and returns numbers; nothing flows back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ttrl_engine.events import ClassCount, ElectionHeld, Phase
from ttrl_engine.label_metrics import LabelQuality, measure_label
from ttrl_engine.learner import Ballot, StepOutcome
from ttrl_engine.problems import References
from ttrl_engine.tasks.base import Task
from ttrl_engine.variety import LABEL_PROBLEMS, answer_entropy

SHOWN_CLASSES = 12


def election_events(outcome: StepOutcome, task: Task, references: References) -> Iterator[ElectionHeld]:
    """One event per problem of the step; `None` where the problem has no reference answer."""
    for ballot in outcome.ballots:
        election = ballot.election
        quality = _quality(ballot, task, references)
        correct = quality.classes_correct if quality else (None,) * election.num_classes
        yield ElectionHeld(
            step=outcome.step,
            problem_id=ballot.problem.id,
            label=election.label,
            abstained=election.abstained,
            consensus=election.consensus,
            margin=election.margin,
            num_rollouts=election.num_rollouts,
            num_classes=election.num_classes,
            num_unparsed=election.num_unparsed,
            num_truncated=ballot.num_truncated,
            classes=tuple(
                ClassCount(task.display(each.answer), each.count, right)
                for each, right in list(zip(election.classes, correct, strict=True))[:SHOWN_CLASSES]
            ),
            reward_mean=_mean([ballot.rewards[index] for index in ballot.finished]),
            label_correct=quality.label_correct if quality else None,
            reward_accuracy=quality.reward_accuracy if quality else None,
            truth_share=quality.truth_share if quality else None,
        )


def step_metrics(
    outcome: StepOutcome,
    task: Task,
    references: References,
    before: Mapping[str, str | None],
    seconds: Mapping[str, float],
) -> dict[str, float]:
    """The metrics of `ttrl_engine.metrics.METRICS` that are known: means over the problems of the step.

    `before` holds the latest earlier pseudo-label (class key) of each problem that has been visited, and `seconds`
    the wall time per phase. Metrics against references are over the problems that have one, and left out where no
    problem has.
    """
    ballots = outcome.ballots
    elections = [ballot.election for ballot in ballots]
    rollouts = [rollout for ballot in ballots for rollout in ballot.rollouts]
    lengths = [len(rollout.tokens) for rollout in rollouts]
    # What votes that were called off would have been is not known; their tokens were drawn all the same.
    finished = [rollout for rollout in rollouts if rollout.finish != "dropped"]
    # The sampled tokens' own log-probabilities are an unbiased estimate of the entropy, and cost nothing.
    surprise = -sum(sum(rollout.logprobs) for rollout in rollouts)
    metrics = {
        "consensus": _mean([election.consensus for election in elections]),
        "margin": _mean([election.margin for election in elections]),
        "num_classes": _mean([election.num_classes for election in elections]),
        "abstained_share": _mean([election.abstained is not None for election in elections]),
        "unparsed_share": sum(election.num_unparsed for election in elections) / len(finished),
        "truncated_share": _mean([rollout.finish == "length" for rollout in finished]),
        "votes_dropped_share": 1.0 - len(finished) / len(rollouts),
        "unanimous_share": _mean([election.unanimous for election in elections]),
        "zero_advantage_share": _mean([not any(ballot.advantages) for ballot in ballots]),
        "reward_mean": _mean([ballot.rewards[index] for ballot in ballots for index in ballot.finished]),
        "trained_reward_mean": _mean([ballot.rewards[index] for ballot in ballots for index in ballot.trained]),
        "entropy": surprise / sum(lengths),
        "length_mean": _mean([len(rollout.tokens) for rollout in finished]),
        "length_max": float(max(lengths)),
        "tokens_sampled": float(sum(lengths)),
        "tokens_trained": float(outcome.update.num_tokens),
        "loss": outcome.update.loss,
        "grad_norm": outcome.update.grad_norm,
        "clip_share": outcome.update.clip_share,
        "sampler_mismatch": outcome.update.mismatch,
        "sampler_mismatch_max": outcome.update.mismatch_max,
        "importance_capped_share": outcome.update.capped_share,
        "learning_rate": outcome.learning_rate,
        "kl_step": outcome.shift,
    }
    varied = [value for election in elections if (value := answer_entropy(election)) is not None]
    if varied:
        metrics["answer_entropy"] = _mean(varied)
    if outcome.update.kl_base is not None:
        metrics["kl_base"] = outcome.update.kl_base
    if seconds.get(Phase.SAMPLING, 0.0) > 0.0:
        metrics["rollouts_per_s"] = len(rollouts) / seconds[Phase.SAMPLING]
    labels = {ballot.problem.id: ballot.election.label_key for ballot in ballots}
    seen_before = [problem for problem in labels if before.get(problem) is not None and labels[problem] is not None]
    if seen_before:
        metrics["flip_share"] = _mean([before[problem] != labels[problem] for problem in seen_before])
    latest = Counter(label for label in ({**before, **labels}).values() if label is not None)
    if sum(latest.values()) >= LABEL_PROBLEMS:
        metrics["top_label_share"] = max(latest.values()) / sum(latest.values())
    measured = [(ballot, _quality(ballot, task, references)) for ballot in ballots]
    known = [quality for _, quality in measured if quality is not None]
    if known:
        metrics["label_accuracy"] = _mean([quality.label_correct for quality in known])
        metrics["reward_accuracy"] = _mean([quality.reward_accuracy for quality in known])
        metrics["truth_share"] = _mean([quality.truth_share for quality in known])
        metrics["pass_any"] = _mean([quality.any_correct for quality in known])
        trained = [quality.among(ballot.trained) for ballot, quality in measured if quality is not None]
        metrics["trained_reward_accuracy"] = _mean([quality.reward_accuracy for quality in trained])
        metrics["trained_truth_share"] = _mean([quality.truth_share for quality in trained])
        metrics["trained_pass_any"] = _mean([quality.any_correct for quality in trained])
    return metrics


def _quality(ballot: Ballot, task: Task, references: References) -> LabelQuality | None:
    reference = references.get(ballot.problem.id)
    if reference is None:
        return None
    quality = measure_label(ballot.election, reference, task, ballot.problem)
    return None if quality is None else quality.among(ballot.finished)


def _mean(values: list[float] | list[int] | list[bool] | tuple[float, ...]) -> float:
    return sum(values) / len(values)
