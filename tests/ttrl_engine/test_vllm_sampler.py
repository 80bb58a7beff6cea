"""Runs against vLLM's CPU build in an environment of its own: `make test-vllm`. Skipped by name elsewhere."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-vllm` runs these in an environment that has it")

import torch

from ttrl_engine import vllm_sampler
from ttrl_engine.config import PRESETS, HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.errors import RunError
from ttrl_engine.events import Event, RunStarted, StepFinished
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.problems import load_problem_set
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, StopRequested
from ttrl_engine.trainer import run
from ttrl_engine.vllm_engine import load_weights, seeds_are_free, start_engine
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


def test_only_the_given_tokens_end_an_answer(pair: tuple[Policy, VllmSampler], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's own file names token 1 as its end."""
    # The base, which draws every token; what the updates above have made of it may not.
    monkeypatch.setattr(pair[1], "_version", 0)
    params = SamplingParams(2.0, 1.0, 24, (7,))
    sampled = pair[1].sample(REQUESTS, params, lambda _done, _total: None, lambda: False)
    everything = [rollout for group in sampled for rollout in group]
    assert any(1 in rollout.tokens[:-1] for rollout in everything)
    assert all((rollout.tokens[-1] == 7) == (rollout.finish == "stop") for rollout in everything)


def test_rollouts_with_seeds_of_their_own_are_drawn_again_by_the_same_numbers(
    pair: tuple[Policy, VllmSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where seeds are free; the model runner of a CPU knows them too, only slowly."""
    assert not seeds_are_free(pair[1]._llm)
    assert sample(pair[1]) != sample(pair[1])
    monkeypatch.setattr(vllm_sampler, "seeds_are_free", lambda _llm: True)
    first = sample(pair[1])
    assert first == sample(pair[1])
    assert len({rollout.tokens for group in first for rollout in group}) == 24, "rollouts share a seed"


def test_nothing_of_vllm_is_written_where_events_are() -> None:
    start = (
        "import contextlib, logging; from ttrl_engine.vllm_engine import start_engine\n"
        "with contextlib.suppress(Exception): start_engine(0, model='/nowhere')\n"
        "logging.getLogger('vllm.engine').warning('a line of vLLM')"
    )
    told = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True)
    assert told.stdout == ""
    assert "a line of vLLM" in told.stderr


def test_ranks_compile_into_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vllm import envs

    # A running engine has vLLM remember its environment.
    envs.disable_envs_cache()
    monkeypatch.setattr("vllm.LLM", lambda **_: os.environ["VLLM_CACHE_ROOT"])
    for rank, folder in ((0, tmp_path), (1, tmp_path / "rank-1")):
        monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))
        assert start_engine(rank) == str(folder)


def test_all_weights_are_taken_over_after_every_update_or_refused(tiny_model: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(source=str(tiny_model), method="full")
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    sampler = VllmSampler(policy, str(tiny_model), None, 64, 0)
    for _ in range(2):
        sampled = sample(sampler)
        assert mismatch(policy, sampled) < 1e-4
        policy.update([rows(sampled)], TrainConfig(), PARAMS.temperature, 1e-3, lambda: False)
        assert mismatch(policy, sampled) > 2e-2, "the update must move the policy, or this test proves nothing"
        sampler.sync()
    weights = policy.base.state_dict()
    short = {name: weight for name, weight in weights.items() if "layers.1.mlp" not in name}
    with pytest.raises(ValueError, match=r"of its \d+ tensors get no weights, such as model\.layers\.1\.mlp"):
        load_weights(sampler._llm, short)
    load_weights(sampler._llm, weights)
    assert mismatch(policy, sample(sampler)) < 1e-4
    cut = weights | {"model.norm.weight": weights["model.norm.weight"][:-1]}
    policy.base.state_dict = lambda: cut  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"cannot take over the trained weights.*model\.method = lora"):
        sampler.sync()
    assert sampler._llm is None


def test_an_engine_that_fails_as_it_starts_leaves_nothing_but_its_place(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_worker: object) -> None:
        raise RuntimeError("no room for graphs")

    def num_models() -> int:
        # vLLM hides what it made from the collector.
        gc.unfreeze()
        return sum(type(each).__name__ == "LlamaModel" and "vllm" in type(each).__module__ for each in gc.get_objects())

    torch.manual_seed(0)
    config = ModelConfig(source=str(tiny_model), method="lora", lora_rank=8)
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    before = num_models()
    with monkeypatch.context() as patch:
        patch.setattr("vllm.v1.worker.cpu_worker.CPUWorker.compile_or_warm_up_model", fail)
        with pytest.raises(RunError, match=r"could not start: no room for graphs.*Set the sampler to `torch`") as told:
            VllmSampler(policy, str(tiny_model), None, 64, 0)
    assert told.value.__cause__ is not None
    assert num_models() == before, "its weights are still in memory"
    sampler = VllmSampler(policy, str(tiny_model), None, 64, 0)
    assert num_models() == before + 1, "this test cannot see models"
    assert len(sample(sampler)) == len(REQUESTS)
    sampler.close()


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
    adapters = pair[1]._adapters
    assert adapters is not None
    pair[1].close()
    pair[1].close()
    assert not adapters.path.exists()
