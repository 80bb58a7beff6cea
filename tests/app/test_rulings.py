"""A person's word on single answers, worked into a rule, and what an election makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rulings import change, difference, merge, rule_to_save, split
from ttrl_engine.config import AnswerConfig
from ttrl_engine.errors import ConfigError, DataError
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import task_for
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.vote import elect

RAWS = ("1", "1.0", "2", "3", "three", "4")
NUMBER = AnswerConfig(kind="text")


def classes_under(rule: AnswerConfig, raws=RAWS) -> list[list[str]]:
    """The spellings of each class when these answers vote."""
    task = task_for(rule)
    election = elect([Extraction(raw) for raw in raws], task, Problem("p", "?"))
    return [[spelling for spelling, _ in each.spellings] for each in election.classes]


def groups(rule: AnswerConfig) -> set[frozenset[str]]:
    return {frozenset(each) for each in classes_under(rule)}


def test_merged_answers_are_one_class_and_the_others_stay():
    rule = merge(NUMBER, "p", classes_under(NUMBER), {"3", "three"})
    assert groups(rule) == {frozenset({"3", "three"})} | {frozenset({each}) for each in ("1", "1.0", "2", "4")}


def test_a_part_of_a_class_can_be_moved_to_another():
    whole = merge(NUMBER, "p", classes_under(NUMBER), {"1", "1.0", "2"})
    moved = merge(whole, "p", classes_under(whole), {"1.0", "3"})
    assert {frozenset({"1", "2"}), frozenset({"1.0", "3"})} <= groups(moved)


def test_split_undoes_a_merge_for_the_chosen_only():
    whole = merge(NUMBER, "p", classes_under(NUMBER), {"1", "1.0", "2"})
    assert {frozenset({"1", "2"}), frozenset({"1.0"})} <= groups(split(whole, "p", classes_under(whole), {"1.0"}))


def test_nothing_to_merge_or_to_split_says_so():
    with pytest.raises(DataError, match="at least two"):
        merge(NUMBER, "p", classes_under(NUMBER), {"1"})
    with pytest.raises(DataError, match="share an answer"):
        split(NUMBER, "p", classes_under(NUMBER), {"1"})
    many = [[str(i)] for i in range(200)]
    with pytest.raises(DataError, match="at most 100"):
        merge(NUMBER, "p", many, {str(i) for i in range(200)})


@given(st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from(RAWS), min_size=1)), max_size=6))
def test_after_any_changes_the_last_word_holds(steps):
    rule = NUMBER
    for is_merge, chosen in steps:
        before = classes_under(rule)
        try:
            rule = (merge if is_merge else split)(rule, "p", before, chosen)
        except DataError:
            continue
        after = groups(rule)
        if is_merge:
            assert frozenset(chosen) in after
        else:
            assert all(frozenset({each}) in after for each in chosen)
        untouched = {frozenset(each) - chosen for each in before}
        assert {group - chosen for group in after} - {frozenset()} == untouched - {frozenset()}


def test_another_problem_is_left_alone():
    rule = merge(NUMBER, "q", classes_under(NUMBER), {"1", "2"})
    assert groups(rule) == groups(NUMBER)
    assert len(merge(rule, "p", classes_under(rule), {"1", "2"}).merges) == 2


def test_only_what_was_changed_is_saved():
    opened = AnswerConfig(kind="math", read="boxed")
    saved = AnswerConfig(unit="cm")
    draft = merge(opened, "p", classes_under(opened), {"1", "2"})
    rule = rule_to_save(saved, opened, draft)
    assert (rule.unit, rule.kind, rule.read, rule.merges) == ("cm", None, None, draft.merges)


def test_a_setting_that_cannot_be_says_why():
    assert change(AnswerConfig(), tolerance="0.01").tolerance == 0.01
    with pytest.raises(ConfigError, match="valid number"):
        change(AnswerConfig(), tolerance="much")
    with pytest.raises(ConfigError):
        change(AnswerConfig(), pattern="(")


def test_a_difference_is_told_in_words():
    assert difference(AnswerConfig(), AnswerConfig(kind="text")) == ["Kind of answer: text"]
    assert difference(NUMBER, merge(NUMBER, "p", classes_under(NUMBER), {"1", "2"})) == ["Merged answers: 1"]
