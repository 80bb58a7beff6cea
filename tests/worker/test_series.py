"""Metric series and elections as pages read them, and how fast."""

from __future__ import annotations

import csv
import io
import math
import time

import pytest

from worker.store import Store


def _put(store: Store, run_id: int, name: str, values: dict[int, float]) -> None:
    with store.writing(run_id) as connection:
        connection.executemany(
            "INSERT INTO metrics (run_id, step, name, value) VALUES (?, ?, ?, ?)",
            [(run_id, step, name, value) for step, value in values.items()],
        )
        connection.execute("UPDATE runs SET step = max(step, ?) WHERE id = ?", (max(values), run_id))


def test_a_short_series_comes_as_it_is(store: Store, submit):
    run_id = submit()
    _put(store, run_id, "loss", {1: 3.0, 2: 2.0, 3: math.nan})
    series = store.metric_series(run_id, ["loss", "entropy"])
    assert series == {"loss": [(1, 3.0, 3.0, 3.0), (2, 2.0, 2.0, 2.0), (3, None, None, None)], "entropy": []}
    assert store.latest_metrics(run_id) == {"loss": None}


def test_the_newest_values_of_a_run_that_was_rolled_back_are_those_of_the_step_it_went_back_to(store: Store, submit):
    run_id = submit()
    _put(store, run_id, "consensus", {1: 0.1, 2: 0.2, 5: 0.5})
    _put(store, run_id, "loss", {5: 7.0})
    with store.writing(run_id) as connection:
        connection.execute("UPDATE runs SET step = 3 WHERE id = ?", (run_id,))
    assert store.latest_metrics(run_id) == {"consensus": 0.2}
    summary = store.summaries([run_id])[run_id]
    assert (summary.consensus_first, summary.consensus_last) == (0.1, 0.2)


def test_values_at_chosen_steps_are_those_of_these_steps_alone(store: Store, submit):
    run_id = submit()
    _put(store, run_id, "consensus", {1: 0.1, 2: 0.2, 3: math.nan, 900: 0.9})
    _put(store, run_id, "loss", {2: 7.0})
    assert store.metric_at(run_id, "consensus", [900, 2, 3, 4]) == {2: 0.2, 3: None, 900: 0.9}
    assert store.metric_at(run_id, "consensus", []) == {}


@pytest.mark.parametrize(("num_steps", "max_points"), [(1000, 400), (999, 400), (1001, 10), (400, 400), (5, 1), (7, 3)])
def test_a_long_series_is_reduced_and_keeps_its_extremes(store: Store, submit, num_steps, max_points):
    run_id = submit()
    values = {step: math.sin(step) for step in range(1, num_steps + 1)}
    values[num_steps // 2] = 50.0
    _put(store, run_id, "loss", values)
    points = store.metric_series(run_id, ["loss"], max_points)["loss"]
    assert len(points) <= max_points
    assert max(point[3] or 0.0 for point in points) == 50.0
    assert min(point[2] or 0.0 for point in points) == min(values.values())
    assert [point[0] for point in points] == sorted({point[0] for point in points})


def test_points_that_were_drawn_stay_where_they_are(store: Store, submit):
    run_id = submit()
    _put(store, run_id, "loss", {step: float(step) for step in range(1, 851)})
    before = store.metric_series(run_id, ["loss"], 100)["loss"]
    _put(store, run_id, "loss", {step: float(step) for step in range(851, 891)})
    after = store.metric_series(run_id, ["loss"], 100)["loss"]
    assert after[: len(before) - 1] == before[:-1]


def test_names_are_values_and_never_sql(store: Store, submit):
    run_id = submit()
    nasty = "x'); DROP TABLE metrics; --"
    _put(store, run_id, nasty, {1: 1.0})
    assert store.metric_series(run_id, [nasty])[nasty] == [(1, 1.0, 1.0, 1.0)]
    assert store.metric_names(run_id) == [nasty]


def test_the_csv_has_a_line_per_step_and_a_gap_for_the_unknown(store: Store, submit):
    run_id = submit()
    _put(store, run_id, "loss", {1: 0.1, 2: math.nan})
    _put(store, run_id, "consensus", {2: 0.5})
    rows = list(csv.reader(io.StringIO(store.metrics_csv(run_id))))
    assert rows == [["step", "consensus", "loss"], ["1", "", "0.1"], ["2", "0.5", ""]]


def test_flips_are_counted_among_elected_labels(store: Store, submit):
    run_id = submit()
    labels: dict[str, list[str | None]] = {
        "p0": ["1", "1", "1"],
        "p1": ["1", None, "1"],
        "p2": ["1", "2", "1"],
        "p3": ["1", None, "2"],
    }
    with store.writing(run_id) as connection:
        for problem_id, votes in labels.items():
            for step, label in enumerate(votes, 1):
                _elect(connection, run_id, step, problem_id, label)
    overview = {row.problem_id: row for row in store.problem_overview(run_id)}
    assert {name: row.flips for name, row in overview.items()} == {"p0": 0, "p1": 0, "p2": 2, "p3": 1}
    assert overview["p3"].prompt == "What is 3 + 1?"
    assert (overview["p3"].first_label, overview["p3"].last_label, overview["p3"].num_elections) == ("1", "2", 3)
    assert overview["p3"].reference is None
    assert overview["p0"].reference == "1"
    assert [row.label for row in store.election_history(run_id, "p3")] == ["1", None, "2"]
    assert {row.step for row in store.elections_at(run_id)} == {3}
    assert store.elections_at(run_id, 1)[0].classes[0].answer == "12"


def test_a_page_of_a_large_run_is_read_in_well_under_a_second(store: Store, submit):
    run_id = submit()
    with store.writing(run_id) as connection:
        connection.executemany(
            "INSERT INTO metrics (run_id, step, name, value) VALUES (?, ?, ?, ?)",
            ((run_id, step, f"m{name}", step / 7) for name in range(20) for step in range(1, 5001)),
        )
        for step in range(1, 151):
            for problem in range(500):
                _elect(connection, run_id, step, f"q{problem}", str((step + problem) % 3))
    began_s = time.perf_counter()
    series = store.metric_series(run_id, [f"m{name}" for name in range(8)])
    overview = store.problem_overview(run_id)
    store.elections_at(run_id)
    store.election_history(run_id, "q7")
    store.latest_metrics(run_id)
    store.change_token(run_id)
    store.run(run_id)
    # Alone it takes about a third of a second; the bar leaves room for a busy machine.
    assert time.perf_counter() - began_s < 3.0
    assert all(0 < len(points) <= 400 for points in series.values())
    assert len(overview) == 500


def _elect(connection, run_id: int, step: int, problem_id: str, label: str | None) -> None:
    connection.execute(
        "INSERT INTO elections VALUES (?, ?, ?, ?, NULL, 0.5, 0.2, 64, 4, 1, 0, ?, 0.5, 1, 0.9, 0.4)",
        (run_id, step, problem_id, label, '[["12", 40, true], ["13", 23, false]]'),
    )
