"""Seven ways in which the released TTRL code misjudges answers or runs them. None of them may happen here."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ttrl_engine.label_metrics import measure_label
from ttrl_engine.problems import Problem
from ttrl_engine.reward import advantages
from ttrl_engine.tasks import Extraction, get_task
from ttrl_engine.vote import Election, elect, rewards

MATH, CHOICE = get_task("math"), get_task("choice")
PROBLEM = Problem("p", "What is it?")
OPTIONS = Problem("q", "Which bond?", ("ionic", "metallic", "covalent", "hydrogen"))


def vote(*rollouts: str, tie: str = "abstain") -> Election:
    return elect([MATH.extract(text, PROBLEM) for text in rollouts], MATH, PROBLEM, tie=tie)  # type: ignore[arg-type]


def boxed(answer: str, times: int) -> list[str]:
    return [f"So it is \\boxed{{{answer}}}."] * times


def test_1_an_answer_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    attack = "__import__('os').system('touch ran')"
    election = vote(*boxed(attack, 3), *boxed(f"\\frac{{{attack}}}{{2}}", 2))
    assert election.num_rollouts == 5
    assert MATH.equivalent(attack, "0", PROBLEM) is False
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "reference",
    [
        r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", "(2,12)", r"x \in [-2,7]", "x=5",
        r"(-\infty, 2) \cup (3, \infty)", r"\{1, 2, 3\}", "y = 2x + 3", r"\frac{14}{3}", "025", "073", "6 - 5i",
        r"1 \pm \sqrt{19}", "5x - 7y + 11z + 4 = 0",
    ],
)  # fmt: skip
def test_2_everybody_right_is_everybody_rewarded(reference: str):
    election = vote(*boxed(reference, 8))
    assert rewards(election) == [1.0] * 8
    assert election.consensus == 1.0
    measured = measure_label(election, reference, MATH, PROBLEM)
    assert measured is not None
    assert (measured.label_correct, measured.reward_accuracy) == (True, 1.0)


def test_2_a_padded_integer_keeps_its_value():
    assert MATH.equivalent("025", "25", PROBLEM)
    assert not MATH.equivalent("025", "0", PROBLEM)
    assert vote(*boxed("025", 2), *boxed("25", 2), *boxed("0", 3)).label in ("025", "25")


def test_3_spellings_of_one_answer_do_not_split_its_vote():
    election = vote(*boxed("0.5", 3), *boxed(r"\frac12", 3), *boxed("3", 4))
    assert election.label is not None
    assert MATH.equivalent(election.label, r"\frac{1}{2}", PROBLEM)
    assert rewards(election) == [1.0] * 6 + [0.0] * 4


def test_4_no_answer_is_no_candidate():
    election = vote(*["I do not know."] * 5, *boxed("7", 3), r"\boxed{}")
    assert election.label == "7"
    assert rewards(election) == [0.0] * 5 + [1.0] * 3 + [0.0]
    assert election.consensus == 3 / 9
    nothing = vote(*["I do not know."] * 4)
    assert (nothing.label, nothing.abstained, sum(rewards(nothing))) == (None, "no answers", 0.0)


@pytest.mark.parametrize(
    "reference", [r"\frac{14}{3}", r"\sqrt{51}", r"3\sqrt{13}", "(3, 4)", r"\text{Evelyn}", "x^2+1"]
)
def test_5_a_right_label_is_measured_as_right_without_being_read_again(reference: str):
    election = vote(*boxed(reference, 5), *boxed("999", 2))
    measured = measure_label(election, reference, MATH, PROBLEM)
    assert measured is not None
    assert measured.label_correct is True
    assert measured.reward_accuracy == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "The answer is C. This is a hard one.",
        r"\boxed{C} because of a bond",
        r"A bond is a thing, and so is an option: \boxed{C}. A hard one.",
        "The answer is (c), a covalent one.",
        "The answer is covalent.",
    ],
)
def test_6_an_article_is_no_option(text: str):
    found = CHOICE.extract(text, OPTIONS)
    assert found.raw is not None
    assert CHOICE.canonical(found.raw, OPTIONS) == "C"


def test_6_an_article_alone_is_no_answer():
    for text in ("It is a hard one, I think.", "The answer is a hard one.", "I am a model. A bond it is."):
        assert CHOICE.extract(text, OPTIONS).raw is None


def test_6_letters_and_texts_stay_together_however_the_options_are_shuffled():
    for order in itertools.permutations(OPTIONS.choices):
        shuffled = Problem("q", OPTIONS.prompt, order)
        letter = "ABCD"[order.index("covalent")]
        for said in (f"\\boxed{{{letter}}}", f"\\boxed{{({letter.lower()}) covalent}}", "The answer is covalent."):
            found = CHOICE.extract(said, shuffled)
            assert found.raw is not None
            assert CHOICE.equivalent(found.raw, "covalent", shuffled)


def test_6_more_than_ten_options_have_their_letters():
    many = Problem("q", "Which?", tuple(f"option number {n}" for n in range(14)))
    assert CHOICE.extract(r"\boxed{N}", many).raw == "N"
    assert CHOICE.extract("The answer is (l).", many).raw == "L"
    assert CHOICE.extract(r"\boxed{O}", many).raw is None


def test_7_a_tie_abstains_unless_told_otherwise():
    tied = [*boxed("3", 2), *boxed("4", 2)]
    election = vote(*tied)
    assert (election.label, election.abstained) == (None, "tie")
    assert advantages(rewards(election), "standardised") == [0.0] * 4
    assert vote(*tied, tie="first_sampled").label == "3"


def test_7_a_least_consensus_is_kept():
    extractions = [Extraction(raw) for raw in ("1", "1", "2", "3", "4")]
    assert elect(extractions, MATH, PROBLEM, min_consensus=0.5).abstained == "low consensus"
