"""Problem sets, their hash, and the split that no reference can sway."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.errors import DataError
from ttrl_engine.problems import Problem, ProblemSet, load_problem_set, split

PROBLEMS = tuple(Problem(f"p{i}", f"What is {i} + {i}?") for i in range(40))
SET = ProblemSet("sums", "number", PROBLEMS, {f"p{i}": str(2 * i) for i in range(0, 40, 2)})


def test_the_hash_covers_content_and_not_the_name():
    assert replace(SET, name="other").content_hash == SET.content_hash
    assert len(SET.content_hash) == 16
    changed = [
        replace(SET, kind="math"),
        replace(SET, references={}),
        replace(SET, references={**SET.references, "p0": "1"}),
        replace(SET, problems=PROBLEMS[::-1]),
        replace(SET, problems=(replace(PROBLEMS[0], prompt="?"), *PROBLEMS[1:])),
        replace(SET, problems=(replace(PROBLEMS[0], choices=("a", "b")), *PROBLEMS[1:])),
    ]
    assert len({SET.content_hash, *(each.content_hash for each in changed)}) == 7


def test_a_set_keeps_its_references_when_the_callers_mapping_changes():
    references = {"p0": "0"}
    problem_set = ProblemSet("s", "math", PROBLEMS, references)
    references["p1"] = "2"
    assert problem_set.num_references == 1
    with pytest.raises(TypeError):
        problem_set.references["p1"] = "2"  # type: ignore[index]  # the point of the test


def test_a_set_survives_the_way_to_another_process():
    assert pickle.loads(pickle.dumps(SET)).content_hash == SET.content_hash


def test_ids_are_unique_and_references_have_problems():
    with pytest.raises(DataError, match="same id"):
        ProblemSet("s", "math", (PROBLEMS[0], PROBLEMS[0]), {})
    with pytest.raises(DataError, match="no problem"):
        ProblemSet("s", "math", PROBLEMS, {"nowhere": "1"})


@given(st.integers(0, 2**31 - 1), st.floats(0, 0.9), st.one_of(st.none(), st.integers(3, 60)))
def test_a_split_parts_the_draw_without_overlap(seed, share, most):
    if min(most or 40, 40) * (1 - share) < 3:
        share = 0.2
    parts = split(SET, share, most, seed)
    ids = [problem.id for problem in (*parts.adapt, *parts.held_out)]
    assert len(set(ids)) == len(ids) == min(most or 40, 40)
    assert len(parts.adapt) >= 2
    assert bool(parts.held_out) == (share > 0)
    assert abs(len(parts.held_out) - share * len(ids)) <= 1


def test_the_split_depends_on_seed_and_ids_and_on_nothing_else():
    parts = split(SET, 0.25, 20, 5)
    corrupted = replace(SET, references={f"p{i}": "wrong" for i in range(40)}, problems=PROBLEMS[::-1])
    again = split(corrupted, 0.25, 20, 5)
    assert {p.id for p in again.held_out} == {p.id for p in parts.held_out}
    assert {p.id for p in again.adapt} == {p.id for p in parts.adapt}
    assert split(SET, 0.25, 20, 6) != parts


def test_both_parts_keep_the_order_of_the_set():
    parts = split(SET, 0.25, None, 1)
    for part in (parts.adapt, parts.held_out):
        assert list(part) == [problem for problem in PROBLEMS if problem in part]


def test_a_split_that_leaves_too_little_to_adapt_on_is_refused():
    two = replace(SET, problems=PROBLEMS[:2], references={})
    assert len(split(two, 0.0, None, 0).adapt) == 2
    with pytest.raises(DataError, match="at least 2"):
        split(two, 0.1, None, 0)


def test_a_file_loads_with_its_columns_guessed(tmp_path):
    file = tmp_path / "sums.csv"
    file.write_text("question,answer\nWhat is 1 + 1?,2\nWhat is 2 + 2?,4\n")
    loaded = load_problem_set(str(file))
    assert (loaded.name, loaded.kind, loaded.num_references) == ("sums", "number", 2)
    assert loaded.problems[0].prompt == "What is 1 + 1?"


def test_a_file_without_problems_says_why(tmp_path):
    file = tmp_path / "empty.csv"
    file.write_text("question,answer\n,2\n")
    with pytest.raises(DataError, match=r"empty\.csv.*no text"):
        load_problem_set(str(file))
    with pytest.raises(DataError, match="No such file"):
        load_problem_set(str(tmp_path / "missing.csv"))


def test_nothing_here_loads_torch_or_a_table_library():
    names = ["problems", "vote", "label_metrics", "reward", "stats", "metrics", "safeguards", "upload", "tasks"]
    code = (
        f"import sys; import {', '.join(f'ttrl_engine.{name}' for name in names)};"
        "print([m for m in ('torch', 'transformers', 'pandas', 'pyarrow', 'openpyxl') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
