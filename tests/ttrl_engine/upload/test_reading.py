"""Files of every kind, whole and broken, become tables or clear errors."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Sequence

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl_engine.errors import DataError
from ttrl_engine.upload import FORMATS, guess_mapping, read_table, validate

ROWS = [
    {"id": "a", "problem": "What is 1 + 1, then?", "answer": "2"},
    {"id": "b", "problem": "Half of π\nin digits", "answer": "1.57"},
]


def as_csv(delimiter: str) -> bytes:
    """ROWS under a header, every cell quoted."""
    lines = [delimiter.join(f'"{cell}"' for cell in cells) for cells in (ROWS[0], *(row.values() for row in ROWS))]
    return "\r\n".join(lines).encode()


def as_parquet(table: pa.Table) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def as_xlsx(*rows: Sequence[object]) -> bytes:
    """A workbook whose first sheet has these rows."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


FILES = {
    "a.csv": as_csv(","),
    "semicolon.csv": as_csv(";"),
    "a.tsv": as_csv("\t"),
    "list.json": json.dumps(ROWS).encode(),
    "object.json": json.dumps({"version": 1, "problems": ROWS}).encode(),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
    "byid.json": json.dumps({row["id"]: {"problem": row["problem"], "answer": row["answer"]} for row in ROWS}).encode(),
    "a.jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "lines.json": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "a.parquet": as_parquet(pa.Table.from_pylist(ROWS)),
    "a.xlsx": as_xlsx(list(ROWS[0]), *(list(row.values()) for row in ROWS)),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_rows(name):
    table = read_table(FILES[name], name)
    assert [{key: row[key] for key in ROWS[0]} for row in table.rows] == ROWS
    assert list(table.row_numbers) == [1, 2]
    assert table.format in FORMATS
    assert table.warnings == ()


def test_a_path_reads_like_its_bytes(tmp_path):
    (tmp_path / "a.csv").write_bytes(FILES["a.csv"])
    assert read_table(tmp_path / "a.csv", "a.csv") == read_table(FILES["a.csv"], "a.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_recognised_in_its_common_encodings(encoding):
    table = read_table(FILES["a.csv"].decode().encode(encoding), "a.csv")
    assert table.columns == ("id", "problem", "answer")
    assert table.rows[1]["problem"].startswith("Half of π")


def test_another_encoding_is_never_guessed_but_can_be_chosen():
    data = "problem\nWie groß ist 1?\nUnd 2?".encode("latin-1")
    with pytest.raises(DataError, match=r"byte 16, in line 2.*UTF-8"):
        read_table(data, "a.csv")
    table = read_table(data, "a.csv", encoding="latin-1")
    assert table.rows[0]["problem"] == "Wie groß ist 1?"
    assert "latin-1" in table.warnings[0].message


def test_json_numbers_keep_their_digits_and_nested_values_become_text():
    numbers = '"answer": 0.10, "big": 12345678901234567890123'
    nested = '"list": [1, 2.50, "x"], "deep": {"truth": 7}, "no": null'
    table = read_table(f'[{{"problem": "p", {numbers}, {nested}}}]'.encode(), "a.json")
    assert table.rows[0]["answer"] == "0.10"
    assert table.rows[0]["big"] == "12345678901234567890123"
    assert table.rows[0]["list"] == '[1, 2.50, "x"]'
    assert table.rows[0]["deep.truth"] == "7"
    assert table.rows[0]["no"] == ""


def test_a_chat_prompt_gives_its_users_turn():
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]
    assert read_table(json.dumps([{"prompt": chat}]).encode(), "a.json").rows == [{"prompt": "What is 2 + 2?"}]
    assert read_table(as_parquet(pa.Table.from_pylist([{"prompt": chat}])), "a.parquet").rows == [
        {"prompt": "What is 2 + 2?"}
    ]


def test_json_strings_are_problems():
    assert read_table(b'["one?", "two?"]', "a.json").rows == [{"problem": "one?"}, {"problem": "two?"}]


def test_spreadsheet_numbers_become_text_without_a_stray_decimal():
    table = read_table(
        as_xlsx(["problem", "answer"], ["p", 42], ["q", 42.0], ["r", 0.5], [None, None], ["s", True]), "a.xlsx"
    )
    assert [row["answer"] for row in table.rows] == ["42", "42", "0.5", "true"]


def test_parquet_types_become_text():
    table = pa.table({"problem": ["p", None], "answer": pa.array([42, None], pa.int64()), "ratio": [0.25, 3.0]})
    rows = read_table(as_parquet(table), "a.parquet").rows
    assert rows == [{"problem": "p", "answer": "42", "ratio": "0.25"}, {"problem": "", "answer": "", "ratio": "3"}]


def test_plain_text_is_lines_or_blocks():
    assert [row["problem"] for row in read_table(b"one?\n\ntwo?\nthree?\n", "a.txt").rows] == ["one?", "two?\nthree?"]
    assert [row["problem"] for row in read_table(b"one?\ntwo?\r\nthree?\n", "a.txt").rows] == ["one?", "two?", "three?"]
    assert [row["problem"] for row in read_table(b"one?\n\ntwo?\n\n\nthree?", "a.txt").rows] == [
        "one?",
        "two?",
        "three?",
    ]


def test_ragged_rows_are_left_out_and_named_and_the_rest_keeps_its_numbers():
    table = read_table(b"problem,answer\none?,1\ntwo?\nthree?,3,4\nfour?,4,,\n\nfive?,5\n", "a.csv")
    assert [row["answer"] for row in table.rows] == ["1", "4", "5"]
    assert list(table.row_numbers) == [1, 4, 5]
    assert [(issue.row, issue.severity) for issue in table.warnings] == [(2, "error"), (3, "error")]
    assert "1 of 2 cells" in table.warnings[0].message
    assert validate(table, guess_mapping(table)).stats.num_left_out == 2


def test_one_column_may_hold_commas():
    table = read_table(b"problem\nWhat is 1, 2, or 3?\nAnd 4, 5?\n", "a.csv")
    assert [row["problem"] for row in table.rows] == ["What is 1, 2, or 3?", "And 4, 5?"]


def test_a_stray_quotation_mark_is_read_as_text_with_a_warning():
    table = read_table(b'problem,answer\n"A 5" pipe",3\n', "a.csv")
    assert table.rows == [{"problem": 'A 5 pipe"', "answer": "3"}]
    assert "line 2" in table.warnings[0].message


def test_a_quotation_mark_that_never_closes_names_its_line():
    with pytest.raises(DataError, match="line 3 is never closed"):
        read_table(b'problem,answer\none?,1\n"two?,2\nthree?,3\n', "a.csv")


def test_column_names_are_made_to_differ():
    table = read_table(b"problem,,problem\na,b,c\n", "a.csv")
    assert table.columns == ("problem", "column 2", "problem (2)")


def test_a_broken_line_of_json_lines_is_left_out_and_named():
    table = read_table(b'{"problem": "one?"}\n{"problem": \n\n7\n{"problem": "two?"}', "a.jsonl")
    assert [row["problem"] for row in table.rows] == ["one?", "two?"]
    assert [(issue.row, issue.severity) for issue in table.warnings] == [(2, "error"), (3, "error")]
    assert table.num_rows == 4


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.csv", "is empty"),
        (b" \n\t\n", "a.csv", "is empty"),
        (b"\xef\xbb\xbf", "a.csv", "is empty"),
        (b"problem,answer\n", "a.csv", "no rows below"),
        (b"[]", "a.json", "is empty"),
        (b"{}", "a.json", "no list of problems"),
        (b'{"a": 1', "a.json", "not valid JSON"),
        (b"[1, 2]", "a.json", "no objects and no texts"),
        (b"[" * 100_000, "a.json", "nested too deeply"),
        (b"nonsense\nmore", "a.jsonl", "No line"),
        (b"PAR1 but not really PAR1", "a.parquet", "Parquet file cannot be read"),
        (b"PK\x03\x04 but not really", "a.xlsx", "damaged"),
        (b"just text", "a.xlsx", "not a XLSX file inside"),
        (b"\xd0\xcf\x11\xe0 old", "a.xls", "Save it as .xlsx or .csv"),
        (b"problem\n\x00\x01\x02\x00\x01\x02\x00", "a.csv", "not text"),
        (b"x" * 2000, "a.csv", "at most"),
        (as_parquet(pa.table({"problem": pa.array([], pa.string())})), "a.parquet", "no rows"),
        (as_xlsx(), "a.xlsx", "is empty"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_what_cannot_be_read_says_why(data, name, message):
    limit = 1000 if len(data) == 2000 else 2**20
    with pytest.raises(DataError, match=message):
        read_table(data, name, max_bytes=limit)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    file = tmp_path / "large.csv"
    with file.open("wb") as handle:
        handle.truncate(200 * 2**20)  # sparse: nothing but its size exists
    with pytest.raises(DataError, match="200 MB; at most 64 MB"):
        read_table(file, "large.csv")


def test_too_many_rows_are_refused():
    with pytest.raises(DataError, match="200,000 rows"):
        read_table(b"problem\n" + b"x\n" * 200_001, "a.csv")
    with pytest.raises(DataError, match="200,000 rows"):
        read_table(as_parquet(pa.table({"problem": ["x"] * 200_001})), "a.parquet")


def test_small_files_that_unpack_to_much_are_refused():
    repeated = as_parquet(pa.table({"problem": ["x" * 100_000] * 2000}))
    assert len(repeated) < 300_000
    with pytest.raises(DataError, match="unpack"):
        read_table(repeated, "a.parquet", max_bytes=2**20)
    bomb = io.BytesIO(as_xlsx(["problem"], ["x"]))
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/more.xml", b"\0" * 20_000_000)
    with pytest.raises(DataError, match="unpacks to 19 MB"):
        read_table(bomb.getvalue(), "a.xlsx", max_bytes=2**20)


def check_is_table_or_data_error(data: bytes, name: str) -> None:
    """Reading gives whole rows or a DataError with a message, and whatever is read can be validated."""
    with contextlib.suppress(DataError):
        table = read_table(data, name)
        assert all(set(row) == set(table.columns) for row in table.rows)
        assert validate(table, guess_mapping(table)).stats.num_rows == table.num_rows


@given(st.text(max_size=300), st.sampled_from(["a.csv", "a.json", "a.jsonl", "a.txt", "a"]))
def test_any_text_is_a_table_or_a_data_error(text, name):
    check_is_table_or_data_error(text.encode("utf-8", "replace"), name)


@given(st.binary(max_size=300), st.sampled_from([f"a.{ending}" for ending in (*FORMATS, "bin")]))
def test_any_bytes_are_a_table_or_a_data_error(data, name):
    check_is_table_or_data_error(data, name)


@given(st.text(alphabet='a,;\t"\n\r\x00 1', max_size=60))
def test_any_scramble_of_delimiters_and_quotes_is_a_table_or_a_data_error(text):
    check_is_table_or_data_error(text.encode(), "a.csv")


def test_a_long_cell_and_old_line_ends_are_read():
    table = read_table(b"problem,answer\r" + b"x" * 150_000 + b",1\ry,2\r", "a.csv")
    assert [len(row["problem"]) for row in table.rows] == [150_000, 1]
