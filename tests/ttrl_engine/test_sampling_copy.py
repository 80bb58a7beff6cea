from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.ttrl_engine.test_policy import some_rows
from tests.ttrl_engine.test_trainer import small_config, train
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.events import StepFinished
from ttrl_engine.policy import Policy
from ttrl_engine.sampler import SampleRequest, SamplingParams
from ttrl_engine.sampling_copy import SamplingCopy
from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler


def rounded(policy: Policy) -> list[torch.Tensor]:
    return [weight.detach().bfloat16() for weight in policy.base.parameters()]


def test_a_copy_follows_the_weights_at_the_same_addresses(policy: Policy) -> None:
    copied = SamplingCopy(policy.base)
    weights = list(copied.module.parameters())
    assert len(weights) == len(list(policy.base.parameters())), "the tied head is there once"
    assert all(torch.equal(own, weight) for own, weight in zip(weights, rounded(policy), strict=True))
    addresses = [weight.data_ptr() for weight in weights]

    policy.update([some_rows()], TrainConfig(), 1.0, 1e-2, lambda: False)
    assert not all(torch.equal(own, weight) for own, weight in zip(weights, rounded(policy), strict=True))
    copied.refresh()
    assert all(torch.equal(own, weight) for own, weight in zip(weights, rounded(policy), strict=True))
    assert [weight.data_ptr() for weight in copied.module.parameters()] == addresses


def test_only_the_weights_are_rounded(policy: Policy) -> None:
    copied = SamplingCopy(policy.base).module
    assert copied.dtype is torch.bfloat16
    assert {weight.dtype for weight in policy.base.parameters()} == {torch.float32}
    own, theirs = dict(copied.named_buffers()), dict(policy.base.named_buffers())
    assert own.keys() == theirs.keys()
    # A position that is a multiple of a rounded frequency would be off by whole turns.
    assert any("inv_freq" in name for name in own)
    for name, buffer in theirs.items():
        assert torch.equal(own[name], buffer)
        assert own[name].dtype == buffer.dtype
        assert own[name].data_ptr() != buffer.data_ptr()
    assert copied.config is not policy.base.config


def test_a_sampler_of_the_copy_draws_from_new_weights_after_a_sync(policy: Policy) -> None:
    copied = SamplingCopy(policy.base)
    sampler = TorchSampler(lambda: copied.module, 1 << 30, MAX_ROWS, copied.refresh)
    requests = [SampleRequest((3, 4, 5), 8, 1)]
    params = SamplingParams(1.0, 1.0, 8, (1,))

    def sample() -> list[tuple[int, ...]]:
        return [rollout.tokens for rollout in sampler.sample(requests, params, lambda *_: None, lambda: False)[0]]

    before = sample()
    policy.update([some_rows()], TrainConfig(), 1.0, 0.1, lambda: False)
    assert sample() == before
    sampler.sync()
    assert sample() != before


def test_a_policy_that_computes_in_its_own_format_needs_no_copy(policy: Policy, tiny_model: Path) -> None:
    assert policy.sampling_copy() is None
    lora = Policy.load(ModelConfig(source=str(tiny_model)), HardwareConfig(device="cpu"), TrainConfig())
    assert lora.sampling_copy() is None
    policy.autocast = True
    copied = policy.sampling_copy()
    assert copied is not None
    assert copied.module.dtype is torch.bfloat16


def test_a_run_samples_from_the_copy_of_what_it_has_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole loop, as on a GPU: in each step the weights that sample are those of the trainer, rounded."""
    off: list[float] = []
    sample: Callable[..., object] = TorchSampler.sample
    made: list[tuple[Policy, SamplingCopy]] = []

    def copied(policy: Policy) -> SamplingCopy:
        made.append((policy, SamplingCopy(policy.base)))
        return made[-1][1]

    def watched(sampler: TorchSampler, *rest: object, **named: object) -> object:
        policy, copied = made[-1]
        assert sampler._model() is copied.module
        pairs = zip(copied.module.parameters(), rounded(policy), strict=True)
        off.append(max(float((own - weight).abs().max()) for own, weight in pairs))
        return sample(sampler, *rest, **named)

    monkeypatch.setattr(Policy, "sampling_copy", copied)
    monkeypatch.setattr(TorchSampler, "sample", watched)
    changes = {"model.method": "full", "train.max_steps": 2, "evaluate.every_steps": 0, "train.learning_rate": 1e-3}
    events = train(tmp_path, small_config(**changes))
    assert len([event for event in events if isinstance(event, StepFinished)]) == 2
    assert len(off) > 2
    assert set(off) == {0.0}
