import pytest
import torch

from tests.ttrl_engine.architectures import make
from ttrl_engine.decoder_choice import Choice
from ttrl_engine.decoding import Decoder, Part, PlainDecoder, Wave, moves
from ttrl_engine.drawing import uniforms
from ttrl_engine.sampler import NO_WATCHER, Rollout, SampleRequest, SamplingParams
from ttrl_engine.static_decoding import BATCH_BUCKETS, StaticDecoder, batch_bucket, window_bucket
from ttrl_engine.torch_sampler import TorchSampler

REQUESTS = [SampleRequest((5, 6, 7, 8), 30, 1), SampleRequest((9, 10, 11, 12, 13, 14, 15), 25, 2)]


@torch.inference_mode()
def run(decoder: Decoder, requests: list[SampleRequest], max_new_tokens: int = 40) -> list[Rollout]:
    params = SamplingParams(1.0, 1.0, max_new_tokens, tuple(range(1, 6)))
    parts = [Part(number, request, 0, request.num_rollouts) for number, request in enumerate(requests)]
    wave = Wave(parts, uniforms(requests, max_new_tokens), params, torch.device("cpu"), set())
    return wave.run(decoder, NO_WATCHER, lambda _finished: None, lambda: False)


def test_buckets_are_the_next_ones_up() -> None:
    assert BATCH_BUCKETS == (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    assert [batch_bucket(rows) for rows in (1, 8, 9, 33, 64, 65, 300, 512, 513)] == [
        8,
        8,
        16,
        48,
        64,
        96,
        384,
        512,
        1024,
    ]
    assert [window_bucket(tokens) for tokens in (1, 256, 257, 1024, 1025)] == [256, 256, 512, 1024, 2048]


@pytest.mark.parametrize("asked", [REQUESTS, REQUESTS[:1]], ids=["padded", "one length"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma"])
def test_static_buffers_give_the_rollouts_of_the_growing_cache(name: str, asked: list[SampleRequest]) -> None:
    model = make(name)
    plain, static = run(PlainDecoder(model), asked), run(StaticDecoder(model, record=False), asked)
    lengths = {len(rollout.tokens) for rollout in plain}
    assert len(lengths) > 5, "rows must end at different times, or nothing was compacted"
    assert [rollout.tokens for rollout in static] == [rollout.tokens for rollout in plain]
    for a, b in zip(static, plain, strict=True):
        assert torch.allclose(torch.tensor(a.logprobs), torch.tensor(b.logprobs), atol=1e-5)


def test_buffers_of_an_earlier_wave_leave_no_trace() -> None:
    model = make("llama")
    used = StaticDecoder(model, record=False)
    run(used, REQUESTS)
    buffers = used.layers[0].keys
    again = run(used, REQUESTS[:1])
    assert used.layers[0].keys is buffers, "a smaller wave fits the buffers that are there"
    fresh = run(StaticDecoder(model, record=False), REQUESTS[:1])
    assert [rollout.tokens for rollout in again] == [rollout.tokens for rollout in fresh]
    for a, b in zip(again, fresh, strict=True):
        assert torch.allclose(torch.tensor(a.logprobs), torch.tensor(b.logprobs), atol=1e-5)


def test_what_was_kept_for_the_next_step_is_given_back_once_and_for_all() -> None:
    model = make("llama")
    sampler = TorchSampler(lambda: model, 1 << 30, 512)
    decoder = StaticDecoder(model, record=False)
    sampler._chosen = model, Choice(decoder, True, 64)
    params = SamplingParams(1.0, 1.0, 40, tuple(range(1, 6)))

    def sample() -> list[list[Rollout]]:
        return sampler.sample(REQUESTS, params, lambda *_: None, lambda: False)

    before = sample()
    assert decoder.layers, "kept for the next step"
    assert sampler.give_back()
    assert not decoder.layers
    assert "no longer keeps its cache" in sampler.notes[0]
    assert sample() == before
    assert not decoder.layers
    assert not sampler.give_back()
    assert len(sampler.notes) == 1


def test_a_window_that_grows_over_a_bucket_changes_nothing() -> None:
    model = make("llama")
    long = [SampleRequest(tuple(7 + i % 80 for i in range(250)), 4, 3)]
    plain, static = run(PlainDecoder(model), long, 12), run(StaticDecoder(model, record=False), long, 12)
    assert [rollout.tokens for rollout in static] == [rollout.tokens for rollout in plain]


@pytest.mark.parametrize(
    ("slots", "gone", "expected"),
    [(6, [1], ([5], [1])), (6, [4, 5], ([], [])), (6, [0, 2, 5], ([3, 4], [0, 2])), (2, [0, 1], ([], []))],
)
def test_rows_from_the_end_fill_the_holes(slots: int, gone: list[int], expected: tuple[list[int], list[int]]) -> None:
    assert moves(slots, gone) == expected
