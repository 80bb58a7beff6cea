"""Whether both sides take the same step: TRL's own rollouts of one step, put through our update, gradient by gradient.

After the first step of AdamW its first moment is a tenth of the gradient (clipped where it was clipped), on both
sides, so nothing inside either trainer has to be opened.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.children import Sides
from benchmarks.exchange import Job
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.reward import advantages


def gradient_difference(sides: Sides, job: Job, folder: Path) -> float:
    """|g_TRL - g_ours| / |g_TRL| over all weights, for one step of TRL's on `job` (without LoRA, whose first weights
    are drawn)."""
    record = folder / "trl-step.pt"
    with sides.start_trl(replace(job, record=str(record))) as trl:
        trl.wait()
        trl.step()
    told = torch.load(record, weights_only=True)
    theirs: dict[str, torch.Tensor] = told["moments"]
    ours = first_moments(job, told["prompts"], told["completions"], told["rewards"])
    assert theirs.keys() == ours.keys()
    difference = sum(float((theirs[name] - ours[name]).double().square().sum()) for name in theirs)
    size = sum(float(moment.double().square().sum()) for moment in theirs.values())
    return float((difference / size) ** 0.5)


def first_moments(
    job: Job, prompts: list[str], completions: list[list[int]], rewards: list[float]
) -> dict[str, torch.Tensor]:
    """AdamW's first moments after our first step on these rollouts, grouped by problem as they come."""
    train = TrainConfig(learning_rate=job.learning_rate)
    model = ModelConfig(source=job.model, method="full")
    policy = Policy.load(model, HardwareConfig(device="cpu" if job.device == "cpu" else "cuda"), train)
    rows: list[TrainRow] = []
    for start in range(0, len(rewards), job.num_votes):
        gains = advantages(rewards[start : start + job.num_votes], train.advantage)
        for prompt, tokens, gain in zip(prompts[start:], completions[start:], gains, strict=False):
            rows.append(with_logprobs(policy, prompt, tokens, gain))
    policy.update([rows], train, 1.0, job.learning_rate, lambda: False)
    state = policy.optimizer.state
    return {name: state[weights]["exp_avg"].cpu() for name, weights in policy.model.named_parameters()}


@torch.no_grad()
def with_logprobs(policy: Policy, prompt: str, tokens: list[int], gain: float) -> TrainRow:
    """A rollout as our sampler would have handed it over."""
    ids = tuple(policy.tokenizer(prompt)["input_ids"])
    row = TrainRow(ids, tuple(tokens), (0.0,) * len(tokens), gain)
    return replace(row, old_logprobs=tuple(policy.logprobs([row], 1.0).tolist()))
