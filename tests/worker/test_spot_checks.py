"""Spot checks in the store: drawn by lot, kept, taken back, and read by nothing that trains."""

from __future__ import annotations

import ast
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlite_utils import Database

from ttrl_engine.errors import DataError
from ttrl_engine.problems import Problem, ProblemSet
from worker.schema import migrate, migrations
from worker.store import Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def many(store: Store) -> str:
    """60 problems; the first ten have a reference."""
    problems = tuple(Problem(f"q{i:02d}", f"What is {i} + 1?") for i in range(60))
    return store.add_problem_set(ProblemSet("sixty", "math", problems, {f"q{i:02d}": "1" for i in range(10)}), "test")


@pytest.fixture
def run_id(store: Store, many: str) -> int:
    from ttrl_engine.config import RunConfig

    run = store.submit_run(RunConfig().with_changes(**{"data.problems": f"set:{many}"}), "client", many)
    vote(store, run, 1, [f"q{i:02d}" for i in range(50)])
    return run


def vote(store: Store, run_id: int, step: int, names: Sequence[str], label: str | None = "7") -> None:
    """Rows as the recorder writes them."""
    with store.writing(run_id) as connection:
        connection.executemany(
            "INSERT INTO elections (run_id, step, problem_id, label, consensus, margin, num_rollouts, num_classes,"
            " num_unparsed, num_truncated, classes_json) VALUES (?, ?, ?, ?, 0.5, 0.1, 8, 2, 0, 0, ?)",
            [(run_id, step, name, label, json.dumps([])) for name in names],
        )


def test_twenty_are_drawn_without_replacement_of_those_that_voted_and_have_no_reference(store: Store, run_id: int):
    check = store.draw_spot_check(run_id)
    assert len(set(check.problem_ids)) == 20
    assert check.num_eligible == 40
    assert set(check.problem_ids) <= {f"q{i:02d}" for i in range(10, 50)}
    assert store.spot_check(run_id) == check


def test_the_draw_follows_from_the_seed_of_the_run_and_the_next_is_another(store: Store, run_id: int, many: str):
    first, second = store.draw_spot_check(run_id), store.draw_spot_check(run_id)
    assert (first.number, second.number, second.seed - first.seed) == (1, 2, 1)
    assert first.problem_ids != second.problem_ids
    run = store.run(run_id)
    assert run is not None
    twin = store.submit_run(run.config, "twin", many)
    vote(store, twin, 1, [f"q{i:02d}" for i in range(50)])
    assert store.draw_spot_check(twin).problem_ids == first.problem_ids


def test_every_problem_is_drawn_equally_often(store: Store, run_id: int):
    drawn = [name for _ in range(200) for name in store.draw_spot_check(run_id).problem_ids]
    counts = [drawn.count(f"q{i:02d}") for i in range(10, 50)]
    # 200 draws of 20 of 40: 100 each, with a standard deviation of 7.1
    assert min(counts) > 70
    assert max(counts) < 130


def test_nothing_is_drawn_where_no_vote_was_held(store: Store, many: str):
    from ttrl_engine.config import RunConfig

    silent = store.submit_run(RunConfig().with_changes(**{"data.problems": f"set:{many}"}), "silent", many)
    with pytest.raises(DataError, match="Wait for the first vote"):
        store.draw_spot_check(silent)
    assert store.spot_check(silent) is None


def test_verdicts_are_kept_in_order_and_the_last_can_be_taken_back(store: Store, run_id: int):
    check = store.draw_spot_check(run_id)
    one, two = check.problem_ids[:2]
    before = store.change_token(run_id)
    store.say_spot_verdict(check, one, 1, "answer", "8")
    store.say_spot_verdict(check, two, 1, "wrong", "7")
    assert store.change_token(run_id) != before, "another tab would not see it"
    assert [(each.problem_id, each.said, each.text) for each in store.spot_verdicts(check.id)] == [
        (one, "answer", "8"),
        (two, "wrong", "7"),
    ]
    taken = store.undo_spot_verdict(check)
    assert taken is not None
    assert taken.problem_id == two
    assert [each.problem_id for each in store.spot_verdicts(check.id)] == [one]
    store.undo_spot_verdict(check)
    assert store.undo_spot_verdict(check) is None


def test_what_cannot_be_an_answer_is_refused_with_the_next_step(store: Store, run_id: int):
    check = store.draw_spot_check(run_id)
    for text, why in ((" ", "empty"), ("9" * 401, "only the final answer"), ("\ud800", "Unicode")):
        with pytest.raises(DataError, match=why):
            store.say_spot_verdict(check, check.problem_ids[0], 1, "answer", text)
    with pytest.raises(DataError, match="not among those"):
        store.say_spot_verdict(check, "q00", 1, "answer", "1")
    assert store.spot_verdicts(check.id) == []


def test_labels_are_read_newest_per_problem_and_step_by_step(store: Store, run_id: int):
    vote(store, run_id, 2, ["q10", "q11"], label=None)
    newest = {each.problem_id: (each.step, each.label) for each in store.newest_labels(run_id)}
    assert len(newest) == 50
    assert (newest["q10"], newest["q12"]) == ((2, None), (1, "7"))
    history = store.label_history(run_id, ["q10", "q12"])
    assert [(each.step, each.problem_id) for each in history] == [(1, "q10"), (1, "q12"), (2, "q10")]


def test_a_verdict_never_becomes_a_reference_or_a_setting(store: Store, run_id: int, many: str):
    before, run = store.load_problem_set(many), store.run(run_id)
    check = store.draw_spot_check(run_id)
    for name in check.problem_ids:
        store.say_spot_verdict(check, name, 1, "answer", "1")
    after = store.run(run_id)
    assert run is not None
    assert after is not None
    assert store.load_problem_set(many) == before, "what the engine is given"
    assert (after.config_json, after.data_hash) == (run.config_json, run.data_hash)
    assert store.metric_series(run_id, ["label_accuracy"]) == {"label_accuracy": []}


def test_no_code_that_trains_or_records_knows_of_spot_checks():
    """Neither the engine nor the worker's processes, bar the store that keeps them."""
    allowed = {"worker/store/spot_checks.py", "worker/store/__init__.py", "worker/rows.py", "worker/schema.py"}
    for layer in ("ttrl_engine", "worker"):
        for path in sorted((ROOT / layer).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            if place in allowed:
                continue
            tree = ast.parse(path.read_text())
            names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            names |= {each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names}
            texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            assert not any("spot" in name.lower() for name in names), place
            assert not any("spot_checks" in text or "spot_verdicts" in text for text in texts), place


def test_a_data_folder_of_an_older_release_gains_the_tables(tmp_path: Path):
    database = tmp_path / "app.db"
    db = Database(sqlite3.connect(database))
    migrations.apply(db, stop_before="m_spot_checks")
    db.close()
    migrate(database)
    assert Store(tmp_path).spot_check(1) is None
