import math

import pytest
import torch

from ttrl_engine.objective import clipped_objective, k3_estimate, learning_rate, weighted_objective


def test_on_policy_the_gradient_is_minus_advantage() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss, _ = clipped_objective(logprobs, logprobs.detach(), torch.tensor([0.5, -0.25]), 0.2, 0.2)
    loss.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-0.5, 0.25]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped"),
    [
        (1.5, 1.0, -1.2, True),  # already likelier: held at 1 + clip_high
        (0.5, 1.0, -0.5, False),  # less likely than before: pulled back in full
        (0.5, -1.0, 0.8, True),  # already rarer: held at 1 - clip_low
        (2.0, -1.0, 2.0, False),
        (9.0, -1.0, 3.0, False),  # ran away: bounded by the dual clip
    ],
)
def test_the_clip_by_hand(ratio: float, advantage: float, expected: float, clipped: bool) -> None:
    loss, held = clipped_objective(torch.tensor([math.log(ratio)]), torch.zeros(1), torch.tensor([advantage]), 0.2, 0.2)
    assert float(loss) == pytest.approx(expected)
    assert bool(held) is clipped


def test_k3_is_zero_only_where_both_agree() -> None:
    here = torch.tensor([-1.0, -1.0, -1.0])
    estimate = k3_estimate(here, torch.tensor([-1.0, -0.5, -1.5]))
    assert estimate[0] == 0
    assert estimate[1] == pytest.approx(math.exp(0.5) - 1.5)
    assert estimate[2] > 0


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(1.0, update, 100, 0.1, "cosine") for update in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert 0 < rates[0] < 0.1 + 1e-9
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001
    assert [learning_rate(0.3, update, 100, 0.0, "constant") for update in (0, 50, 99)] == [0.3] * 3


def test_a_weight_is_the_ratio_up_to_the_cap_and_holds_no_gradient() -> None:
    logprobs = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    sampler = torch.tensor([-1.0, -2.0, -0.5])
    loss, capped = weighted_objective(logprobs, sampler, torch.tensor([1.0, 1.0, -2.0]), 2.0)
    loss.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-1.0, -2.0, 2.0 * math.exp(-0.5)])
    assert loss.tolist() == pytest.approx([-1.0, -2.0, 2.0 * math.exp(-0.5)])
    assert capped.tolist() == [False, True, False]


def test_without_a_cap_every_weight_is_one() -> None:
    logprobs = torch.tensor([-1.0, -3.0], requires_grad=True)
    loss, capped = weighted_objective(logprobs, torch.zeros(2), torch.tensor([0.5, -0.25]), None)
    loss.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-0.5, 0.25]
    assert not capped.any()
