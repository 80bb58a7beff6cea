import torch

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


def test_each_request_has_a_stream_of_its_own() -> None:
    first, second = SampleRequest((1,), 3, 11), SampleRequest((1,), 3, 12)
    tables = uniforms([first, second], 5)
    assert torch.equal(uniforms([second], 5)[0], tables[1])
    assert not torch.equal(tables[0], tables[1])
