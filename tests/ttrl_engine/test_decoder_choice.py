from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.ttrl_engine.architectures import CONFIGS, NOT_CAUSAL, make
from tests.ttrl_engine.tiny import write_tiny_model
from ttrl_engine import decoder_choice, decoding
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.decoder_choice import choose_decoder
from ttrl_engine.decoding import PlainDecoder
from ttrl_engine.errors import RunError
from ttrl_engine.policy import Policy, TrainRow
from ttrl_engine.rereading import RereadingDecoder
from ttrl_engine.row_cache import UnservableCacheError
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams
from ttrl_engine.static_decoding import StaticDecoder
from ttrl_engine.torch_sampler import TorchSampler

PARAMS = SamplingParams(0.8, 1.0, 20, (1,))
REQUESTS = [SampleRequest((5, 6, 7, 8), 6, 1), SampleRequest((9, 10, 11, 12, 13, 14, 15), 6, 2)]
RECURRENT = ("mamba", "openai-gpt", "recurrent-gemma")
# transformers 5.23 mixes the rows of a batch when this one continues from its state.
MIXES_ROWS = ("rwkv",)


def sample(model: PreTrainedModel) -> tuple[TorchSampler, list[list[Rollout]]]:
    sampler = TorchSampler(lambda: model, 1 << 30, 512)
    return sampler, sampler.sample(REQUESTS, PARAMS, lambda _done, _total: None, lambda: False)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", [*RECURRENT, *MIXES_ROWS])
def test_models_without_a_row_cache_learn_from_what_they_drew(name: str, method: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, architecture=CONFIGS[name]())
    config = ModelConfig.model_validate({"source": str(folder), "method": method, "lora_rank": 4})
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    sampler = TorchSampler(lambda: policy.base, 1 << 30, 512)
    params = SamplingParams(0.8, 1.0, 8, (1,))
    for rate in (3e-2, 0.0):
        drawn = sampler.sample(REQUESTS, params, lambda _done, _total: None, lambda: False)
        rows = [
            TrainRow(request.prompt_ids, rollout.tokens, rollout.logprobs, 1.0 - index % 2)
            for request, rollouts in zip(REQUESTS, drawn, strict=True)
            for index, rollout in enumerate(rollouts)
        ]
        stats = policy.update([rows], TrainConfig(), params.temperature, rate, lambda: False)
        assert stats.grad_norm > 0.0
        assert stats.mismatch_max < 1e-4
    assert abs(policy.shift(rows, params.temperature)) < 1e-6


def refuse_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoder of keys and values serves any model."""

    def unservable(_: PreTrainedModel) -> PlainDecoder:
        raise UnservableCacheError("made up")

    monkeypatch.setattr(decoder_choice, "SharedDecoder", unservable)
    monkeypatch.setattr(decoder_choice, "PlainDecoder", unservable)


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_equal_those_of_a_full_forward_pass(name: str) -> None:
    model = make(name)
    for request, rollouts in zip(REQUESTS, sample(model)[1], strict=True):
        for rollout in rollouts:
            ids = torch.tensor([[*request.prompt_ids, *rollout.tokens]])
            with torch.no_grad():
                logits = model(ids, use_cache=False).logits[0, len(request.prompt_ids) - 1 : -1].float()
            expected = (logits / 0.8).log_softmax(-1).gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
            assert (expected - torch.tensor(rollout.logprobs)).abs().max() < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_only_models_with_another_state_go_through_generate_and_the_user_is_told(name: str) -> None:
    model = make(name)
    choice = choose_decoder(model)
    assert isinstance(choice.decoder, PlainDecoder) == (name not in (*RECURRENT, *MIXES_ROWS))
    assert isinstance(choice.decoder, RereadingDecoder) == (name in MIXES_ROWS)
    sampler, _ = sample(model)
    assert any("with the library's `generate`" in note for note in sampler.notes) == (name in RECURRENT)
    assert any("cannot be trusted" in note for note in sampler.notes) == (name in MIXES_ROWS)


def test_generate_is_wrong_where_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a release gives the same by `generate`, the slower way round is not needed any more."""
    model = make("rwkv")
    exact = sample(model)[1]
    monkeypatch.setattr(decoder_choice, "_deviation_of_generate", lambda _: 0.0)
    trusted = sample(model)[1]
    pairs = [pair for groups in zip(exact, trusted, strict=True) for pair in zip(*groups, strict=True)]
    same = [(one, two) for one, two in pairs if one.tokens[:2] == two.tokens[:2]]
    assert max(abs(one.logprobs[-1] - two.logprobs[-1]) for one, two in same) > 0.1


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_model_that_does_not_read_from_left_to_right_is_refused_by_name(name: str) -> None:
    with pytest.raises(RunError, match=f"{type(make(name)).__name__} cannot be trained.*left to right"):
        choose_decoder(make(name))


@pytest.mark.parametrize("name", ["llama", "rwkv"])
def test_reading_anew_draws_what_a_cache_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name)
    expected = sample(model)[1]
    refuse_caches(monkeypatch)
    monkeypatch.setattr(decoder_choice, "_deviation_of_generate", lambda _: 1.0)
    # So few that a pass holds three rows at most.
    monkeypatch.setattr(decoding, "READ_POSITIONS", 40)
    sampler, found = sample(model)
    assert "a new pass over the whole text" in sampler.notes[0]
    assert [[r.tokens for r in group] for group in found] == [[r.tokens for r in group] for group in expected]


@pytest.mark.parametrize("name", ["llama", *RECURRENT])
def test_a_poisoned_generation_config_changes_no_rollout(name: str) -> None:
    model = make(name)
    clean = sample(model)[1]
    own = model.generation_config
    own.temperature, own.top_k, own.top_p, own.repetition_penalty = 0.01, 1, 0.1, 9.0
    own.suppress_tokens, own.bad_words_ids, own.no_repeat_ngram_size = [5, 6, 7], [[8]], 1
    own.min_new_tokens, own.forced_eos_token_id, own.eos_token_id = 15, 3, [9]
    assert sample(model)[1] == clean
    assert model.generation_config is own


def test_generate_draws_what_the_own_loop_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    expected = sample(model)[1]
    refuse_caches(monkeypatch)
    sampler, found = sample(model)
    assert "with the library's `generate`" in sampler.notes[0]
    assert [[r.tokens for r in group] for group in found] == [[r.tokens for r in group] for group in expected]
    assert [[r.finish for r in group] for group in found] == [[r.finish for r in group] for group in expected]


@pytest.mark.parametrize("name", RECURRENT)
def test_generate_stops_when_asked_and_drops_what_is_settled(name: str) -> None:
    class Settled:
        def finished(self, request: int, index: int, rollout: Rollout) -> None:
            pass

        def settled(self) -> list[int]:
            return [0]

    sampler = TorchSampler(lambda: make(name), 1 << 30, 512)
    asked = [SampleRequest((5, 6, 7, 8), 4, 1, 2)]
    [rollouts] = sampler.sample(asked, PARAMS, lambda _done, _total: None, lambda: False, Settled())
    assert [rollout.finish == "dropped" for rollout in rollouts] == [False, False, True, True]
    assert [len(rollout.tokens) for rollout in rollouts[2:]] == [1, 1]


ONE_LENGTH = [[5, 6, 7, 8, 9, 10, 11, 12], [9, 10, 11, 12, 13, 14, 15, 16], [3, 5, 8, 13, 21, 34, 55, 89]]
UNEQUAL = [[5, 6, 7], [9, 10, 11, 12, 13, 14, 15, 16, 17], [3, 5, 8, 13, 21, 34, 55, 89], [3, 4], [90, 80, 70, 60, 50]]


@pytest.mark.parametrize("prompts", [ONE_LENGTH, UNEQUAL], ids=["one length", "unequal"])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in (*RECURRENT, *MIXES_ROWS)])
@torch.inference_mode()
def test_prompts_that_are_read_a_few_at_a_time_are_as_if_read_at_once(
    name: str, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a sliding window of 6, and on from there with rows that end."""
    model = make(name)
    if not choose_decoder(model).pads:
        prompts = ONE_LENGTH
    sources = torch.arange(len(prompts)).repeat_interleave(2)

    def logits(positions: int) -> list[torch.Tensor]:
        monkeypatch.setattr(decoding, "READ_POSITIONS", positions)
        decoder = choose_decoder(model).decoder
        assert isinstance(decoder, PlainDecoder)
        passes = 0

        def count(*_: Any) -> None:
            nonlocal passes
            passes += 1

        counting = model.register_forward_pre_hook(count)
        found = [decoder.start(prompts, sources, 8).clone()]
        counting.remove()
        assert passes == (1 if positions > 100 else -(-len(prompts) // 2))
        tokens = 3 + torch.arange(len(sources)) * 7 % 90
        found.append(decoder.step(tokens).clone())
        decoder.move(torch.tensor([len(sources) - 1]), torch.tensor([1]), len(sources) - 1)
        found += [decoder.step(tokens[:-1] + 1 + t).clone() for t in range(6)]
        return found

    for at_once, in_parts in zip(logits(1 << 14), logits(2 * max(map(len, prompts))), strict=True):
        assert torch.allclose(at_once, in_parts, atol=1e-4)


def test_a_model_that_makes_logits_for_every_position_reads_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "HEAD_NUMBERS", 97 * 50)
    model = make("llama")
    assert decoding.read_positions(model) == decoding.READ_POSITIONS
    monkeypatch.setattr(model, "forward", model.model.forward)
    assert decoding.read_positions(model) == 50
    assert "logits_to_keep" not in PlainDecoder(model).options


def test_a_decoder_whose_logits_are_off_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = PlainDecoder.move

    def not_moved(self: PlainDecoder, _: torch.Tensor, holes: torch.Tensor, rows: int) -> None:
        real(self, holes, holes, rows)

    monkeypatch.setattr(PlainDecoder, "move", not_moved)
    monkeypatch.setattr(decoder_choice, "SharedDecoder", PlainDecoder)
    choice = choose_decoder(make("llama"))
    assert choice.decoder is None
    assert "off by" in str(choice.note)


@torch.inference_mode()
def test_a_decoder_that_gives_what_is_not_a_number_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where it does so for one row only, and not the last."""
    real = PlainDecoder.step

    def broken(self: PlainDecoder, tokens: torch.Tensor) -> torch.Tensor:
        logits = real(self, tokens)
        logits[0, 5] = torch.nan
        return logits

    monkeypatch.setattr(PlainDecoder, "step", broken)
    model = make("llama")
    found, why = decoder_choice._tried(lambda: PlainDecoder(model), model, pads=True)
    assert found is None
    assert "off by inf" in why


def test_static_decoding_is_offered_where_every_layer_attends_to_everything() -> None:
    assert isinstance(choose_decoder(make("llama"), record=True).decoder, StaticDecoder)
    other = choose_decoder(make("mistral"), record=True)
    assert isinstance(other.decoder, PlainDecoder)
    assert "CUDA graphs cannot be used" in str(other.note)
