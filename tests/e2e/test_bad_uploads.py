"""A bad file gives a message that names what is wrong and where, or is taken; nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e


def write(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def test_an_empty_file_is_refused(upload: Any, tmp_path: Path):
    page = upload(write(tmp_path, "empty.csv", b""))
    expect(page.locator("#upload-message")).to_contain_text("The file is empty")


def test_200_mb_are_refused_before_they_are_sent(upload: Any, tmp_path: Path):
    file = tmp_path / "huge.csv"
    with file.open("wb") as out:
        out.truncate(200 * 2**20)
    page = upload(file)
    expect(page.locator("#too-large")).to_contain_text("huge.csv is too large")


def test_another_encoding_is_named_and_can_be_chosen(upload: Any, tmp_path: Path):
    content = "problem,answer\nWie groß ist 3+4?,7\nWie groß ist 2+2?,4\n".encode("cp1252")
    page = upload(write(tmp_path, "latin.csv", content))
    expect(page.locator("#draft-preview")).to_contain_text("not valid UTF-8: byte 23, in line 2")
    page.get_by_role("combobox", name="Text encoding").click()
    page.get_by_role("option", name="Western European (Windows-1252)").click()
    expect(page.locator("#draft-preview")).to_contain_text("Wie groß ist 3+4?")
    expect(page.get_by_role("button", name="Save 2 problems")).to_be_enabled()


def test_ragged_rows_are_named_and_the_others_taken(upload: Any, tmp_path: Path):
    page = upload(write(tmp_path, "ragged.csv", b"problem,answer\nOne 1+1?,2\nTwo,4,extra,more\nThree 3+3?,6\nlone\n"))
    report = page.locator("#draft-report")
    expect(report).to_contain_text("Row 2 has 4 cells where the header has 2")
    expect(report).to_contain_text("Row 4 has 1 of 2 cells")
    expect(page.get_by_role("button", name="Save 2 problems")).to_be_enabled()


def test_a_column_without_text_cannot_be_saved(upload: Any, tmp_path: Path):
    page = upload(write(tmp_path, "blank.csv", b"problem,answer\n,1\n,2\n"))
    expect(page.locator("#draft-report")).to_contain_text("has no text in any row")
    expect(page.get_by_role("button", name="Nothing can be saved yet")).to_be_disabled()


def test_duplicates_and_long_prompts_are_named(upload: Any, tmp_path: Path):
    content = "problem\nWhat is 1+1?\nWhat is 1+1?\n" + "x" * 30_000 + "\nWhat is 2+2?\n"
    page = upload(write(tmp_path, "mixed.csv", content.encode()))
    report = page.locator("#draft-report")
    expect(report).to_contain_text("Row 2 repeats row 1; it is kept once.")
    expect(report).to_contain_text("Row 3 has 30,000 characters, more than 20,000")
    expect(page.get_by_role("button", name="Save 2 problems")).to_be_enabled()


def test_100_000_rows_are_taken(upload: Any, tmp_path: Path, page: Page):
    rows = "".join(f"What is {i} + {i + 1}?,{2 * i + 1}\n" for i in range(100_000))
    upload(write(tmp_path, "many.csv", f"problem,answer\n{rows}".encode()))
    page.get_by_role("button", name="Save 100,000 problems").click()
    expect(page.locator("#problem-count")).to_contain_text("Problems 1 to 50 of 100,000", timeout=60_000)


def test_a_hostile_file_stays_text(upload: Any, tmp_path: Path, page: Page):
    attack = '<img src=x onerror="window.pwned=1">'
    content = f"problem,answer\n\"{attack.replace(chr(34), chr(34) * 2)} 1+1?\",2\n=cmd|'/c calc'!A1 2+2?,4\n"
    upload(write(tmp_path, "<img src=x onerror=window.pwned=1>.csv", content.encode()))
    expect(page.locator("#draft-preview")).to_contain_text(attack)
    page.get_by_role("button", name="Save 2 problems").click()
    expect(page.locator("#problems")).to_contain_text(attack)
    assert page.evaluate("window.pwned") is None


def test_a_draft_survives_a_reload(upload: Any, sums_csv: Path, page: Page):
    upload(sums_csv)
    expect(page).to_have_url(re.compile("draft="))
    page.get_by_label("Name").last.fill("Named before the reload")
    page.wait_for_timeout(800)
    page.reload()
    expect(page.locator("#draft-name")).to_have_count(1)
    expect(page.get_by_label("Name").last).to_have_value("Named before the reload")


def test_latex_is_drawn_on_every_page_of_a_set(upload: Any, tmp_path: Path, page: Page):
    rows = "".join(
        f'{{"problem": "Find $\\\\frac{{{n}}}{{7}}$ as a price: $5 or $6?", "answer": "\\\\frac{{{n}}}{{7}}"}}\n'
        for n in range(1, 121)
    )
    upload(write(tmp_path, "tex.jsonl", rows.encode()))
    expect(page.locator("#draft-preview")).to_contain_text("reference, never used for training")
    page.get_by_role("button", name="Save 120 problems").click()
    for first, last in ((1, 50), (51, 100), (101, 120)):
        expect(page.locator("#problem-count")).to_contain_text(f"Problems {first} to {last} of 120")
        expect(page.locator("#problems .katex-html")).to_have_count(last - first + 1)
        expect(page.locator("#problems")).to_contain_text("as a price: $5 or $6?")
        if last < 120:
            page.get_by_role("button", name="Next").click()
    expect(page.locator(".problem-answer")).to_have_count(0)
    page.get_by_label("Show reference answers").check()
    expect(page.locator(".problem-answer")).to_have_count(20)
    page.reload()
    expect(page.locator("#problem-count")).to_contain_text("Problems 101 to 120 of 120")
