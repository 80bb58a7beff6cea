from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ttrl_engine.architectures import make
from ttrl_engine.decoder_choice import Choice
from ttrl_engine.decoding import Decoder, Part, PlainDecoder, Wave, moves
from ttrl_engine.drawing import uniforms
from ttrl_engine.sampler import NO_WATCHER, Rollout, SampleRequest, SamplingParams
from ttrl_engine.static_decoding import StaticDecoder, batch_bucket, whole_batch, whole_blocks, window_bucket
from ttrl_engine.torch_sampler import TorchSampler

REQUESTS = [SampleRequest((5, 6, 7, 8), 30, 1), SampleRequest((9, 10, 11, 12, 13, 14, 15), 25, 2)]
LLAMA = make("llama")


def parts_of(requests: list[SampleRequest]) -> list[Part]:
    return [Part(number, request, 0, request.num_rollouts) for number, request in enumerate(requests)]


@torch.inference_mode()
def run(decoder: Decoder, requests: list[SampleRequest], max_new_tokens: int = 40) -> list[Rollout]:
    params = SamplingParams(1.0, 1.0, max_new_tokens, tuple(range(1, 6)))
    wave = Wave(parts_of(requests), uniforms(requests, max_new_tokens), params, torch.device("cpu"), set())
    return wave.run(decoder, NO_WATCHER, lambda _finished: None, lambda: False)


def test_buckets_are_the_next_ones_up() -> None:
    rows = {1: 1, 3: 4, 8: 8, 9: 16, 33: 48, 64: 64, 65: 96, 300: 384, 512: 512, 513: 1024}
    assert {asked: batch_bucket(asked) for asked in rows} == rows
    tokens = {1: 256, 256: 256, 257: 512, 1025: 1280, 2048: 2048, 2049: 2560, 5000: 5120, 9000: 10240}
    assert {asked: window_bucket(asked) for asked in tokens} == tokens
    assert len({window_bucket(asked) for asked in range(1, 1 << 15)}) == 8 + 4 * 4


@given(st.integers(1, 3000))
def test_a_whole_batch_is_never_rounded_up(rows: int) -> None:
    whole = whole_batch(rows)
    assert batch_bucket(whole) == whole <= rows
    assert whole_batch(0) == 0
    assert batch_bucket(rows) == rows or whole < rows < batch_bucket(rows)


@given(st.lists(st.tuples(st.integers(1, 700), st.integers(1, 80)), min_size=1, max_size=6), st.integers(1, 400))
@settings(max_examples=50, deadline=None)
def test_what_is_set_aside_stays_within_the_budget(asked: list[tuple[int, int]], max_new_tokens: int) -> None:
    """Except for a single row, without which nothing could be sampled."""
    budget, per_token = 64 * 1024, 2
    sampler = TorchSampler(lambda: LLAMA, budget, 512)
    requests = [SampleRequest((5,) * length, rows, number) for number, (length, rows) in enumerate(asked)]
    params = SamplingParams(1.0, 1.0, max_new_tokens, (1,))
    choice = Choice(StaticDecoder(LLAMA, record=False), True, per_token)
    for wave in sampler._planned(parts_of(requests), params, choice):
        rows = batch_bucket(sum(part.num_rows for part in wave))
        room = whole_blocks(max(len(part.request.prompt_ids) for part in wave) + max_new_tokens)
        assert rows == 1 or rows * room * per_token <= budget


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


class Stream:
    """A name."""

    def wait_stream(self, other: Stream) -> None:
        assert other is not self


class Recorder:
    """In the place of `torch.cuda`: what is recorded runs again when it is replayed; `on` is the thread's stream."""

    def __init__(self, decoder: StaticDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.usual = self.on = Stream()
        self.streams, self.pools, self.replays = 0, 0, 0
        self.pool_of: list[int] = []
        self.failure: RuntimeError | None = None
        self.steps: list[tuple[int, int]] = []
        self.forward = decoder._forward
        monkeypatch.setattr(decoder, "_forward", self.forwarded)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", self.new_pool)
        monkeypatch.setattr(torch.cuda, "Stream", self.new_stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.on)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "on", stream))
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())

    def forwarded(self, rows: int, window: int) -> None:
        self.steps.append((rows, window))
        self.forward(rows, window)

    def new_pool(self) -> int:
        self.pools += 1
        return self.pools

    def new_stream(self) -> Stream:
        self.streams += 1
        return Stream()

    @contextmanager
    def graph(self, graph: Graph, pool: int, stream: Stream) -> Iterator[None]:
        self.on = stream
        self.steps.clear()
        yield
        graph.steps = list(self.steps)
        if self.failure is not None:
            raise self.failure  # and the thread stays where it is
        self.pool_of.append(pool)
        self.on = self.usual


class Graph:
    """What ran while it was recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.steps: list[tuple[int, int]] = []

    def replay(self) -> None:
        self.recorder.replays += 1
        [step] = self.steps
        self.recorder.forward(*step)


@torch.inference_mode()
def test_recorded_steps_share_a_stream_a_pool_and_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = StaticDecoder(LLAMA, record=True)
    cuda = Recorder(decoder, monkeypatch)
    expected = run(PlainDecoder(LLAMA), REQUESTS)
    assert [r.tokens for r in run(decoder, REQUESTS)] == [r.tokens for r in expected]
    assert len(cuda.pool_of) > 2
    assert cuda.replays > len(cuda.pool_of)
    graphs = len(cuda.pool_of)
    assert [r.tokens for r in run(decoder, REQUESTS)] == [r.tokens for r in expected]
    assert len(cuda.pool_of) == graphs, "kept from wave to wave"
    assert set(cuda.pool_of) == {1}
    decoder.forget(everything=True)
    assert decoder.logits.numel() == 0
    assert [r.tokens for r in run(decoder, REQUESTS)] == [r.tokens for r in expected]
    assert set(cuda.pool_of[graphs:]) == {2}, "no graph is left that keeps the first one"
    assert cuda.streams == 1


@torch.inference_mode()
def test_a_recording_that_fails_leaves_the_usual_stream_and_the_rest_runs_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = StaticDecoder(LLAMA, record=True)
    cuda = Recorder(decoder, monkeypatch)
    expected = run(PlainDecoder(LLAMA), REQUESTS)
    cuda.failure = RuntimeError("operation not permitted")
    with pytest.raises(RuntimeError, match="not permitted"):
        run(decoder, REQUESTS)
    assert cuda.on is cuda.usual
    cuda.failure = None
    run(decoder, REQUESTS)
    # Once it has worked it is no reason to end, not even as the first after all was forgotten.
    decoder.forget(everything=True)
    cuda.failure = torch.OutOfMemoryError("no room")
    with pytest.raises(torch.OutOfMemoryError):
        run(decoder, REQUESTS)
    assert cuda.on is cuda.usual
    assert (decoder.record, decoder.note) == (True, None), "fewer rows may be recorded"
    cuda.failure = RuntimeError("operation not permitted")
    assert [r.tokens for r in run(decoder, REQUESTS)] == [r.tokens for r in expected]
    assert cuda.on is cuda.usual
    assert not decoder.record
    assert "could not be recorded (operation not permitted)" in str(decoder.note)


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
