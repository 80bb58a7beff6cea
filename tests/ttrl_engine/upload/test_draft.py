"""What an upload becomes, and what is said about each of its rows."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from ttrl_engine.config import AnswerConfig
from ttrl_engine.problems import Problem
from ttrl_engine.upload import ColumnMapping, Issue, Table, guess_answers, guess_mapping, read_table, validate


def table_of(*rows: dict[str, str]) -> Table:
    """A table as a JSON file with these rows gives it."""
    return read_table(json.dumps(rows).encode(), "a.json")


def draft_of(*rows: dict[str, str], **options):
    """The draft of such a table with its columns guessed."""
    table = table_of(*rows)
    return validate(table, guess_mapping(table), **options)


def said(draft) -> list[tuple[int | None, str]]:
    """(row, severity) of every issue."""
    return [(issue.row, issue.severity) for issue in draft.issues]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("id", "problem", "answer", "level", "subject"), ("problem", "answer", "id", None)),
        (("question", "solution", "answer"), ("question", "answer", None, None)),
        (("question", "solution"), ("question", "solution", None, None)),
        (("unique_id", "Prompt", "Final Answer"), ("Prompt", "Final Answer", "unique_id", None)),
        (("idx", "input", "target"), ("input", "target", "idx", None)),
        (("text", "label"), ("text", "label", None, None)),
        (
            ("prompt", "reward_model.style", "reward_model.ground_truth"),
            ("prompt", "reward_model.ground_truth", None, None),
        ),
        (("question", "choices", "answer"), ("question", "answer", None, "choices")),
        (("question", "A", "B", "C", "D", "answer"), ("question", "answer", None, "A, B, C, D")),
        (("question", "option_1", "option_2", "correct"), ("question", "correct", None, "option_1, option_2")),
        (("foo", "bar"), ("bar", None, None, None)),
    ],
)
def test_columns_are_recognised_by_their_names(columns, expected):
    row = {column: "a text that is longer" if column == "bar" else "7" for column in columns}
    mapping = guess_mapping(table_of(row))
    assert (mapping.problem, mapping.answer, mapping.id, mapping.choices) == expected


def test_a_clean_file_has_no_issues():
    draft = draft_of(
        {"id": "a", "problem": "1 + 1?", "answer": "2"}, {"id": "b", "problem": "2 + 2?", "answer": "4"}, name="sums"
    )
    assert draft.issues == ()
    assert draft.problem_set is not None
    assert draft.problem_set.name == "sums"
    assert draft.problem_set.problems == (Problem("a", "1 + 1?"), Problem("b", "2 + 2?"))
    assert dict(draft.problem_set.references) == {"a": "2", "b": "4"}
    assert (draft.stats.num_rows, draft.stats.num_problems, draft.stats.num_references) == (2, 2, 2)
    assert (draft.stats.length_min, draft.stats.length_median, draft.stats.length_max) == (6, 6.0, 6)


def test_rows_without_text_or_with_too_much_are_left_out_and_named():
    draft = draft_of({"problem": "a?"}, {"problem": " \n"}, {"problem": "x" * 20_001}, {"problem": "b?"})
    assert said(draft) == [(2, "error"), (3, "error")]
    assert [problem.id for problem in draft.problem_set.problems] == ["row-1", "row-4"]
    assert (draft.stats.num_left_out, draft.stats.num_problems) == (2, 2)


def test_duplicates_are_kept_once_and_named():
    draft = draft_of(
        {"problem": "1 + 1?", "answer": ""},
        {"problem": " 1  +\n1? ", "answer": "2"},
        {"problem": "1 + 1?", "answer": "3"},
        {"problem": "x?"},
    )
    assert said(draft) == [(3, "warning"), (None, "info"), (2, "info")]
    assert draft.stats.num_duplicates == 2
    assert dict(draft.problem_set.references) == {"row-1": "2"}


def test_a_repeated_id_is_replaced_by_the_row():
    draft = draft_of({"id": "a", "problem": "x?"}, {"id": "a", "problem": "y?"}, {"id": "", "problem": "z?"})
    assert [problem.id for problem in draft.problem_set.problems] == ["a", "row-2", "row-3"]
    assert said(draft) == [(2, "warning")]


def test_control_characters_are_removed_with_a_warning():
    draft = draft_of({"problem": "a\x00b\x1b[31m\tc\nd"}, {"problem": "x"})
    assert draft.problem_set.problems[0].prompt == "ab[31m\tc\nd"
    assert said(draft) == [(1, "warning")]


def test_a_prompt_that_states_its_reference_is_pointed_out():
    draft = draft_of(
        {"problem": "What is 1 + 1? Answer: 2", "answer": "2"},
        {"problem": "What is 1 + 1? The answer is 25.", "answer": "2"},
        {"problem": r"Show \boxed{7}", "answer": "7"},
        {"problem": "Is 2 the answer?", "answer": "2"},
    )
    assert [row for row, _ in said(draft)] == [1, 3]


def test_worked_solutions_give_their_final_answer():
    draft = draft_of(
        {"question": "a?", "answer": "We add.\n#### 42"},
        {"question": "b?", "answer": r"So \boxed{\frac{1}{2}} it is."},
        {"question": "c?", "answer": "7"},
    )
    assert list(draft.problem_set.references.values()) == ["42", r"\frac{1}{2}", "7"]


def test_a_mapping_without_problems_says_so():
    table = table_of({"number": "7"})
    for mapping, message in [
        (ColumnMapping(None), "No column"),
        (ColumnMapping("gone"), "no column 'gone'"),
        (ColumnMapping("number", "no"), "'no'"),
    ]:
        draft = validate(table, mapping)
        assert draft.problem_set is None
        assert message in draft.issues[0].message


def test_a_column_with_no_text_is_one_error():
    draft = draft_of({"problem": "", "answer": "1"}, {"problem": " ", "answer": "2"})
    assert draft.problem_set is None
    assert [(issue.row, issue.severity) for issue in draft.issues] == [(None, "error")]
    assert "no text" in draft.issues[0].message


def test_a_fault_in_every_row_stays_readable():
    draft = draft_of(*({"problem": f"x{i}\x00"} for i in range(5000)))
    assert len(draft.issues) < 40
    assert Issue(None, "warning", "4,985 more rows: control characters removed.") in draft.issues


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["1", "2.5", "-3", "1,000"], "number"), (["1", r"\frac{1}{2}"], "math"), (["x+1", "3"], "math"), (["A", "C",
         "(B)"], "choice"),
        ([], "math"), (["Paris"], "text"), (["50%", "$3"], "number"), (["yes", "No", "yes"], "decision"),
        (["True", "false"], "decision"),
        (["New York", "Lima", "Rome", r"\frac{1}{2}"], "math"), (["left", "right"] * 4, "decision"),
        (["left", "right"], "text"), (["x", "y"], "math"), (["x+1", "no solution"], "math"),
    ],
)  # fmt: skip
def test_the_kind_follows_from_the_references(answers, kind):
    problems = [Problem(str(i), "What?") for i in range(len(answers))]
    assert guess_answers(problems, {str(i): answer for i, answer in enumerate(answers)}).kind == kind


def test_the_kind_follows_from_options_where_there_are_no_references():
    assert guess_answers([Problem("1", "Which?", ("a", "b"))], {}).kind == "choice"
    assert guess_answers([Problem("1", "Which?\nA. red\nB. green")], {}).kind == "choice"
    assert guess_answers([Problem("1", "A man has 3 hats. How many?")], {}).kind == "math"


def test_a_kind_that_is_chosen_is_kept_and_references_it_cannot_read_are_named():
    draft = draft_of(
        {"problem": "a?", "answer": "x+1"}, {"problem": "b?", "answer": "4"}, answers=AnswerConfig(kind="number")
    )
    assert draft.problem_set.kind == "number"
    assert said(draft) == [(1, "warning")]


@pytest.mark.parametrize(
    "cell",
    [
        '["red", "green"]',
        "['red', 'green']",
        "red|green",
        "red\ngreen",
        "A. red\nB. green",
        '{"A": "red", "B": "green"}',
        "red; green",
    ],
)
def test_options_are_read_from_the_ways_tables_hold_them(cell):
    draft = draft_of({"question": "Which?", "choices": cell, "answer": "B"})
    assert draft.problem_set.problems[0].choices == ("red", "green")
    assert draft.problem_set.kind == "choice"


def test_options_in_columns_of_their_own_are_read():
    draft = draft_of(
        {"question": "Which?", "A": "red", "B": "green", "C": "", "answer": "green"},
        {"question": "And?", "A": "1", "B": "2", "C": "3"},
    )
    assert [problem.choices for problem in draft.problem_set.problems] == [("red", "green"), ("1", "2", "3")]


def test_references_that_count_the_options_become_letters():
    rows = [{"question": f"Which {i}?", "choices": "red|green|blue", "answer": str(i)} for i in range(3)]
    assert list(draft_of(*rows).problem_set.references.values()) == ["A", "B", "C"]
    counted_from_one = [{**row, "answer": str(i + 1)} for i, row in enumerate(rows)]
    assert list(draft_of(*counted_from_one).problem_set.references.values()) == ["A", "B", "C"]
    unclear = draft_of(*rows[1:2])
    assert list(unclear.problem_set.references.values()) == ["1"]
    assert "not clear" in " ".join(issue.message for issue in unclear.issues)


def test_the_histogram_counts_every_prompt_in_even_bins():
    draft = draft_of(*({"problem": "x" * length} for length in (1, 5, 30, 30 + 170, 399)))
    assert sum(count for _, _, count in draft.stats.histogram) == draft.stats.num_problems == 5
    edges = [(low, high) for low, high, _ in draft.stats.histogram]
    assert edges[0] == (0, 20)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    assert len(edges) <= 20


def test_a_hundred_thousand_rows_are_taken_within_seconds():
    data = "id,problem,answer\n" + "".join(
        f'{i},"What is {i} + {i % 97}, exactly?",{i + i % 97}\n' for i in range(100_000)
    )
    start = time.process_time()
    table = read_table(data.encode(), "a.csv")
    draft = validate(table, guess_mapping(table))
    assert draft.stats.num_problems == draft.stats.num_references == 100_000
    assert draft.issues == ()
    assert time.process_time() - start < 10
