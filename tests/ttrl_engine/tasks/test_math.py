"""Which mathematical answers are one answer, and which are not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttrl_engine.problems import Problem
from ttrl_engine.tasks import get_task
from ttrl_engine.tasks.math import math_key

TASK = get_task("math")
PROBLEM = Problem("p", "What is it?")

SAME = [
    (r"\frac{1}{2}", r"\dfrac{1}{2}", r"\frac12", "1/2", "0.5", ".5", "0.50", "$0.5$", r"\left(\frac{1}{2}\right)",
     "½"),
    ("25", "025", "25.0", "25.", "+25", r"\text{25}", r"\boxed{25}", r"\(25\)", r"25\text{ cm}", "25 apples", "x = 25"),
    ("25 ", r"25\,\text{cm}^2", "n=25", "25%", r"25\%", r"\$25", "25°", r"25^\circ", r"25^{\circ}", "**25**", "２５"),
    ("1234567", "1,234,567", r"1,\!234,\!567", "1{,}234{,}567", r"1\,234\,567"),
    ("-3", "−3", "- 3", r"x=-3", r"\frac{-6}{2}", r"-\frac{6}{2}", r"\frac{6}{-2}", "-6/2"),
    (r"1\frac{4}{5}", r"\frac{9}{5}", "1.8", r"1 \frac45", r"1\tfrac{4}{5}"),
    (r"3\sqrt{13}", r"3 \sqrt {13}", r"3\cdot\sqrt{13}", r"\sqrt{117}", "3*sqrt(13)", "3√13", r"\sqrt{13}\times 3"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", r"\sqrt{3}/3", r"\sqrt{\frac13}", r"\frac{\sqrt3}3"),
    ("6 - 5i", "6-5i", "-5i + 6", "6 + (-5)i", r"\text{6} - 5i"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", r"( 3 , \dfrac{\pi}{2} )", "(3, π/2)",
     r"\left(3,\tfrac12\pi\right)"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)", r"(-oo,2) U (3,oo)",
     r"\left(-\infty,2\right)∪(3,+\infty)"),
    (r"\{1, 2, 3\}", r"\{3,2,1\}", "1, 2, 3", "3, 1, 2", "1, 2 and 3", r"\left\{1,2,3\right\}", "x = 1, x = 2, x = 3",
     r"1,2,\text{ and }3"),
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}", r"\{1\pm\sqrt{19}\}", r"x = 1 \pm \sqrt{19}",
     r"1+\sqrt{19} \text{ or } 1-\sqrt{19}"),
    (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", r"\begin{bmatrix}-\frac13\\\frac23\end{bmatrix}",
     r"\begin{pmatrix}\frac{-1}{3}\\[2pt] \frac{2}{3}\end{pmatrix}"),
    ("y = 2x + 3", "2x+3", "3 + 2x", "y=3+2x", "2x + 3 = y"),
    ("5x - 7y + 11z + 4 = 0", "11z+5x-7y+4=0", "-5x+7y-11z-4=0", "0 = 5x-7y+11z+4", "5x - 7y + 11z = -4"),
    (r"x \in [-2,7]", "[-2,7]", r"\left[-2, 7\right]", "[-2, 7]."),
    ("(a+5)(b+2)", "(b+2)(a+5)", "ab+2a+5b+10", r"\left(a+5\right)\left(b+2\right)"),
    (r"\text{Evelyn}", "Evelyn", "evelyn.", r"\textbf{Evelyn}", r"\mathrm{Evelyn}"),
    (r"4210_{5}", "4210_5", r"4210_{\text{5}}"),
    (r"\text{(C)}", "C", "(C)", r"\textbf{C}"),
    (r"2^{10}", "1024", "2^10", "1{,}024"),
    ("x > 3", "3 < x", r"(3, \infty)", r"x \in (3,+\infty)"),
    (r"-1 \le x < 2", "[-1,2)", r"2 > x \ge -1"),
    (r"x < 1 \text{ or } x > 5", r"(-\infty,1)\cup(5,\infty)", "x > 5 or x < 1"),
    (r"x \ne 3", r"(-\infty,3)\cup(3,\infty)"),
    (r"\sqrt2-1", r"\frac{1}{1+\sqrt2}", r"\sqrt{3-2\sqrt2}"),
    (r"\log_2 4096", "12", r"\binom{12}{1}", r"{12 \choose 1}"),
    (r"\sin 30^\circ", r"\cos\frac{\pi}{3}", r"\tfrac12\sin(90°)", r"\frac{\sqrt{\frac14}}{1}"),
    (r"\cot x", r"\frac{\cos x}{\sin x}", r"\frac{1}{\tan x}", "cot x"),
    (r"204_5", r"204_{\text{five}}", "204 (base 5)", r"204_{(5)}", r"204 \text{ base five}"),
    (r"\frac{n(n+1)}{2}", r"\sum_{k=1}^{n} k", r"\binom{n+1}{2}\cdot 1"),
    (r"\mathbb{R}", r"(-\infty,\infty)", r"\text{all real numbers}"),
    ("30 sec", "30 seconds", r"30\text{ sec}"),
    (r"0.\overline{27}", r"\frac{3}{11}"),
    ("6xyz", "6zyx"),
    ("x^2+1", "x²+1", "1 + x^{2}"),
    ("10^{-3}", "0.001", r"1 \times 10^{-3}"),
]  # fmt: skip

DIFFERENT = [
    ("5", "-5"), ("5", "5!"), ("5", "50"), ("0.5", "5"), ("1.5", "15"), ("25", "24"), ("1/2", "2"), (r"\frac{1}{2}",
     r"\frac{2}{1}"),
    ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), ("(1,2]", "[1,2)"), ("(1,2)", r"\{1,2\}"), ("(1,2)", "1.2"), ("(1,234)",
     "1234"),
    ("52_8", "52"), ("52_8", "52_9"), ("x+1", "x-1"), ("2x+1", "x+2"), ("x^2", "2x"), ("x^2", "x^3"), ("R", "r"),
     ("a", "b"),
    (r"\sqrt{2}", "2"), (r"\sqrt{2}", "1.414"), (r"\sqrt[3]{8x}", r"\sqrt{8x}"), (r"\pi", "3.14"), (r"3\pi", r"\pi"),
    ("Evelyn", "Navin"), ("even", "odd"), (r"\infty", r"-\infty"), ("1, 2", "1, 2, 3"), ("x = 5", "x = 6"), ("3+4i",
     "3-4i"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
    ("x < 3", "x > 3"), ("x < 3", r"x \le 3"), (r"1+\sqrt{2}", r"1\pm\sqrt{2}"), (r"\sin x", r"\cos x"), (r"\sin 2x",
     r"2\sin x"),
    ("6xyz", "6"), (r"\sqrt{x^2}", "x"), ("|x|", "x"), (r"\sin 30", r"\sin 30^\circ"), (r"101_2", "5"),
    ("x > 3", r"x \ge 3"),
    ("x < 1 or x > 5", "1 < x < 5"), ("heads or tails", "tails or heads or"),
    (r"\sqrt{2}", "1.41421356237309504880168872421"),
    ("2x + 3y = 1", "3x + 2y = 1"), ("11 1", "1 11"), ("10^{20}", "10^{21}"), ("0", "00.1"), (r"\frac{x}{2}",
     r"\frac{2}{x}"),
]  # fmt: skip


@pytest.mark.parametrize("spellings", SAME, ids=lambda group: group[0])
def test_spellings_of_one_answer_share_a_key(spellings):
    keys = {spelling: math_key(spelling) for spelling in spellings}
    assert len(set(keys.values())) == 1, keys


def test_different_answers_have_different_keys():
    wrong = [pair for pair in DIFFERENT if math_key(pair[0]) == math_key(pair[1])]
    assert wrong == []


def test_no_two_groups_of_spellings_meet_unless_they_are_the_same_value():
    by_key: dict[str, list[str]] = {}
    for group in SAME:
        by_key.setdefault(math_key(group[0]), []).append(group[0])
    meeting = [group for group in by_key.values() if len(group) > 1]
    assert meeting == [[r"\frac{1}{2}", r"\sin 30^\circ"], ["25", "25 "]]


def test_percent_is_dropped_so_50_percent_is_50_and_not_one_half():
    assert TASK.equivalent(r"50\%", "50", PROBLEM)
    assert not TASK.equivalent(r"50\%", "0.5", PROBLEM)


def test_a_huge_power_is_kept_as_text_and_never_computed():
    assert math_key("9^{9^{9^{9}}}") == "text 9^{9^{9^{9}}}"
    assert math_key("10^{99999}") != math_key("10^{99998}")


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_key_and_a_bounded_display(raw):
    assert isinstance(math_key(raw), str)
    assert len(TASK.display(raw)) <= 200
    assert "\n" not in TASK.display(raw)


PIECES = st.sampled_from(
    [*"0123456789xyiabe+-*/^_(){}[],=.<> !|", r"\frac", r"\sqrt", r"\pm", r"\left", r"\{", r"\}", r"\pi", r"\cup",
    r"\text{", r"\\", "&",
     r"\begin{pmatrix}", r"\end{pmatrix}", r"\infty", r"\sin", r"\log", "and", "$", "10", "^{", "}{", "999999999"]
)  # fmt: skip


@settings(deadline=None)  # the first answer that needs a child process waits for it
@given(st.lists(PIECES, max_size=60).map("".join))
def test_any_scramble_of_mathematics_has_a_key_that_layout_does_not_change(raw):
    assert math_key(raw) == math_key(f"  {raw} ")
    assert TASK.equivalent(raw, raw, PROBLEM)


@settings(deadline=None)  # the first answer that needs a child process waits for it
@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_fractions_are_compared_by_value(numerator, denominator):
    doubled = rf"\dfrac{{{2 * numerator}}}{{{2 * denominator}}}"
    assert math_key(f"{numerator}/{denominator}") == math_key(doubled)
    assert math_key(doubled) != math_key(rf"\frac{{{numerator + 1}}}{{{denominator}}}")


@settings(deadline=None)  # the first answer that needs a child process waits for it
@given(st.lists(st.sampled_from([spelling for group in SAME for spelling in group]), min_size=3, max_size=3))
def test_sameness_is_symmetric_and_transitive(answers):
    for a, b, c in itertools.permutations(answers):
        assert TASK.equivalent(a, b, PROBLEM) == TASK.equivalent(b, a, PROBLEM)
        if TASK.equivalent(a, b, PROBLEM) and TASK.equivalent(b, c, PROBLEM):
            assert TASK.equivalent(a, c, PROBLEM)
