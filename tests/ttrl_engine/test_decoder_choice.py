import pytest
import torch
from transformers import PreTrainedModel

from tests.ttrl_engine.architectures import CONFIGS, make
from ttrl_engine import decoder_choice
from ttrl_engine.decoder_choice import choose_decoder
from ttrl_engine.decoding import PlainDecoder
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams
from ttrl_engine.static_decoding import StaticDecoder
from ttrl_engine.torch_sampler import TorchSampler

PARAMS = SamplingParams(0.8, 1.0, 20, (1,))
REQUESTS = [SampleRequest((5, 6, 7, 8), 6, 1), SampleRequest((9, 10, 11, 12, 13, 14, 15), 6, 2)]
RECURRENT = ("mamba", "recurrent-gemma")


def sample(model: PreTrainedModel) -> tuple[TorchSampler, list[list[Rollout]]]:
    sampler = TorchSampler(lambda: model, 1 << 30, 512)
    return sampler, sampler.sample(REQUESTS, PARAMS, lambda _done, _total: None, lambda: False)


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
    assert isinstance(choice.decoder, PlainDecoder) == (name not in RECURRENT)
    sampler, _ = sample(model)
    assert any("`generate`" in note for note in sampler.notes) == (name in RECURRENT)


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
    monkeypatch.setattr(decoder_choice, "TOLERANCE", {torch.float32: -1.0})
    sampler, found = sample(model)
    assert sampler.notes
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


def test_a_decoder_whose_logits_are_off_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = PlainDecoder.move

    def not_moved(self: PlainDecoder, _: torch.Tensor, holes: torch.Tensor, rows: int) -> None:
        real(self, holes, holes, rows)

    monkeypatch.setattr(PlainDecoder, "move", not_moved)
    choice = choose_decoder(make("llama"))
    assert choice.decoder is None
    assert "off by" in str(choice.note)


def test_static_decoding_is_offered_where_every_layer_attends_to_everything() -> None:
    assert isinstance(choose_decoder(make("llama"), record=True).decoder, StaticDecoder)
    other = choose_decoder(make("mistral"), record=True)
    assert isinstance(other.decoder, PlainDecoder)
    assert "CUDA graphs cannot be used" in str(other.note)
