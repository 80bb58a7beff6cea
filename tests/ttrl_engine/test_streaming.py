from collections.abc import Sequence

import pytest

from ttrl_engine import streaming
from ttrl_engine.policy import Policy
from ttrl_engine.sampler import SampleRequest, SamplingParams
from ttrl_engine.streaming import Growing, StreamingSampler

PARAMS = SamplingParams(temperature=0.8, top_p=1.0, max_new_tokens=12, stop_ids=(1,))


@pytest.mark.parametrize("cache_bytes", [1 << 30, 1], ids=["all at once", "one after the other"])
def test_what_was_shown_of_an_answer_stays_until_all_have_ended(
    policy: Policy, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LOOK_EVERY_S", 0.0)
    told: list[Sequence[Growing]] = []
    sampler = StreamingSampler(lambda: policy.base, cache_bytes, 512, told.append, 3)
    asked = SampleRequest((5, 6, 7), 5, 1)
    [rollouts] = sampler.sample([asked], PARAMS, lambda *_: None, lambda: False)
    before: dict[int, tuple[int, ...]] = {}
    for shown in told:
        now = {each.index: each.tokens for each in shown}
        assert list(now) == list(range(len(now))), "in the order of their index"
        assert all(now[index][: len(tokens)] == tokens for index, tokens in before.items())
        assert all(each.tokens == rollouts[each.index].tokens for each in shown if each.ended)
        before = now
    assert list(before) == [0, 1, 2]
    if cache_bytes == 1:
        assert [each.ended for each in told[-1]] == [True] * 3, "the last one grows unseen"
        assert told[-1][2].tokens == rollouts[2].tokens
