"""Changes of pseudo-labels as the store finds them."""

from __future__ import annotations

import time

import pytest

from worker.rows import LabelFlipCounts, LabelFlipRow
from worker.store import Store

Vote = tuple[str | None, bool | None]

VOTES: dict[str, list[Vote]] = {
    "p0": [("1", True), ("2", False), ("1", True)],
    "p1": [("5", False), (None, False), ("2", True)],
    "p2": [("5", False), ("6", False), ("6", False)],
    "p3": [("1", None), ("2", None), ("2", None)],
    "p4": [("1/2", True), ("0.5", True), ("0.5", True)],
}


def _hold(store: Store, run_id: int, votes: dict[str, list[Vote]]) -> None:
    with store.writing(run_id) as connection:
        connection.executemany(
            "INSERT INTO elections VALUES (?, ?, ?, ?, NULL, ?, 0.2, 64, 4, 1, 0, '[]', 0.5, ?, 0.9, 0.4)",
            [
                (run_id, step, name, label, 0.4 + step / 10, None if correct is None else int(correct))
                for name, held in votes.items()
                for step, (label, correct) in enumerate(held, 1)
            ],
        )


@pytest.fixture
def run_id(store: Store, submit) -> int:
    held = submit()
    _hold(store, held, VOTES)
    return int(held)


def test_each_change_is_told_once_with_what_it_did(store: Store, run_id: int):
    found = {(row.problem_id, row.step): row for row in store.label_flips(run_id)}
    assert {key: row.kind for key, row in found.items()} == {
        ("p0", 2): "harm",
        ("p0", 3): "rescue",
        ("p1", 3): "rescue",
        ("p2", 2): "both_wrong",
        ("p3", 2): "unknown",
        ("p4", 2): "both_right",
    }
    # The abstention at step 2 is passed over: the label before is that of step 1.
    assert found["p1", 3] == LabelFlipRow("p1", "What is 1 + 1?", 1, 3, "5", "2", 0.5, 0.7, "rescue")


def test_the_net_is_rescues_minus_harm_and_unknown_without_references(store: Store, run_id: int, submit):
    counts = store.label_flip_counts(run_id)
    assert (counts.rescue, counts.harm, counts.both_wrong, counts.both_right, counts.unknown) == (2, 1, 1, 1, 1)
    assert (counts.total, counts.net) == (6, 1)
    other = submit()
    _hold(store, other, {"p3": VOTES["p3"]})
    assert store.label_flip_counts(other).net is None
    assert store.label_flip_counts(submit()) == LabelFlipCounts()


def test_the_ledger_is_filtered_paged_and_searched_literally(store: Store, run_id: int):
    assert [(row.step, row.problem_id) for row in store.label_flips(run_id, 1, 2)] == [(3, "p1"), (2, "p0")]
    assert [row.step for row in store.label_flips(run_id, kind="rescue")] == [3, 3]
    assert [row.problem_id for row in store.label_flips(run_id, query="is 2 +")] == ["p2"]
    assert store.label_flip_counts(run_id, "is 2 +") == LabelFlipCounts(both_wrong=1)
    assert store.label_flips(run_id, query="%") == []
    rows = [row for batch in store.label_flip_rows(run_id, batch=4) for row in batch]
    assert len(rows) == 6
    assert rows[0] == ("p0", 1, 2, "1", "2", 0.5, pytest.approx(0.6), "harm")


def test_the_overview_and_the_ledger_count_the_same_changes(store: Store, run_id: int):
    assert sum(row.flips for row in store.problem_overview(run_id)) == store.label_flip_counts(run_id).total
    assert [row.idx for row in store.problem_overview(run_id)] == [0, 1, 2, 3, 4]


def test_the_mark_of_the_elections_changes_with_them_only(store: Store, run_id: int):
    before = store.elections_mark(run_id)
    with store.writing(run_id) as connection:
        connection.execute("INSERT INTO metrics (run_id, step, name, value) VALUES (?, 9, 'loss', 1.0)", (run_id,))
    assert store.elections_mark(run_id) == before
    _hold(store, run_id, {"p5": [("1", None)] * 4})
    assert store.elections_mark(run_id) != before


def test_a_ledger_of_a_large_run_is_read_in_a_fraction_of_a_second(store: Store, submit):
    run_id = int(submit())
    held: dict[str, list[Vote]] = {
        f"q{problem}": [(str((step * (problem + 1)) % 3), step % 2 == 0) for step in range(150)]
        for problem in range(500)
    }
    _hold(store, run_id, held)
    began_s = time.perf_counter()
    counts = store.label_flip_counts(run_id)
    page = store.label_flips(run_id)
    took_s = time.perf_counter() - began_s
    assert counts.total > 20_000
    assert len(page) == 50
    # Alone it takes less than 0.3 s; the bar leaves room for a busy machine.
    assert took_s < 3.0, took_s
