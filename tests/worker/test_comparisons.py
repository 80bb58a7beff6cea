"""Comparisons that grow, are cancelled, and go over whole sets; blind sessions on them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.worker.waiting import wait_until
from ttrl_engine.errors import ConfigError, DataError
from worker.rows import BlindSessionRow
from worker.states import JobState
from worker.store import Store
from worker.store.holding import FencedError
from worker.supervisor import Supervisor


def test_a_growing_answer_is_stored_and_stays_when_it_is_cancelled(store: Store, submit, supervisor: Supervisor):
    run_id = submit()
    supervisor.serve()
    comparison_id = store.submit_comparison(run_id, "Please wait.", "c", num_samples=2)
    serving = threading.Thread(target=supervisor.serve, daemon=True)
    serving.start()
    growing = {"base": {"growing": [{"text": "so far", "length": 2, "ended": False}]}}

    def partial() -> dict[str, Any]:
        found = store.comparison(comparison_id)
        assert found is not None
        return found.partial

    comparison = store.comparison(comparison_id)
    assert comparison is not None
    try:
        wait_until(lambda: partial() == growing, "the answer so far")
    finally:
        store.request_cancel(comparison.job.id)
        serving.join(20)
    comparison = store.comparison(comparison_id)
    assert comparison is not None
    assert (comparison.state, comparison.result, comparison.partial) == (JobState.STOPPED, None, growing)


def test_a_result_takes_the_place_of_what_grew_and_only_the_holder_writes(store: Store, submit):
    run_id = submit()
    comparison_id = store.submit_comparison(run_id, "1 + 1?", "c")
    claim = store.claim_next("w")
    assert claim is not None
    store.begin_comparison(claim)
    store.record_comparison(claim, run_id, partial_json='{"base": {"growing": []}}')
    comparison = store.comparison(comparison_id)
    assert comparison is not None
    assert comparison.partial == {"base": {"growing": []}}
    store.record_comparison(claim, run_id, result_json='{"base": 1}')
    comparison = store.comparison(comparison_id)
    assert comparison is not None
    assert (comparison.result, comparison.partial) == ({"base": 1}, {})
    late = claim._replace(attempt=claim.attempt - 1)
    for refused in (
        lambda: store.record_comparison(late, run_id, partial_json="{}"),
        lambda: store.record_sides(late, comparison_id, run_id, []),
    ):
        with pytest.raises(FencedError):
            refused()


def test_a_comparison_over_a_set_goes_on_where_it_was_killed(store: Store, submit, set_id, supervisor: Supervisor):
    run_id = submit()
    supervisor.serve()
    comparison_id = store.submit_set_comparison(run_id, set_id, ["p0", "p1", "p3"], "c", num_samples=1, seed=7)
    supervisor.serve()
    comparison = store.comparison(comparison_id)
    assert comparison is not None
    assert (comparison.state, comparison.job.attempt) == (JobState.FINISHED, 2)
    sides = store.compared_sides(comparison_id)
    assert [(side.side, side.problem_id) for side in sides] == [
        (name, problem) for name in ("base", "adapted") for problem in ("p0", "p1", "p3")
    ]
    assert {(side.label, side.consensus, side.mean_length, side.num_samples) for side in sides} == {("1", 1.0, 3.0, 1)}
    assert store.compared_answers(comparison_id, "p3")["adapted"]["answers"][0]["text"] == "adapted 7"
    assert store.comparisons(run_id) == [], "the list of single questions leaves it out"
    assert [each.id for each in store.set_comparisons(run_id)] == [comparison_id]


def test_a_set_comparison_with_nothing_or_too_much_to_ask_is_refused(store: Store, submit, set_id):
    run_id = submit()
    for names in ([], [str(i) for i in range(2001)]):
        with pytest.raises(ConfigError):
            store.submit_set_comparison(run_id, set_id, names, "c")
    one = store.submit_set_comparison(run_id, set_id, ["p0"], "c")
    assert store.submit_set_comparison(run_id, set_id, ["p0"], "c") == one, "a double click asks once"


def test_while_answers_grow_only_the_progress_of_the_run_changes(store: Store, submit, set_id):
    run_id = submit()
    comparison_id = store.submit_set_comparison(run_id, set_id, ["p0"], "c", num_samples=1)
    claim = store.claim_next("w")
    assert claim is not None
    store.begin_comparison(claim)
    before = store.change_token(run_id), store.change_token(None), store.progress_token(run_id)
    store.record_comparison(claim, run_id, 1, 2, partial_json="{}")
    side = {"label": "1", "consensus": 1.0, "answers": [{"text": "one", "length": 3}, {"text": "two", "length": 3}]}
    store.record_sides(claim, comparison_id, run_id, [("base", "p0", side)])
    assert store.change_token(run_id) == before[0], "an open page of the run is not drawn anew"
    assert store.change_token(None) != before[1], "the queue shows how far it is"
    assert store.progress_token(run_id) == before[2] + 2
    store.record_comparison(claim, run_id, result_json="{}")
    assert store.change_token(run_id) != before[0]
    assert store.first_answers(comparison_id) == {"p0": {"base": {"text": "one", "length": 3}}}


def test_lists_of_comparisons_over_sets_end_somewhere(store: Store, submit, set_id):
    run_id = submit()
    ids = [store.submit_set_comparison(run_id, set_id, ["p0"], f"c{i}") for i in range(22)]
    assert [each.id for each in store.set_comparisons(run_id)] == ids[:1:-1]
    blind = [store.submit_set_comparison(run_id, set_id, ["p0"], f"b{i}", blind_seed=i) for i in range(21)]
    assert [each.comparison_id for each in store.blind_sessions(run_id)] == blind[:0:-1]


def test_problems_are_found_by_id_in_their_set_alone(store: Store, set_id):
    found = store.problems_of(set_id, ["p1", "p3", "no such"])
    assert {name: row.problem_id for name, row in found.items()} == {"p1": "p1", "p3": "p3"}
    assert store.problems_of("no such", ["p1"]) == store.problems_of(None, ["p1"]) == {}


@pytest.fixture
def session(store: Store, submit, set_id) -> BlindSessionRow:
    def ask(seed: int) -> int:
        return store.submit_set_comparison(run_id, set_id, ["p0", "p1", "p2"], "c", num_samples=1, blind_seed=seed)

    run_id = submit()
    comparison_id = ask(5)
    assert ask(6) == comparison_id, "one session per comparison"
    found = store.blind_session_of(comparison_id)
    assert found is not None
    assert found == store.blind_session(found.id)
    assert found.seed == 5
    return found


def test_votes_are_kept_once_and_taken_back_from_the_last(store: Store, session: BlindSessionRow):
    store.say_blind_vote(session, "p0", "left")
    store.say_blind_vote(session, "p0", "right")
    store.say_blind_vote(session, "p1", "tie")
    assert [(vote.problem_id, vote.said) for vote in store.blind_votes(session.id)] == [("p0", "left"), ("p1", "tie")]
    back = store.undo_blind_vote(session)
    assert back is not None
    assert back.problem_id == "p1"
    store.say_blind_vote(session, "p1", "both_bad")
    assert [vote.said for vote in store.blind_votes(session.id)] == ["left", "both_bad"]


def test_after_the_end_nothing_is_added_or_taken_back(store: Store, session: BlindSessionRow):
    comparison = store.comparison(session.comparison_id)
    assert comparison is not None
    assert store.set_comparisons(comparison.run_id) == [], "its answers are not listed while they are judged blindly"
    store.say_blind_vote(session, "p0", "left")
    store.end_blind_session(session)
    ended = store.blind_session(session.id)
    assert ended is not None
    assert ended.ended_at is not None
    store.end_blind_session(session)
    assert store.blind_session(session.id) == ended
    with pytest.raises(DataError, match="has ended"):
        store.say_blind_vote(session, "p1", "left")
    assert store.undo_blind_vote(session) is None
    assert len(store.blind_votes(session.id)) == 1
    assert len(store.set_comparisons(comparison.run_id)) == 1
