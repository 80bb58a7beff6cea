from __future__ import annotations

import pytest

from app.mathtext import answer_html, math_html


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("What is $x+1$?", "What is \\(x+1\\)?"),
        ("\\[a\n\n=b\\]", "\\[a =b\\]"),
        ("$$a<b$$", "\\[a&lt;b\\]"),
        ("\\begin{align*}a&=b\\end{align*}", "\\[\\begin{align*}a&amp;=b\\end{align*}\\]"),
    ],
)
def test_formulas_get_the_delimiters_that_pages_draw(text: str, drawn: str):
    assert math_html(text) == drawn


@pytest.mark.parametrize("text", ["It costs $5 and $6.", "a $ b $ c", "\\$7 or \\$8", "50$"])
def test_prices_are_no_formulas(text: str):
    assert "\\(" not in math_html(text)


def test_text_is_escaped_and_holds_no_blank_line():
    drawn = math_html("<img src=x onerror=alert(1)>\n\n\n**bold** $a$\r\n\r\nend")
    assert "<img" not in drawn
    assert "\n" not in drawn


def test_a_lone_opener_cannot_begin_a_formula():
    assert "\\(" not in math_html("a \\( b")


def test_a_table_is_drawn_as_an_array_of_text():
    drawn = math_html("\\begin{tabular}[t]{|l|c|}\\hline A & $4\\%$ \\\\ \\hline\\end{tabular}")
    assert "\\begin{array}{|l|c|}" in drawn
    assert "\\text{A}" in drawn
    assert "\\text{$4\\%$}" in drawn


def test_long_text_is_cut():
    assert len(math_html("x" * 30_000)) < 21_000


def test_a_bare_answer_is_drawn_as_a_formula_only_if_it_looks_like_one():
    assert answer_html("\\frac{14}{3}") == "\\(\\frac{14}{3}\\)"
    assert answer_html("<b>42</b>") == "&lt;b&gt;42&lt;/b&gt;"
