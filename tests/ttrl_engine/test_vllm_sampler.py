"""Runs against vLLM's CPU build in an environment of its own: `make test-vllm`. Skipped by name elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-vllm` runs these in an environment that has it")

import torch

from ttrl_engine.config import PRESETS, HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.events import Event, RunStarted, StepFinished
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.problems import load_problem_set
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, StopRequested
from ttrl_engine.trainer import run
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


def test_settled_requests_drop_only_rollouts_that_are_not_required(pair: tuple[Policy, VllmSampler]) -> None:
    class Settled:
        def __init__(self) -> None:
            self.calls = 0
            self.seen: list[tuple[int, int]] = []

        def finished(self, request: int, index: int, _: Rollout) -> None:
            self.seen.append((request, index))

        def settled(self) -> list[int]:
            self.calls += 1
            return [1] if self.calls == 4 else []

    settled = Settled()
    requests = [SampleRequest(request.prompt_ids, 8, 0, 3) for request in REQUESTS]
    # No token ends an answer, so all are still growing when one request is settled.
    params = SamplingParams(0.8, 1.0, 24, ())
    sampled = pair[1].sample(requests, params, lambda _done, _total: None, lambda: False, settled)
    finishes = [[rollout.finish for rollout in group] for group in sampled]
    assert finishes == [["length"] * 8, ["length"] * 3 + ["dropped"] * 5, ["length"] * 8]
    assert len(settled.seen) == len(set(settled.seen)) == 24
    assert not pair[1]._llm.llm_engine.has_unfinished_requests()


def test_only_the_given_tokens_end_an_answer(pair: tuple[Policy, VllmSampler]) -> None:
    """The model's own file names token 1 as its end."""
    params = SamplingParams(0.8, 1.0, 24, (7,))
    sampled = pair[1].sample(REQUESTS, params, lambda _done, _total: None, lambda: False)
    everything = [rollout for group in sampled for rollout in group]
    assert any(1 in rollout.tokens[:-1] for rollout in everything)
    assert all((rollout.tokens[-1] == 7) == (rollout.finish == "stop") for rollout in everything)


@pytest.mark.timeout(1800)
def test_the_whole_loop_learns_through_it_on_the_bundled_model(tmp_path: Path) -> None:
    config = (
        PRESETS["quick-look"]
        .config()
        .with_changes(
            **{
                "hardware.sampler": "vllm",
                "hardware.device": "cpu",
                "hardware.threads": 1,
                "data.benchmarks": (),
                "train.max_steps": 10,
                "evaluate.every_steps": 0,
                "evaluate.num_samples": 4,
                "evaluate.max_problems": 32,
                "vote.max_new_tokens": 96,
            }
        )
    )
    events: list[Event] = []
    run(config, tmp_path, load_problem_set("bundled:sums"), {}, events.append)
    assert next(event for event in events if isinstance(event, RunStarted)).sampler == "vllm"
    steps = [event.metrics for event in events if isinstance(event, StepFinished)]
    assert max(abs(step["sampler_mismatch"]) for step in steps) < 5e-3, "stale weights were served"
    first, last = (sum(step["consensus"] for step in part) / 3 for part in (steps[:3], steps[-3:]))
    assert last > first + 0.1
    truth = [sum(step["truth_share"] for step in part) / 3 for part in (steps[:3], steps[-3:])]
    assert truth[1] > truth[0] + 0.1


def test_closing_twice_is_no_error(pair: tuple[Policy, VllmSampler]) -> None:
    """Last in this file: the engine is gone afterwards."""
    pair[1].close()
    pair[1].close()
    assert not pair[1]._adapters.exists()
