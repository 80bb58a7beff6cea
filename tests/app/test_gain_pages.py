"""Judging runs: where a gain came from, two runs against each other, the random-reward control."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from app.pages import runs
from app.pages.run import Seen, _act, _token
from app.pages.run_control import NAME, control_of, is_control, start_control
from app.pages.run_gain import control_words, gain_view
from app.pages.runs_pair import Match, matches, paired_tests
from app.pages.runs_pair_view import p_words, pair_card, sentences
from app.pages.runs_view import Choice
from app.services import Services
from tests.app.scripted import HOSTILE, Player, Script, problem_set
from ttrl_engine.config import PRESETS
from ttrl_engine.events import ProblemScore
from ttrl_engine.gains import Pair
from worker.rows import EvaluationRow, RunRow
from worker.settings import Settings

QUICK = PRESETS["quick-look"].config()


def play(services: Services, name: str, **options) -> RunRow:
    problems = options.pop("problems", problem_set("two-step sums", references=True))
    script = Script(name, problems, total_steps=10, steps=10, **options)
    found = services.store.run(Player(services.store, script).play())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return Services.open(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def learned(services: Services) -> RunRow:
    return play(services, "Learns")


@pytest.fixture(scope="module")
def flat(services: Services) -> RunRow:
    return play(services, "Hardly learns", seed=0, learns=0.02)


def between(services: Services, first: RunRow, second: RunRow) -> dict[str, Match]:
    rows = services.store.evaluations(first.id), services.store.evaluations(second.id)
    return {match.key: match for match in matches(services.store, first, second, rows)}


def section(services: Services, run: RunRow) -> str:
    return gain_view(services, run, services.store.evaluations(run.id))


# --- where the gain came from -------------------------------------------------------------------------------------


def test_every_source_of_a_gain_has_its_problems_interval_and_luck(services, learned):
    page = section(services, learned)
    assert "Where the gain came from: adapt" in page
    assert "n = 36 problems × 8, step 10" in page
    for source in ("Sharpening", "New", "Format", "Lost"):
        assert f"<b>{source}</b>" in page
    assert "Beyond luck: sharpening +" in page
    assert "A/A noise" in page
    assert "By difficulty at the start" in page
    assert "By length of the base&#x27;s answers" in page
    assert "were learned (wrong, now right)" in page


def test_what_does_not_stand_out_from_luck_is_not_established(services, flat):
    with services.store.writing(flat.id) as connection:
        connection.execute("UPDATE scores SET num_unparsed = 0 WHERE run_id = ?", (flat.id,))
    page = section(services, flat)
    assert "No part of it stands out from the luck of sampling" in page
    assert "not established" in page


def test_without_references_only_benchmarks_are_taken_apart(services):
    run = play(services, "My problems " + HOSTILE, problems=problem_set("mine " + HOSTILE, references=False))
    page = section(services, run)
    assert "Where the gain came from: adapt" not in page
    assert "benchmark sums-hard" in page
    assert "<script" not in page
    assert "<img" not in page


def test_before_the_first_scores_the_section_says_what_it_waits_for(services, learned):
    page = gain_view(services, learned, [])
    assert "It appears once base and adapted model have been scored" in page


def test_scores_of_an_older_version_leave_format_unknown(services):
    run = play(services, "Older")
    with services.store.writing(run.id) as connection:
        connection.execute("UPDATE scores SET num_unparsed = NULL, num_truncated = NULL, mean_length = NULL")
    page = section(services, run)
    assert "Format is unknown" in page
    assert "<b>Format</b>" not in page
    assert "By length" not in page


# --- two runs -----------------------------------------------------------------------------------------------------


EVALUATION = EvaluationRow(
    1, 10, "adapt", "sums", 0, 8, 0.5, 0.4, 0.6, 0.5, 0.4, 0.6, 0.8, 0.1, 0.0, 0.2, 60, 0, False
)  # fmt: skip


def made_match(pairs: list[tuple[int, int, bool, bool]]) -> Match:
    rows = [
        Pair(ProblemScore(f"p{i}", 8, a, "1", vote_a), ProblemScore(f"p{i}", 8, b, "1", vote_b))
        for i, (a, b, vote_a, vote_b) in enumerate(pairs)
    ]
    row = dataclasses.replace(EVALUATION, num_problems=len(rows))
    return Match("adapt", "Adapt", row, row, tuple(rows))


def test_wins_and_losses_are_said_in_words_with_their_test():
    match = made_match([(6, 2, True, False)] * 12 + [(2, 6, False, True)] * 5 + [(8, 8, True, True)] * 20)
    vote, average, noise = sentences(match)
    assert "A answers 12 problems right that B does not, B 5 that A does not" in vote
    assert "exact McNemar p = 0.14: not established" in vote
    assert "n = 37 problems × 8" in vote
    assert "not established" in average
    assert "A/A noise" in noise


def test_a_clear_winner_is_named_whichever_side_it_is_on():
    pairs = [(8, 2, True, False)] * 20
    assert "A is better by vote" in sentences(made_match(pairs))[0]
    assert "A is better on average" in sentences(made_match(pairs))[1]
    mirrored = [(b, a, vote_b, vote_a) for a, b, vote_a, vote_b in pairs]
    assert "B is better by vote" in sentences(made_match(mirrored))[0]
    assert "B is better on average" in sentences(made_match(mirrored))[1]


def test_the_lead_is_that_of_a():
    test = paired_tests(made_match([(8, 4, True, True), (8, 6, True, True), (8, 2, True, False)]))
    assert test.lead == pytest.approx(0.5)
    assert test.low < 0.5 < test.high


@pytest.mark.parametrize(
    ("p", "words"), [(0.0002, "p < 0.001"), (0.0412, "p = 0.041"), (0.1435, "p = 0.14"), (1, "p = 1.00")]
)
def test_p_values_are_rounded_but_never_to_0(p, words):
    assert p_words(p) == words


def test_runs_on_the_same_problems_are_compared_in_every_split(services, learned, flat):
    found = between(services, learned, flat)
    assert list(found) == ["adapt", "held_out", "benchmark:bundled:sums-benchmark", "benchmark:bundled:sums-hard"]
    assert not found["adapt"].refusal
    assert len(found["adapt"].pairs) == 36
    page = pair_card([learned, flat], (learned, flat), list(found.values()), Choice((learned.id, flat.id)))
    assert "A is better by vote" in page
    assert f"/run?id={learned.id}&amp;problem=p0" in page


def test_another_problem_set_is_refused_but_not_its_benchmarks(services, learned):
    other = play(services, "Another set", problems=problem_set("others", references=True, num_problems=40))
    found = between(services, learned, other)
    assert "different problem sets: “two-step sums” and “others”" in found["adapt"].refusal
    assert not found["benchmark:bundled:sums-hard"].refusal


def test_other_ways_of_scoring_are_refused_and_named(services, learned):
    config = QUICK.with_changes(**{"evaluate.temperature": 1.0, "train.learning_rate": 1e-3})
    found = between(services, learned, play(services, "Hotter", config=config))
    assert "evaluate.temperature (0.6 and 1.0)" in found["adapt"].refusal
    assert "learning_rate" not in found["adapt"].refusal
    page = pair_card([learned], (learned, learned), list(found.values()), Choice())
    assert "Adapt: not comparable" in page


def test_other_problems_of_the_same_set_are_refused(services, learned):
    config = QUICK.with_changes(**{"data.held_out_share": 0.5})
    found = between(services, learned, play(services, "Half held out", config=config))
    assert "scored on different problems: 24 of 36" in found["adapt"].refusal


def test_a_run_without_scores_is_refused(services, learned):
    waiting = services.store.run(services.store.submit_run(QUICK, "waits", learned.set_id))
    found = between(services, learned, waiting)
    assert all("has no score there" in match.refusal for match in found.values())
    with services.store.writing() as connection:
        connection.execute("UPDATE jobs SET state = 'stopped' WHERE id = ?", (waiting.job_id,))


def test_two_different_runs_stand_against_each_other_whatever_the_address_says(learned, flat):
    chosen = [learned, flat]
    for query in (
        {},
        {"first": "x"},
        {"first": "99", "second": "98"},
        {"first": str(learned.id), "second": str(learned.id)},
    ):
        assert runs.pair_of(chosen, runs.choice_of(query)) == (learned, flat)
    assert runs.pair_of(chosen, runs.choice_of({"first": str(flat.id)})) == (flat, learned)
    assert runs.pair_of(chosen, runs.choice_of({"second": str(learned.id)})) == (flat, learned)


def test_the_address_keeps_who_is_tested():
    assert Choice((1, 2), first=2, second=1).url() == "/runs?ids=1,2&first=2&second=1"


# --- the control --------------------------------------------------------------------------------------------------


def test_the_control_differs_in_its_rewards_only_and_is_started_once(tmp_path: Path):
    services = Services.open(Settings(data_dir=tmp_path))
    run = play(services, "Learns")
    assert "Run the control" in section(services, run)
    before = _token(services, run)
    assert "The control is in the queue" in _act(services, Seen(run.id), "control", str(run.id))
    control = control_of(services.store, run)
    assert control is not None
    assert _token(services, run) != before
    assert start_control(services, run) == control.id
    assert control.parent_run_id == run.id
    assert control.name == f"Learns, {NAME}"
    changed = {"vote.reward": "majority", "name": control.config.name}
    assert control.config.with_changes(**changed).digest() == run.config.digest()
    assert "The control has not been scored" in section(services, run)
    assert is_control(control)
    assert "This run is the random-reward control" in gain_view(services, control, services.store.evaluations(run.id))
    # Of the control there is no control.
    assert "Nothing was done" in runs._act(services, Choice(), "control", str(control.id))[1]

    script = Script("the control", problem_set("two-step sums", references=True), total_steps=10, steps=10, learns=0.02)
    Player.of(services.store, control, script).play()
    words = control_words(services, run, control)
    assert words[0].startswith("Adapt: gain +")
    assert "of random rewards not established (" in words[0]
    assert "n = 36 problems × 8, step 10" in words[0]
    assert "agreement adds this much to what random rewards give" in words[0]


def test_an_equal_control_says_that_agreement_added_nothing_established(tmp_path: Path):
    services = Services.open(Settings(data_dir=tmp_path))
    run = play(services, "Learns")
    assert "in the queue" in runs._act(services, Choice(), "control", str(run.id))[1]
    control = control_of(services.store, run)
    assert control is not None
    script = Script("the control", problem_set("two-step sums", references=True), total_steps=10, steps=10)
    Player.of(services.store, control, script).play()
    assert "not established: nothing shows that agreement did more" in control_words(services, run, control)[0]


def test_a_clone_with_other_changes_is_no_control(tmp_path: Path):
    services = Services.open(Settings(data_dir=tmp_path))
    run = play(services, "Learns")
    config = run.config.with_changes(**{"vote.reward": "random", "vote.temperature": 0.5})
    services.store.submit_run(config, "clone", run.set_id, parent_run_id=run.id)
    assert control_of(services.store, run) is None


@pytest.mark.parametrize("ident", ["99", "x", "", HOSTILE])
def test_a_strange_click_starts_no_control(services, learned, ident):
    num = len(services.store.runs(archived=True))
    assert "Nothing was done" in _act(services, Seen(learned.id), "control", ident)
    runs._act(services, Choice(), "control", ident)
    assert len(services.store.runs(archived=True)) == num
