"""Runs against vLLM's CPU build in an environment of its own: `make test-vllm`. Skipped by name elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-vllm` runs these in an environment that has it")

import torch

from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, StopRequested
from ttrl_engine.vllm_sampler import VllmSampler

pytestmark = pytest.mark.vllm
PARAMS = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=24, stop_ids=(1,))
REQUESTS = [SampleRequest(tuple(5 + (7 * i + j) % 30 for j in range(12)), 8, i) for i in range(3)]


@pytest.fixture(scope="module")
def pair(tiny_model: Path) -> Iterator[tuple[Policy, VllmSampler]]:
    torch.manual_seed(0)
    config = ModelConfig(source=str(tiny_model), method="lora", lora_rank=8)
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    sampler = VllmSampler(policy, str(tiny_model), None, 64, 0)
    yield policy, sampler
    sampler.close()


def sample(sampler: VllmSampler) -> list[list[Rollout]]:
    return sampler.sample(REQUESTS, PARAMS, lambda _done, _total: None, lambda: False)


def rows(sampled: list[list[Rollout]], advantage: float = 1.0) -> list[TrainRow]:
    return [
        TrainRow(request.prompt_ids, r.tokens, r.logprobs, advantage)
        for request, rollouts in zip(REQUESTS, sampled, strict=True)
        for r in rollouts
    ]


def mismatch(policy: Policy, sampled: list[list[Rollout]]) -> float:
    drawn = torch.tensor([value for row in rows(sampled) for value in row.old_logprobs])
    return float((policy.logprobs(rows(sampled), PARAMS.temperature).detach() - drawn).abs().max())


def test_the_sampler_serves_the_newest_weights_after_every_update(pair: tuple[Policy, VllmSampler]) -> None:
    policy, sampler = pair
    for _ in range(3):
        sampled = sample(sampler)
        assert mismatch(policy, sampled) < 5e-3
        policy.update([rows(sampled)], TrainConfig(), PARAMS.temperature, 3e-2, lambda: False)
        assert mismatch(policy, sampled) > 2e-2, "the update must move the policy, or this test proves nothing"
        sampler.sync()


def test_rollouts_end_with_the_end_token_or_the_limit(pair: tuple[Policy, VllmSampler]) -> None:
    for rollout in [r for group in sample(pair[1]) for r in group]:
        assert len(rollout.tokens) == len(rollout.logprobs) <= PARAMS.max_new_tokens
        assert (rollout.tokens[-1] == 1) == (rollout.finish == "stop")


def test_a_stop_request_leaves_the_engine_usable(pair: tuple[Policy, VllmSampler]) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 4

    with pytest.raises(StopRequested):
        pair[1].sample(REQUESTS, PARAMS, lambda _done, _total: None, should_stop)
    assert len(sample(pair[1])) == len(REQUESTS)
