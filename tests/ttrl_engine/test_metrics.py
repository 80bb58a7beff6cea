"""The registry of metrics."""

from __future__ import annotations

from ttrl_engine.metrics import METRICS

CONTRACT = [
    "consensus",
    "label_accuracy*",
    "reward_accuracy*",
    "truth_share*",
    "reward_mean",
    "pass_any*",
    "trained_reward_mean",
    "trained_reward_accuracy*",
    "trained_truth_share*",
    "trained_pass_any*",
    "abstained_share",
    "unparsed_share",
    "truncated_share",
    "votes_dropped_share",
    "unanimous_share",
    "zero_advantage_share",
    "num_classes",
    "answer_entropy",
    "margin",
    "flip_share",
    "top_label_share",
    "held_out_consensus",
    "held_out_num_classes",
    "held_out_answer_entropy",
    "held_out_label_variety",
    "entropy",
    "length_mean",
    "length_max",
    "loss",
    "grad_norm",
    "learning_rate",
    "kl_base",
    "kl_step",
    "clip_share",
    "sampler_mismatch",
    "sampler_mismatch_max",
    "importance_capped_share",
    "tokens_sampled",
    "tokens_trained",
    "rollouts_per_s",
]


def test_every_metric_is_described_once_under_its_own_name():
    assert [f"{metric.name}{'*' * metric.needs_references}" for metric in METRICS.values()] == CONTRACT
    assert all(name == metric.name for name, metric in METRICS.items())
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)
    assert all(metric.description.endswith(".") and len(metric.description) > 25 for metric in METRICS.values())
