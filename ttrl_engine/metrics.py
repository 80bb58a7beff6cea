"""Every number a step reports, in plain language: the source of chart titles, tooltips and the table in the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Unit: TypeAlias = Literal["share", "nats", "tokens", "s", "count", "1"]


@dataclass(frozen=True)
class Metric:
    """One key of `StepFinished.metrics` or `HeldOutPolled.metrics`. Unit "1" is a plain number; a "share" lies in 0..1.

    `needs_references`: known only where problems have reference answers, and never used for training.
    """

    name: str
    title: str
    unit: Unit
    description: str
    needs_references: bool = False


_ALL: Final = (
    Metric(
        "consensus",
        "Consensus",
        "share",
        "Share of a problem's rollouts that gave its most frequent answer; rollouts without an answer count in the "
        "total. Mean over the problems of the step.",
    ),
    Metric(
        "label_accuracy",
        "Pseudo-label accuracy",
        "share",
        "Share of the votes that elected the reference answer. A vote that abstained elected nothing and counts as not "
        "right.",
        needs_references=True,
    ),
    Metric(
        "reward_accuracy",
        "Reward accuracy",
        "share",
        "Share of rollouts that the label judges as the reference answer would. It can be high under a wrong label, "
        "because a rollout that is wrong in another way is rightly judged wrong.",
        needs_references=True,
    ),
    Metric(
        "truth_share",
        "Right rollouts",
        "share",
        "Share of all rollouts whose answer equals the reference: the pass@1 of the sampling itself.",
        needs_references=True,
    ),
    Metric(
        "reward_mean",
        "Reward",
        "1",
        "Mean reward of all rollouts; unless the run is set otherwise, 1 for the pseudo-label's answer and 0 for any "
        "other. It measures agreement, not correctness.",
    ),
    Metric(
        "pass_any",
        "Some rollout right",
        "share",
        "Share of problems for which at least one rollout gave the reference answer: what a better vote could "
        "still find.",
        needs_references=True,
    ),
    Metric(
        "trained_reward_mean",
        "Reward, trained rollouts",
        "1",
        "Mean reward of the K rollouts per problem that enter the update.",
    ),
    Metric(
        "trained_reward_accuracy",
        "Reward accuracy, trained rollouts",
        "share",
        "Reward accuracy over the K rollouts per problem that enter the update, under the label of all N votes.",
        needs_references=True,
    ),
    Metric(
        "trained_truth_share",
        "Right trained rollouts",
        "share",
        "Share of the trained rollouts whose answer equals the reference.",
        needs_references=True,
    ),
    Metric(
        "trained_pass_any",
        "Some trained rollout right",
        "share",
        "Share of problems for which at least one trained rollout gave the reference answer.",
        needs_references=True,
    ),
    Metric(
        "abstained_share",
        "Abstained votes",
        "share",
        "Share of problems that elected no pseudo-label: a tie, no answers, or too little consensus or margin. "
        "They train nothing.",
    ),
    Metric(
        "unparsed_share",
        "Unreadable answers",
        "share",
        "Share of rollouts in which no final answer was found. They vote for nothing and earn 0.",
    ),
    Metric(
        "truncated_share",
        "Cut rollouts",
        "share",
        "Share of rollouts that reached the length limit before they ended.",
    ),
    Metric(
        "votes_dropped_share",
        "Votes called off",
        "share",
        "Share of rollouts that were stopped because the vote was decided without them. Consensus, lead and unanimity "
        "are then the least they could have been; other shares are over the rollouts that ended.",
    ),
    Metric(
        "unanimous_share",
        "Unanimous problems",
        "share",
        "Share of problems whose rollouts all gave the same answer. There is nothing left to learn from them.",
    ),
    Metric(
        "zero_advantage_share",
        "Problems without signal",
        "share",
        "Share of problems whose trained rollouts all earned the same reward and so do not move the policy.",
    ),
    Metric(
        "num_classes",
        "Different answers",
        "count",
        "Different answers per problem, equal ones in another spelling counted once. Mean over the "
        "problems of the step.",
    ),
    Metric(
        "answer_entropy",
        "Variety of answers",
        "share",
        "Entropy of a problem's answers as a share of its greatest value: 0 where all that could be read agree, 1 "
        "where no two do. Mean over the problems with at least two such answers.",
    ),
    Metric(
        "margin",
        "Lead of the winner",
        "share",
        "By how large a share of all rollouts the most frequent answer leads the second. Mean over the problems of the "
        "step.",
    ),
    Metric(
        "flip_share",
        "Changed labels",
        "share",
        "Share of the problems seen before whose pseudo-label differs from their last one. A fall to 0 means the votes "
        "have settled, rightly or wrongly.",
    ),
    Metric(
        "top_label_share",
        "Commonest label",
        "share",
        "Share of problems, each by its latest vote, that share one single pseudo-label. A rise warns of a policy that "
        "answers everything alike. Unknown until 10 problems have a label.",
    ),
    Metric(
        "held_out_consensus",
        "Held-out consensus",
        "share",
        "Share of a held-out problem's samples that gave its most frequent answer, drawn as evaluations draw. Mean "
        "over the held-out problems that were asked.",
    ),
    Metric(
        "held_out_num_classes",
        "Held-out different answers",
        "count",
        "Different answers per held-out problem. Mean over the held-out problems that were asked.",
    ),
    Metric(
        "held_out_answer_entropy",
        "Held-out variety of answers",
        "share",
        "Variety of answers within a held-out problem: 0 where all agree, 1 where no two do. It falls in a run that "
        "learns well, too.",
    ),
    Metric(
        "held_out_label_variety",
        "Held-out variety of labels",
        "share",
        "Variety of the most frequent answers across held-out problems: 0 where all problems get the same one, 1 where "
        "each has its own. Unknown for fewer than 10 problems with a label.",
    ),
    Metric(
        "entropy",
        "Entropy",
        "nats",
        "How undecided the policy is per sampled token, estimated from the tokens' own log-probabilities.",
    ),
    Metric("length_mean", "Rollout length", "tokens", "Mean number of tokens per rollout."),
    Metric("length_max", "Longest rollout", "tokens", "Tokens of the longest rollout of the step."),
    Metric(
        "loss",
        "Loss",
        "1",
        "Value of the clipped objective, with the KL penalty where one is set. Near 0 by construction: it is no "
        "measure of progress.",
    ),
    Metric("grad_norm", "Gradient norm", "1", "Length of the gradient before clipping; mean over the step's updates."),
    Metric("learning_rate", "Learning rate", "1", "Step size of the optimizer in the last update of the step."),
    Metric(
        "kl_base",
        "KL to the base model",
        "nats",
        "How far the policy has moved from the base model per token, on its own rollouts (k3 estimate).",
    ),
    Metric(
        "kl_step",
        "Shift in this step",
        "nats",
        "How far this step's update moved the policy per token, on the rollouts it learned from. A jump warns of "
        "instability.",
    ),
    Metric(
        "clip_share",
        "Clipped tokens",
        "share",
        "Share of trained tokens whose probability ratio was clipped. Always 0 with one update per step.",
    ),
    Metric(
        "sampler_mismatch",
        "Sampler mismatch",
        "nats",
        "Mean difference between the log-probabilities of the sampler and of the policy for the same tokens. Should "
        "stay near 0.",
    ),
    Metric(
        "sampler_mismatch_max",
        "Largest sampler mismatch",
        "nats",
        "Largest difference between the log-probabilities of the sampler and of the policy for one token of the step.",
    ),
    Metric(
        "importance_capped_share",
        "Capped weights",
        "share",
        "Share of trained tokens that the policy finds so much likelier than the sampler did that their weight was "
        "held at the importance cap. Should stay near 0.",
    ),
    Metric("tokens_sampled", "Tokens sampled", "tokens", "Tokens of all rollouts of the step."),
    Metric("tokens_trained", "Tokens trained", "tokens", "Tokens that entered the update of the step."),
    Metric("rollouts_per_s", "Rollouts per second", "1", "Rollouts of the step per second spent sampling them."),
)

METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _ALL}
"""Name -> metric, in the order they are shown."""
