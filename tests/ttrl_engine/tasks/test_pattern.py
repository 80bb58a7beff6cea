"""A person's regular expression, and what keeps it from running for ever."""

from __future__ import annotations

import time

import pytest

from ttrl_engine.config import AnswerConfig, parse_config
from ttrl_engine.errors import ConfigError
from ttrl_engine.patterns import TIME_LIMIT_S, require_fast
from ttrl_engine.problems import Problem
from ttrl_engine.tasks import task_for
from ttrl_engine.tasks.pattern import EMPTY_MATCH, NO_MATCH, TOO_SLOW, PatternTask

PROBLEM = Problem("p", "Which?")


def test_the_last_match_counts_and_its_first_group_where_it_has_one():
    assert PatternTask(r"\d+").extract("12 or 30", PROBLEM).raw == "30"
    assert PatternTask(r"#### (.+)").extract("#### 4\n#### 5 ", PROBLEM).raw == "5"
    assert PatternTask(r"(?i)answer: (\w+), (\w+)").extract("Answer: a, b", PROBLEM).raw == "a"


def test_a_missing_match_has_a_reason():
    assert PatternTask(r"\d+").extract("none", PROBLEM).reason == NO_MATCH
    assert PatternTask(r"x(\d)?").extract("x", PROBLEM).reason == EMPTY_MATCH
    assert PatternTask(r".+").extract("x" * 500, PROBLEM).reason == "longer than 200 characters"
    assert PatternTask(r"\d+").extract("none", PROBLEM, truncated=True).reason == "cut before the answer"


def test_plain_decimals_are_compared_by_value_and_texts_without_case():
    task = PatternTask(r"\S+")
    assert task.equivalent("042", "42.0", PROBLEM)
    assert task.equivalent("Rot  Grün", "rot grün", PROBLEM)
    assert not task.equivalent("A7", "A07", PROBLEM)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(?R)"])
def test_a_pattern_that_is_slow_on_ordinary_text_is_refused_with_what_to_do(pattern):
    with pytest.raises(ConfigError, match="repetition"):
        require_fast(pattern)


def test_a_pattern_that_turns_slow_on_a_rollout_is_stopped_with_a_reason():
    pattern = r"(z+)+y$"
    require_fast(pattern)
    start = time.monotonic()
    assert PatternTask(pattern).extract("z" * 40_000 + "!", PROBLEM).reason == TOO_SLOW
    assert time.monotonic() - start < TIME_LIMIT_S + 0.75


@pytest.mark.parametrize("pattern", ["(", "[", "(?P<x>a", r"(?<=", "*"])
def test_what_is_no_pattern_is_refused_when_the_config_is_read(pattern):
    with pytest.raises(ConfigError, match="no regular expression"):
        parse_config({"answers": {"pattern": pattern}})


def test_the_kind_needs_its_pattern():
    with pytest.raises(ConfigError, match="needs a pattern"):
        AnswerConfig(kind="pattern").over(AnswerConfig())
    effective = AnswerConfig(kind="pattern").over(AnswerConfig(pattern=r"\d+"))
    assert task_for(effective).extract("7", PROBLEM).raw == "7"
