"""What a run will cost, computed before it starts from its config and what this machine has done before."""

from __future__ import annotations

from dataclasses import dataclass

from ttrl_engine.config import RunConfig
from ttrl_engine.memory import ModelShape

_BYTES_PER_TOKEN_ON_DISK = 1.5  # measured on gzipped rollout lines: text plus what surrounds it


@dataclass(frozen=True)
class Plan:
    """Counts are exact except where a name says `max`; None is unknown, never 0.

    `seconds_low`, `seconds_high`: from earlier runs of the model here. `disk_bytes`: checkpoints, weights, rollouts
    and, for a hub model that is not cached, its download.
    """

    num_adapt: int
    num_held_out: int
    steps: int
    rollouts_per_step: int
    total_rollouts: int
    max_tokens: int
    eval_rollouts: int
    seconds_low: float | None
    seconds_high: float | None
    disk_bytes: int | None
    download_bytes: int


def split_sizes(num_problems: int, held_out_share: float, max_problems: int | None) -> tuple[int, int]:
    """Adapt and held-out counts, as `ttrl_engine.problems.split` deals them."""
    drawn = min(num_problems, max_problems or num_problems)
    held_out = max(1, round(drawn * held_out_share)) if held_out_share > 0 else 0
    return drawn - held_out, held_out


def trained_parameters(config: RunConfig, shape: ModelShape) -> int:
    """Weights that learn."""
    return shape.parameters if config.model.method == "full" else shape.lora_parameters(config.model.lora_rank)


def num_evaluations(config: RunConfig, steps: int) -> int:
    """How often the policy is scored: before, every so many steps, and after."""
    every = config.evaluate.every_steps
    between = (steps - 1) // every if every else 0
    return 2 + between


def make_plan(
    config: RunConfig,
    num_problems: int,
    *,
    num_labelled_splits: int = 0,
    shape: ModelShape | None = None,
    download_bytes: int = 0,
    rollouts_per_s: tuple[float, float] | None = None,
) -> Plan:
    """The plan of `config` over a set of `num_problems`.

    `num_labelled_splits` counts the splits and benchmarks that are scored, and the held-out problems in any case;
    `shape` is that of the model, if it is known; `rollouts_per_s` is the slowest and fastest rate of whole steps seen
    here for this model.
    """
    adapt, held_out = split_sizes(num_problems, config.data.held_out_share, config.data.max_problems)
    steps = config.total_steps(adapt) if adapt > 0 else 0
    per_step = min(config.train.problems_per_step, max(adapt, 0)) * config.vote.num_votes
    full_epochs, rest = divmod(steps, max(1, -(-adapt // config.train.problems_per_step)))
    visits = full_epochs * max(adapt, 0) + min(adapt, rest * config.train.problems_per_step)
    total = visits * config.vote.num_votes
    scored = min(adapt, config.evaluate.max_problems or adapt)
    eval_rollouts = num_evaluations(config, steps) * num_labelled_splits * scored * config.evaluate.num_samples
    slow, fast = rollouts_per_s or (0.0, 0.0)
    disk = None
    if shape is not None:
        learned = trained_parameters(config, shape)
        # Weights and AdamW's two moments per checkpoint, one being written beside those kept, and the final weights.
        disk = round(
            learned * 4 * (3 * (config.checkpoint.keep + 1) + 1)
            + total * min(config.vote.max_new_tokens, 4096) * _BYTES_PER_TOKEN_ON_DISK
            + download_bytes
        )
    return Plan(
        num_adapt=adapt,
        num_held_out=held_out,
        steps=steps,
        rollouts_per_step=per_step,
        total_rollouts=total,
        max_tokens=total * config.vote.max_new_tokens,
        eval_rollouts=eval_rollouts,
        seconds_low=total / fast if fast > 0 else None,
        seconds_high=(total + eval_rollouts) / slow if slow > 0 else None,
        disk_bytes=disk,
        download_bytes=download_bytes,
    )
