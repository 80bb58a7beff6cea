from typing import Any

import pytest
import torch

from ttrl_engine.decoding import Part
from ttrl_engine.errors import RunError
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, StopRequested
from ttrl_engine.shared_decoding import SharedDecoder
from ttrl_engine.torch_sampler import TorchSampler, cache_budget, waves

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


@pytest.mark.parametrize("is_stopped", [False, True])
def test_nothing_of_the_cache_is_held_in_the_update(policy: Policy, is_stopped: bool) -> None:
    sampler = TorchSampler(lambda: policy.base, 1 << 30, 512)
    calls = iter(range(100))
    try:
        # Of unequal lengths, so that there is a mask as well.
        sampler.sample(requests("abc", "xy"), PARAMS, lambda *_: None, lambda: is_stopped and next(calls) == 4)
    except StopRequested:
        assert is_stopped
    assert sampler._chosen is not None
    decoder = sampler._chosen[1].decoder
    assert isinstance(decoder, SharedDecoder)
    assert decoder.cache.bytes_per_token == 0
    assert (decoder.mask, decoder.positions, decoder.prompts.layers, decoder.prompts.bias) == (None, None, [], None)


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


class Keeper:
    """A watcher that is told of each rollout once."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], Rollout] = {}

    def finished(self, request: int, index: int, rollout: Rollout) -> None:
        assert (request, index) not in self.seen
        self.seen[request, index] = rollout

    def settled(self) -> list[int]:
        return []


@pytest.mark.parametrize("max_rows", [512, 5])
def test_every_rollout_is_reported_once_as_it_ends(policy: Policy, max_rows: int) -> None:
    keeper = Keeper()
    sampler = TorchSampler(lambda: policy.base, 1 << 30, max_rows)
    sampled = sampler.sample(requests("abc", "xyz"), PARAMS, lambda _done, _total: None, lambda: False, keeper)
    assert keeper.seen == {(i, j): rollout for i, group in enumerate(sampled) for j, rollout in enumerate(group)}


@pytest.mark.parametrize("max_rows", [512, 4])
def test_settled_requests_drop_only_rollouts_that_are_not_required(policy: Policy, max_rows: int) -> None:
    class Settled:
        calls = 0

        def finished(self, request: int, index: int, rollout: Rollout) -> None:
            pass

        def settled(self) -> list[int]:
            self.calls += 1
            return [1] if self.calls == 3 else []

    asked = [SampleRequest((7, 8, 9 + i), 6, i, 2) for i in range(3)]
    whole = sample(policy, asked)
    sampler = TorchSampler(lambda: policy.base, 1 << 30, max_rows)
    sampled = sampler.sample(asked, PARAMS, lambda _done, _total: None, lambda: False, Settled())
    for number, group in enumerate(sampled):
        dropped = [index for index, rollout in enumerate(group) if rollout.finish == "dropped"]
        assert bool(dropped) == (number == 1)
        assert all(index >= 2 for index in dropped)
        for index, rollout in enumerate(group):
            full = whole[number][index]
            assert full.tokens[: len(rollout.tokens)] == rollout.tokens, "dropping must not change another rollout"
            assert len(rollout.tokens) == len(full.tokens) or index in dropped


@pytest.mark.parametrize("refused", ["the prompts", "a token"])
def test_where_memory_runs_out_fewer_rows_draw_the_same(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    asked = requests("abc", "a longer one", "xyz", n=8)
    expected = sample(policy, asked)
    sampler, keeper, told, batches = TorchSampler(lambda: policy.base, 1 << 30, 512), Keeper(), [], []
    start, step = SharedDecoder.start, SharedDecoder.step
    lengths = [0]

    def starting(decoder: SharedDecoder, prompts: Any, sources: torch.Tensor, room: int) -> torch.Tensor:
        batches.append(len(sources))
        lengths[0] = 0
        if refused == "the prompts" and len(sources) > 6:
            raise torch.OutOfMemoryError("no room")
        return start(decoder, prompts, sources, room)

    def stepping(decoder: SharedDecoder, tokens: torch.Tensor) -> torch.Tensor:
        lengths[0] += 1
        if refused == "a token" and lengths[0] == 9 and len(tokens) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return step(decoder, tokens)

    sampler._choice(policy.base)  # not while it is found out which decoder serves
    monkeypatch.setattr(SharedDecoder, "start", starting)
    monkeypatch.setattr(SharedDecoder, "step", stepping)
    found = sampler.sample(asked, PARAMS, lambda *progress: told.append(progress), lambda: False, keeper)
    assert [[r.tokens for r in group] for group in found] == [[r.tokens for r in group] for group in expected]
    assert keeper.seen == {(i, j): rollout for i, group in enumerate(found) for j, rollout in enumerate(group)}
    assert told[-1] == (24, 24)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert batches[0] == 24
    assert len(sampler.notes) >= 2
    assert all("Memory ran out while" in note for note in sampler.notes)
    if refused == "the prompts":
        assert [max(batches[1:3]), max(batches[3:])] == [12, 6]
    else:
        assert max(batches[1:]) <= 12

    # What was learned of the machine holds for the next step.
    batches.clear()
    notes = len(sampler.notes)
    again = sampler.sample(asked, PARAMS, lambda *_: None, lambda: False)
    assert [[r.tokens for r in group] for group in again] == [[r.tokens for r in group] for group in expected]
    assert len(sampler.notes) == notes or refused == "a token"
    assert max(batches) <= 12


def test_a_single_row_without_room_ends_with_a_reason_and_other_failures_pass(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = TorchSampler(lambda: policy.base, 1 << 30, 512)
    sampler._choice(policy.base)
    raised: list[BaseException] = []

    def refuse(*_: Any) -> None:
        raise raised[0]

    monkeypatch.setattr(SharedDecoder, "start", refuse)
    raised.append(MemoryError())
    with pytest.raises(RunError, match="not even one answer of up to 24 tokens"):
        sampler.sample(requests("abc"), PARAMS, lambda *_: None, lambda: False)
    raised[0] = RuntimeError("another")
    with pytest.raises(RuntimeError, match="another"):
        sampler.sample(requests("abc"), PARAMS, lambda *_: None, lambda: False)


def whole(asked: list[SampleRequest]) -> list[Part]:
    return [Part(number, request, 0, request.num_rollouts) for number, request in enumerate(asked)]


def test_waves_stay_within_the_budget_and_miss_no_rollout() -> None:
    asked = [SampleRequest(tuple(range(2, 2 + length)), 10, 0) for length in (3, 30, 8)]
    planned = list(waves(whole(asked), 20, lambda tokens: min(8, 50 * 7 // tokens)))
    for wave in planned:
        longest = max(len(part.request.prompt_ids) for part in wave)
        assert sum(part.num_rows for part in wave) * (longest + 20) <= 50 * 7
        assert sum(part.num_rows for part in wave) <= 8
    rows = [(part.number, index) for wave in planned for part in wave for index in range(part.start, part.stop)]
    assert rows == [(number, index) for number in range(3) for index in range(10)]


def test_a_budget_below_one_row_still_samples_row_by_row() -> None:
    planned = list(waves(whole([SampleRequest((1, 2), 3, 0)]), 20, lambda _: 0))
    assert [sum(part.num_rows for part in wave) for wave in planned] == [1, 1, 1]


def test_memory_that_pytorch_holds_unused_is_free_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 50 << 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 20 << 30)
    assert cache_budget(torch.device("cuda", 0)) == 16 << 30
    assert cache_budget(torch.device("cpu")) == 4 << 30


def test_a_models_own_generation_settings_change_nothing(policy: Policy) -> None:
    asked = requests("abc", "xyz")
    before = sample(policy, asked)
    own = policy.base.generation_config
    own.temperature, own.top_k, own.top_p, own.repetition_penalty = 0.01, 1, 0.1, 9.0
    own.suppress_tokens, own.max_new_tokens, own.eos_token_id = [5, 6, 7], 2, [9]
    assert sample(policy, asked) == before


def test_a_rerun_gives_the_same_bits(policy: Policy) -> None:
    asked = requests("abc", "a longer prompt", n=20)
    assert sample(policy, asked) == sample(policy, asked)


def test_a_stop_request_is_heard_before_every_token(policy: Policy) -> None:
    polls = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        return False

    sampler = TorchSampler(lambda: policy.base, 1 << 30, 512)
    [[rollout]] = sampler.sample([SampleRequest((7, 8), 1, 0)], PARAMS, lambda _done, _total: None, should_stop)
    assert polls == len(rollout.tokens)
