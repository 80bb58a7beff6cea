import itertools
import random
import threading
from collections.abc import Sequence

import pytest

from ttrl_engine.config import HardwareConfig, ModelConfig, RunConfig, TrainConfig
from ttrl_engine.early_vote import LAG, Poll, Tally, decided
from ttrl_engine.learner import Ballot, Clock, Learner
from ttrl_engine.policy import Policy
from ttrl_engine.problems import Problem, load_problem_set
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.sampler import Rollout, SampleRequest
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.torch_sampler import TorchSampler
from ttrl_engine.vote import DROPPED, Election, TieRule, elect, rewards

TASK = get_task("number")
PROBLEM = Problem("p", "?")


def hold(answers: Sequence[str | None], dropped: set[int], tie: TieRule, consensus: float, margin: float) -> Election:
    extractions = [
        DROPPED if index in dropped else Extraction(answer) if answer is not None else Extraction(None, "no answer")
        for index, answer in enumerate(answers)
    ]
    return elect(extractions, TASK, PROBLEM, tie=tie, min_consensus=consensus, min_margin=margin)


def stopped_early(answers: list[str | None], order: list[int], k: int, consensus: float, margin: float) -> set[int]:
    """The votes that are called off when rollouts end in this order, several at a time."""
    tally = Tally(len(answers), consensus, margin)
    position = 0
    while position < len(order):
        batch = order[position : position + 1 + position % 3]
        position += len(batch)
        if tally.add([answers[index] for index in batch]):
            return {index for index in order[position:] if index >= k}
    return set()


def test_early_vote_never_changes_label_abstention_or_trained_rewards() -> None:
    draw = random.Random(7)
    called_off = abstained = elected = 0
    for _ in range(10_000):
        n = draw.randint(2, 20)
        k = draw.randint(1, n)
        weights = [draw.random() ** 3 for _ in range(draw.randint(1, 4))] + [0.1]
        answers = draw.choices([*map(str, range(len(weights) - 1)), None], weights, k=n)
        tie: TieRule = draw.choice(["abstain", "first_sampled"])
        consensus, margin = (draw.choice([0.0, draw.random(), draw.randint(0, n) / n]) for _ in range(2))
        order = draw.sample(range(n), n)
        dropped = stopped_early(answers, order, k, consensus, margin)
        full = hold(answers, set(), tie, consensus, margin)
        early = hold(answers, dropped, tie, consensus, margin)
        assert early.label_key == full.label_key
        assert (early.abstained is None) == (full.abstained is None)
        assert rewards(early)[:k] == rewards(full)[:k]
        assert early.consensus <= full.consensus
        assert early.margin <= full.margin
        assert early.num_dropped == len(dropped)
        called_off += len(dropped)
        abstained += bool(dropped) and full.abstained is not None
        elected += bool(dropped) and full.abstained is None
    assert min(called_off, abstained, elected) > 300, "the draw must exercise both outcomes, or this proves little"


@pytest.mark.parametrize(("consensus", "margin"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.4), (0.6, 0.3)])
def test_a_vote_is_decided_exactly_when_no_completion_changes_it(consensus: float, margin: float) -> None:
    n = 6
    for first, second in itertools.product(range(n + 1), repeat=2):
        for undecided in range(n - first - second + 1):
            if second > first or first + second + undecided > n:
                continue
            known = ["1"] * first + ["2"] * second
            silent: list[str | None] = [None] * (n - first - second - undecided)
            outcomes = {
                hold([*known, *silent, *rest], set(), "abstain", consensus, margin).label_key
                for rest in itertools.combinations_with_replacement(["1", "2", "3", "4", None], undecided)
            }
            assert decided(first, second, undecided, n, consensus, margin) == (len(outcomes) == 1)


def test_an_election_with_votes_called_off_reports_bounds() -> None:
    election = hold(["1"] * 6 + ["2"] + ["1"] * 3, {7, 8, 9}, "abstain", 0.0, 0.0)
    assert (election.consensus, election.margin, election.num_dropped) == (0.6, 0.2, 3)
    assert election.num_unparsed == 0
    assert not hold(["1"] * 4, {3}, "abstain", 0.0, 0.0).unanimous


def rollout(token: int) -> Rollout:
    return Rollout((token,), (0.0,), "stop")


def test_problems_are_counted_in_a_thread_before_sampling_ends() -> None:
    counted = threading.Event()

    def count(number: int, rollouts: list[Rollout]) -> tuple[int, str]:
        counted.set()
        return sum(each.tokens[0] for each in rollouts), threading.current_thread().name

    with Poll([SampleRequest((1,), 2, 0), SampleRequest((1,), 1, 0)], count) as poll:
        poll.finished(0, 1, rollout(5))
        assert not counted.wait(0.05)
        poll.finished(0, 0, rollout(4))
        assert counted.wait(5)
        assert poll.settled() == ()
        poll.finished(1, 0, rollout(7))
        assert poll.ballot(0)[0] == 9
        assert poll.ballot(1)[0] == 7
        assert poll.ballot(1)[1] != threading.current_thread().name


def test_what_counting_raises_reaches_the_caller() -> None:
    def count(number: int, rollouts: list[Rollout]) -> int:
        raise ValueError("cannot count")

    with Poll([SampleRequest((1,), 1, 0)], count) as poll:
        poll.finished(0, 0, rollout(1))
        with pytest.raises(ValueError, match="cannot count"):
            poll.ballot(0)


@pytest.mark.parametrize("slow", [False, True])
def test_when_votes_are_called_off_does_not_depend_on_how_fast_they_are_read(slow: bool) -> None:
    pause = threading.Event()

    def keys(number: int, rollouts: list[Rollout]) -> list[str | None]:
        if slow:
            pause.wait(0.05)
        return [str(each.tokens[0]) for each in rollouts]

    tallies = [Tally(4, 0.0, 0.0)]
    with Poll([SampleRequest((1,), 4, 0, 2)], lambda *_: 0, keys, tallies) as poll:
        answers = []
        for call in range(LAG + 3):
            if call < 3:
                poll.finished(0, call, rollout(9))
            answers.append(list(poll.settled()))
    # The third of three equal votes of four decides; it was handed in before the third question.
    assert answers == [*([[]] * (LAG + 2)), [0]]


def test_a_step_with_early_vote_trains_on_the_same_rollouts_under_the_same_labels() -> None:
    """Right answers of the bundled model end at the same token, so a threshold that is soon out of reach decides."""
    policy = Policy.load(ModelConfig(method="full"), HardwareConfig(device="cpu"), TrainConfig())
    problems = load_problem_set("bundled:sums").problems[:3]
    ends = stop_ids(policy.tokenizer, policy.base.generation_config.eos_token_id)
    ballots: dict[bool, list[Ballot]] = {}
    for early in (False, True):
        config = RunConfig().with_changes(
            **{
                "vote.num_votes": 24,
                "vote.num_trained": 4,
                "vote.max_new_tokens": 96,
                "vote.temperature": 0.3,
                "vote.min_consensus": 0.95,
                "vote.early_stop": early,
            }
        )
        prompts = PromptFormat(policy.tokenizer, get_task("math"), config.data, config.model.source)
        sampler = TorchSampler(lambda: policy.base, 1 << 30, 512)
        learner = Learner(config, policy, sampler, prompts, ends)
        ballots[early] = learner.vote(1, problems, Clock(), lambda *_: None, lambda: False)
    assert any(ballot.election.num_dropped for ballot in ballots[True])
    for full, stopped in zip(ballots[False], ballots[True], strict=True):
        assert stopped.election.label_key == full.election.label_key
        assert stopped.rewards[:4] == full.rewards[:4]
        assert [each.tokens for each in stopped.rollouts[:4]] == [each.tokens for each in full.rollouts[:4]]
        assert {each.finish for each in stopped.rollouts[:4]} <= {"stop", "length"}
        assert not full.election.num_dropped
