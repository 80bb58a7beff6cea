import pytest
import torch

from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, StopRequested
from ttrl_engine.torch_sampler import TorchSampler, _nucleus

PARAMS = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=24, stop_ids=(1,))


def requests(*prompts: str, n: int = 6) -> list[SampleRequest]:
    return [SampleRequest(tuple(5 + ord(c) % 30 for c in prompt), n, 100 + i) for i, prompt in enumerate(prompts)]


def sample(
    policy: Policy, asked: list[SampleRequest], params: SamplingParams = PARAMS, **limits: int
) -> list[list[Rollout]]:
    sampler = TorchSampler(lambda: policy.base, limits.get("cache_bytes", 1 << 30), limits.get("max_rows", 512))
    return sampler.sample(asked, params, lambda _done, _total: None, lambda: False)


def test_logprobs_are_those_of_the_trainer(policy: Policy) -> None:
    asked = requests("one", "a longer prompt", "two")
    for request, rollouts in zip(asked, sample(policy, asked), strict=True):
        rows = [TrainRow(request.prompt_ids, r.tokens, r.logprobs, 1.0) for r in rollouts]
        trained = policy.logprobs(rows, PARAMS.temperature)
        drawn = torch.tensor([value for r in rollouts for value in r.logprobs])
        assert (trained - drawn).abs().max() < 1e-4


def test_rollouts_do_not_depend_on_what_else_is_sampled(policy: Policy) -> None:
    first, second = requests("abc", "xyz")
    together = sample(policy, [first, second])
    assert [r.tokens for r in sample(policy, [second])[0]] == [r.tokens for r in together[1]]


def test_waves_under_a_small_budget_give_the_same_rollouts(policy: Policy) -> None:
    asked = requests("abc", "xyz", "klm")
    assert [[r.tokens for r in g] for g in sample(policy, asked, max_rows=6)] == [
        [r.tokens for r in g] for g in sample(policy, asked)
    ]


def test_the_end_token_is_kept_and_nothing_follows_it(policy: Policy) -> None:
    rollouts = [r for group in sample(policy, requests("abc", "xyz", n=40)) for r in group]
    assert {r.finish for r in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        assert len(rollout.tokens) == len(rollout.logprobs) <= PARAMS.max_new_tokens
        assert (rollout.tokens[-1] == 1) == (rollout.finish == "stop")
        assert 1 not in rollout.tokens[:-1]


def test_tokens_follow_the_models_distribution(policy: Policy) -> None:
    asked = [SampleRequest((7, 8, 9), 4000, 1)]
    params = SamplingParams(0.7, 1.0, 1, (1,))
    counts = torch.zeros(policy.base.config.vocab_size)
    for rollout in sample(policy, asked, params, max_rows=4000)[0]:
        counts[rollout.tokens[0]] += 1
    with torch.no_grad():
        expected = (policy.base(torch.tensor([[7, 8, 9]])).logits[0, -1] / 0.7).softmax(-1)
    assert (counts / 4000 - expected).abs().max() < 0.03


def test_top_p_keeps_the_token_that_crosses_it() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = _nucleus(logits, 0.7).isfinite()
    assert kept.tolist() == [[True, True, False, False]]
    assert _nucleus(logits, 0.01).isfinite().tolist() == [[True, False, False, False]]


def test_a_stop_request_ends_sampling_at_the_next_token(policy: Policy) -> None:
    sampler = TorchSampler(lambda: policy.base, 1 << 30, 512)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with pytest.raises(StopRequested):
        sampler.sample(requests("abc"), PARAMS, lambda _done, _total: None, should_stop)
    assert asked == 3


def test_progress_counts_finished_rollouts_to_the_last(policy: Policy) -> None:
    seen: list[tuple[int, int]] = []
    sampler = TorchSampler(lambda: policy.base, 1 << 30, 6)
    sampler.sample(requests("abc", "xyz"), PARAMS, lambda done, total: seen.append((done, total)), lambda: False)
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
