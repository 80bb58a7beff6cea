"""Elections: who wins, who abstains, and what the rollouts earn."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine import vote
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.vote import Election, elect, rewards

PROBLEM = Problem("p", "What is it?")
TASK = get_task("math")


def hold(*answers: str | None, **rules) -> Election:
    """The election over raw answers; None is a rollout without one."""
    return elect(
        [Extraction(a) if a is not None else Extraction(None, "no final answer") for a in answers],
        TASK,
        PROBLEM,
        **rules,
    )


def test_equivalent_spellings_pool_their_votes():
    election = hold("4", "0.5", r"\frac12", "4", "1/2", "4", "0.5")
    assert election.label == "0.5"
    assert election.consensus == 4 / 7
    assert election.classes[0].spellings == (("0.5", 2), (r"\frac12", 1), ("1/2", 1))
    assert rewards(election) == [0, 1, 1, 0, 1, 0, 1]


def test_rollouts_without_an_answer_count_in_the_denominator_and_never_win():
    election = hold(None, None, None, None, "7")
    assert (election.label, election.consensus, election.num_unparsed) == ("7", 0.2, 4)
    assert election.unparsed[0] == (0, "no final answer")
    assert rewards(election) == [0, 0, 0, 0, 1]


def test_without_any_answer_the_election_abstains_and_nobody_earns():
    election = hold(None, None)
    assert (election.abstained, election.label, election.consensus, election.margin) == ("no answers", None, 0.0, 0.0)
    assert rewards(election) == [0, 0]


def test_an_election_without_rollouts_abstains():
    assert hold().abstained == "no answers"
    assert rewards(hold()) == []


def test_a_tie_abstains_or_goes_to_the_answer_sampled_first():
    assert hold("2", "1", "1", "2").abstained == "tie"
    assert hold("2", "1", "1", "2").label is None
    assert hold("2", "1", "1", "2", tie="first_sampled").label == "2"
    assert rewards(hold("2", "1", "1", "2", tie="first_sampled")) == [1, 0, 0, 1]


def test_a_tie_for_second_is_no_tie():
    assert hold("1", "1", "2", "3").label == "1"


def test_too_little_consensus_or_margin_abstains_and_exactly_enough_does_not():
    assert hold("1", "1", "2", None, min_consensus=0.6).abstained == "low consensus"
    assert hold("1", "1", "2", None, min_consensus=0.5).label == "1"
    assert hold("1", "1", "2", None, min_margin=0.3).abstained == "low margin"
    assert hold("1", "1", "2", None, min_margin=0.25).label == "1"


def test_a_tie_that_is_broken_still_has_no_margin():
    assert hold("1", "2", tie="first_sampled", min_margin=0.1).abstained == "low margin"


def test_unanimous_means_every_rollout_and_not_every_answer():
    assert hold("1/2", "0.5").unanimous
    assert not hold("1/2", None).unanimous
    assert not hold().unanimous


def test_no_function_of_the_vote_can_be_given_a_reference():
    names = {
        parameter
        for _, function in inspect.getmembers(vote, inspect.isfunction)
        for parameter in inspect.signature(function).parameters
    }
    assert not [name for name in names if "reference" in name or "truth" in name]
    assert "label_metrics" not in inspect.getsource(vote)


ANSWERS = st.lists(st.sampled_from(["1", "1.0", "2", "4/2", "3", None]), max_size=12)


@given(ANSWERS, st.sampled_from(["abstain", "first_sampled"]), st.floats(0, 1), st.floats(0, 1))
def test_every_rollout_is_in_one_class_or_unparsed_and_only_winners_earn(answers, tie, least, margin):
    election = hold(*answers, tie=tie, min_consensus=least, min_margin=margin)
    placed = [i for each in election.classes for i in each.members] + [i for i, _ in election.unparsed]
    assert sorted(placed) == list(range(len(answers)))
    counts = [each.count for each in election.classes]
    assert counts == sorted(counts, reverse=True)
    earned = rewards(election)
    if election.winning_class is None:
        assert not any(earned)
        assert election.abstained is not None
    else:
        assert {i for i, r in enumerate(earned) if r} == set(election.winning_class.members)
        assert sum(earned) / len(answers) == election.consensus


@given(ANSWERS, st.randoms())
def test_order_never_decides_an_election_that_abstains_on_ties(answers, random):
    shuffled = answers[:]
    random.shuffle(shuffled)
    one, other = hold(*answers), hold(*shuffled)
    assert (one.label_key, one.abstained, one.consensus) == (other.label_key, other.abstained, other.consensus)
