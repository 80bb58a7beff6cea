"""Problem sets in the store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ttrl_engine.config import AnswerConfig, Merge, RunConfig
from ttrl_engine.errors import ConfigError, DataError
from ttrl_engine.problems import Problem, ProblemSet
from worker.store import Store


def test_a_set_comes_back_as_it_was(store: Store, problem_set, set_id):
    assert store.load_problem_set(set_id) == problem_set
    assert store.load_problem_set(set_id).content_hash == set_id


def test_the_same_content_is_stored_once(store: Store, problem_set, set_id):
    again = ProblemSet("another name", problem_set.kind, problem_set.problems, problem_set.references)
    assert store.add_problem_set(again, "elsewhere") == set_id
    assert [row.name for row in store.problem_sets()] == ["six sums"]


def test_choices_survive(store: Store):
    asked = ProblemSet(
        "c", "choice", (Problem("a", "Which?", ("x", "y")), Problem("b", "What?", ("u", "v"))), {"a": "B"}
    )
    assert store.load_problem_set(store.add_problem_set(asked, "test")) == asked


def test_a_set_is_read_page_by_page_and_searched_literally(store: Store, set_id):
    assert [row.idx for row in store.problems_page(set_id, offset=2, limit=2)] == [2, 3]
    assert [row.problem_id for row in store.problems_page(set_id, query="is 4 +")] == ["p4"]
    assert store.count_problems(set_id, "%") == 0
    assert store.count_problems(set_id) == 6


def test_an_archived_set_leaves_the_list_and_stays_readable(store: Store, set_id):
    store.archive_problem_set(set_id)
    assert store.problem_sets() == []
    assert [row.id for row in store.problem_sets(archived=True)] == [set_id]
    assert len(store.load_problem_set(set_id).problems) == 6


def test_a_set_that_is_not_there_is_named(store: Store):
    with pytest.raises(DataError, match="no problem set 'nowhere'"):
        store.load_problem_set("nowhere")


def test_text_that_is_no_unicode_is_refused_whole(store: Store):
    broken = ProblemSet("broken", "math", (Problem("a", "fine"), Problem("b", "half a \ud800 pair")), {})
    with pytest.raises(DataError, match="not valid Unicode"):
        store.add_problem_set(broken, "test")
    assert store.problem_sets() == []


def test_a_rule_is_kept_with_the_set_and_decides_nothing_of_its_id(store: Store, set_id):
    rule = AnswerConfig(kind="number", unit="cm", merges=(Merge(problem_id="p1", answers=("1", "one")),))
    store.save_rule(set_id, rule)
    found = store.load_problem_set(set_id)
    assert (found.rule, found.content_hash) == (rule, set_id)
    row = store.problem_set(set_id)
    assert row is not None
    assert (row.rule, row.answers.kind) == (rule, "number")


def test_a_set_added_again_keeps_its_rule_unless_another_comes_with_it(store: Store, problem_set, set_id):
    store.save_rule(set_id, AnswerConfig(unit="cm"))
    store.add_problem_set(problem_set, "again")
    assert store.load_problem_set(set_id).rule == AnswerConfig(unit="cm")
    store.add_problem_set(replace(problem_set, rule=AnswerConfig(unit="m")), "again")
    assert store.load_problem_set(set_id).rule == AnswerConfig(unit="m")


def test_a_rule_that_cannot_be_used_is_not_kept(store: Store, set_id):
    with pytest.raises(ConfigError, match="repetition"):
        store.save_rule(set_id, AnswerConfig(pattern="(a+)+$"))
    with pytest.raises(DataError, match="no problem set"):
        store.save_rule("nowhere", AnswerConfig(unit="cm"))
    assert store.load_problem_set(set_id).rule == AnswerConfig()


def test_a_run_keeps_the_rule_that_its_set_had_when_it_was_started(store: Store, set_id):
    store.save_rule(set_id, AnswerConfig(kind="number", unit="cm", tolerance=0.01))
    run_id = store.submit_run(RunConfig(answers=AnswerConfig(unit="mm")), "one", set_id)
    store.save_rule(set_id, AnswerConfig(kind="text"))
    run = store.run(run_id)
    assert run is not None
    assert run.config.answers == AnswerConfig(kind="number", unit="mm", tolerance=0.01)
    assert run.config_digest == run.config.digest()


def test_a_run_without_a_pattern_that_its_kind_needs_is_refused(store: Store, set_id):
    with pytest.raises(ConfigError, match="needs a pattern"):
        store.submit_run(RunConfig(answers=AnswerConfig(kind="pattern")), "one", set_id)
    assert store.runs() == []


def test_a_part_of_a_set_becomes_a_set_of_its_own(store: Store, set_id):
    merges = (Merge(problem_id="p1", answers=("1", "one")), Merge(problem_id="p5", answers=("6", "six")))
    store.save_rule(set_id, AnswerConfig(unit="cm", kind="number", merges=merges))
    part_id = store.derive_problem_set(set_id, {1, 4})
    part = store.load_problem_set(part_id)
    assert part.name == "six sums (2 of 6)"
    assert [problem.id for problem in part.problems] == ["p1", "p4"]
    assert dict(part.references) == {"p1": "2"}
    assert part.rule == AnswerConfig(unit="cm", kind="number", merges=merges[:1])
    assert store.derive_problem_set(set_id, {4, 1}) == part_id
    assert store.derive_problem_set(set_id, range(6)) == set_id


def test_a_part_that_is_to_measure_holds_only_what_can(store: Store, set_id):
    part = store.load_problem_set(store.derive_problem_set(set_id, {2, 3}, words=", held out", referenced=True))
    assert (part.name, [problem.id for problem in part.problems]) == ("six sums (1 of 6, held out)", ["p2"])
    with pytest.raises(DataError, match="has a reference answer"):
        store.derive_problem_set(set_id, {3, 4}, referenced=True)
    with pytest.raises(DataError, match="No problem is left"):
        store.derive_problem_set(set_id, set())
