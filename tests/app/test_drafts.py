from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.drafts import DraftShelf, shown_name
from ttrl_engine.errors import DataError
from ttrl_engine.upload import ColumnMapping

CSV = b"question,answer\nWhat is 1+1?,2\nWhat is 2+2?,4\n"


@pytest.fixture
def shelf(tmp_path: Path) -> DraftShelf:
    return DraftShelf(tmp_path, 1_000_000)


def test_a_draft_is_found_again_by_another_process(shelf: DraftShelf):
    token = shelf.add(CSV, "sums.csv")
    shelf.choose(token, replace(shelf.choices(token), name="Mine", mapping=ColumnMapping("question", None)))
    again = DraftShelf(shelf.folder, 1_000_000)
    _, mapping, draft = again.draft(token, again.choices(token))
    assert mapping == ColumnMapping("question", None)
    assert draft.problem_set is not None
    assert (draft.problem_set.name, draft.problem_set.num_references) == ("Mine", 0)


@pytest.mark.parametrize("token", ["", "..", "../../etc", "a" * 32, "A" * 32, "0" * 31 + "/"])
def test_only_tokens_of_ours_are_looked_up(shelf: DraftShelf, token: str):
    assert not shelf.has(token)
    shelf.drop(token)


def test_a_file_name_is_never_a_path(shelf: DraftShelf):
    token = shelf.add(CSV, "../../../etc/passwd\x00<b>.csv")
    assert shelf.choices(token).filename == "passwd<b>.csv"
    assert {path.name for path in shelf.folder.rglob("*")} == {token, "raw", "draft.json"}


def test_another_encoding_reads_the_file_anew(shelf: DraftShelf):
    token = shelf.add("problem\nWie groß ist 1+1?\nWie groß ist 2+2?\n".encode("cp1252"), "x.csv")
    with pytest.raises(DataError, match="UTF-8"):
        shelf.table(token)
    shelf.choose(token, replace(shelf.choices(token), encoding="cp1252"))
    assert shelf.table(token).rows[0]["problem"] == "Wie groß ist 1+1?"


def test_a_dropped_draft_leaves_nothing(shelf: DraftShelf):
    token = shelf.add(CSV, "sums.csv")
    shelf.drop(token)
    assert not shelf.has(token)
    assert list(shelf.folder.iterdir()) == []


def test_shown_names_are_short_and_printable():
    assert shown_name("C:\\Users\\me\\a.csv") == "a.csv"
    assert shown_name("\n\x00") == "upload"
    assert len(shown_name("x" * 500)) == 200
