from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.ttrl_engine.architectures import CONFIGS, make
from ttrl_engine.decoder_choice import choose_decoder
from ttrl_engine.decoding import Decoder, PlainDecoder, moves
from ttrl_engine.shared_decoding import Prompts, Rows, SharedDecoder, shared_attention

SERVED = ("llama", "qwen2", "gpt2", "gemma")
PROMPTS = [[5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15], [16, 17, 18, 19, 20, 21, 22]]


@pytest.mark.parametrize("name", CONFIGS)
def test_models_of_full_attention_share_their_prompts_and_no_other(name: str) -> None:
    assert isinstance(choose_decoder(make(name)).decoder, SharedDecoder) == (name in SERVED)


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("num_prompts", [1, 2, 3])
@torch.no_grad()
def test_the_logits_are_those_of_rows_with_a_copy_each(name: str, num_prompts: int) -> None:
    """Rows end unevenly, until one problem has none left; then few numbers have become many."""
    model = make(name)
    decoders: list[Decoder] = [SharedDecoder(model), PlainDecoder(model)]
    sources = torch.arange(num_prompts).repeat_interleave(4)

    def agree(found: list[Tensor]) -> None:
        assert (found[0] - found[1]).abs().max() < 1e-4

    agree([decoder.start(PROMPTS[:num_prompts], sources, 40) for decoder in decoders])
    rows = len(sources)
    for t in range(30):
        gone = {3: [1, 3], 5: [0], 8: list(range(2, rows))}.get(t, [])
        gone = [slot for slot in gone if slot < rows]
        if gone:
            copied, holes = moves(rows, gone)
            rows -= len(gone)
            for decoder in decoders:
                decoder.move(torch.tensor(copied, dtype=torch.long), torch.tensor(holes, dtype=torch.long), rows)
        tokens = torch.arange(rows) * 7 % 90 + 3 + t % 3
        agree([decoder.step(tokens) for decoder in decoders])


@torch.no_grad()
def test_the_models_own_attention_is_back_after_a_step_that_fails() -> None:
    model = make("llama")
    usual = model.config._attn_implementation
    decoder = SharedDecoder(model)
    decoder.start(PROMPTS[:1], torch.tensor([0, 0]), 4)
    with pytest.raises(IndexError):
        decoder.step(torch.tensor([3, 10_000]))
    assert model.config._attn_implementation == usual


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_every_row_finds_its_own_answer(owners: list[int]) -> None:
    rows = Rows.of(owners, 4, torch.device("cpu"))
    asked = torch.arange(len(owners))
    if rows.places is None or rows.back is None:
        assert owners == sorted(owners)
        assert torch.equal(asked.reshape(4, -1)[:, 0] // (len(owners) // 4), torch.arange(4))
        return
    assert torch.equal(rows.places.flatten()[rows.back], asked)
    assert (rows.back // rows.places.shape[1]).tolist() == owners


def test_scores_other_than_a_plain_softmax_are_refused() -> None:
    some = torch.zeros(1, 1, 1, 4)
    with pytest.raises(NotImplementedError, match="does not hand its options on"):
        shared_attention(None, some, some, some, None)
    prompts = Prompts([(some, some)], None, Rows(None, None))
    with pytest.raises(NotImplementedError, match="plain softmax"):
        shared_attention(None, some, some, some, None, prompts=prompts, softcap=30.0)
