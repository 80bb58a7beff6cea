import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttrl_engine import drawing
from ttrl_engine.drawing import draw, nucleus, uniforms
from ttrl_engine.sampler import SampleRequest


def test_tokens_are_drawn_by_their_probability() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    places = (torch.arange(1000) + 0.5) / 1000
    tokens, logprobs = draw(logits.repeat(1000, 1), places, 1.0, 1.0)
    assert torch.bincount(tokens, minlength=4).tolist() == [500, 300, 150, 50]
    assert torch.allclose(logprobs, logits[tokens], atol=1e-6)


def test_log_probabilities_are_those_at_the_temperature() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    tokens, logprobs = draw(logits.clone(), torch.tensor([0.2]), 0.5, 1.0)
    assert torch.allclose(logprobs, (logits / 0.5).log_softmax(-1)[0, tokens], atol=1e-6)


def test_the_last_number_below_one_still_gives_a_token_that_is_possible() -> None:
    largest = torch.nextafter(torch.tensor([1.0]), torch.tensor([0.0]))
    for seed in range(200):
        logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(seed)) * 3
        logits[0, -40:] = -torch.inf
        tokens, logprobs = draw(logits, largest, 1.0, 1.0)
        assert int(tokens[0]) < 260
        assert bool(logprobs.isfinite().all())


def test_no_token_outside_the_nucleus_is_ever_drawn() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(2000, 1)
    tokens, logprobs = draw(logits, torch.arange(2000) / 2000, 1.0, 0.7)
    assert set(tokens.tolist()) == {0, 1}
    assert torch.allclose(logprobs.exp(), torch.where(tokens == 0, 0.625, 0.375), atol=1e-6)


def test_top_p_keeps_the_token_that_crosses_it() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert nucleus(logits, 0.7).isfinite().tolist() == [[True, True, False, False]]
    assert nucleus(logits, 0.01).isfinite().tolist() == [[True, False, False, False]]


def test_equally_likely_tokens_come_in_the_order_of_their_numbers() -> None:
    logits = torch.tensor([[0.125, 0.25, 0.125, 0.25, 0.125, 0.125]]).log()
    assert nucleus(logits.clone(), 0.6).isfinite().tolist() == [[True, True, False, True, False, False]]
    assert nucleus(logits.clone(), 0.25).isfinite().tolist() == [[False, True, False, False, False, False]]


def defined(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """(R, vocabulary) whether a token is kept, one row after the other in plain numbers."""
    kept = torch.zeros(logits.shape, dtype=torch.bool)
    for row, probabilities in enumerate(logits.double().softmax(-1).tolist()):
        mass = 0.0
        for token in sorted(range(len(probabilities)), key=lambda token: (-probabilities[token], token)):
            if mass >= top_p - 1e-9:
                break
            kept[row, token] = True
            mass += probabilities[token]
    return kept


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 16, 40]), st.sampled_from([1, 60, 1 << 24]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_nucleus_is_the_defined_one_however_it_is_found(
    seed: int, likeliest: int, numbers: int, ties: bool
) -> None:
    numbers_of = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, 30, generator=numbers_of) * 2
    if ties:
        # Few values, many tokens of each, also where the likeliest end; and a row in which all are alike.
        logits = (logits / 2).round() * 2
        logits[3] = 1.0
    top_p = float(torch.rand(1, generator=numbers_of)) * 0.98 + 0.01
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(drawing, "LIKELIEST", likeliest)
        patched.setattr(drawing, "NUMBERS_AT_ONCE", numbers)
        given_logits = logits.clone()
        found = nucleus(given_logits, top_p)
    kept = defined(logits, top_p)
    assert torch.equal(found.isfinite(), kept)
    assert torch.equal(found[kept], logits[kept])
    assert found is given_logits, "in place, so that it takes no more room"


def test_each_request_has_a_stream_of_its_own() -> None:
    first, second = SampleRequest((1,), 3, 11), SampleRequest((1,), 3, 12)
    tables = uniforms([first, second], 5)
    assert torch.equal(uniforms([second], 5)[0], tables[1])
    assert not torch.equal(tables[0], tables[1])
