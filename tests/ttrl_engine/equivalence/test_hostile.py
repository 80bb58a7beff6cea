"""Texts that want to run code, hang, or take all memory: none may, and every one has a reading."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ttrl_engine.equivalence import SymbolPool, child
from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.math import MathTask, math_readings
from ttrl_engine.vote import elect

MARK = "/tmp/ttrl-injected"
HOSTILE = [
    "__import__('os').system('touch /tmp/ttrl-injected')",
    "().__class__.__bases__[0].__subclasses__()",
    r"\text{__import__('os').system('touch /tmp/ttrl-injected')}",
    r"\operatorname{eval}(\text{open('/tmp/ttrl-injected','w')})",
    r"\sum_{k=1}^{__import__('os').system('touch /tmp/ttrl-injected')}k",
    r"\sum_{k=1}^{n}k; import os; os.system('touch /tmp/ttrl-injected')",
    r"\gcd(4,6).__class__",
    r"\max(1,exec('open(\'/tmp/ttrl-injected\',\'w\')'))",
    "lambda: 1", "exec('1')", "eval(1)", "open(0)", "sys.exit(1)", "quit()", "{{7*7}}", "${7*7}", "#{7*7}", "%s%s%n",
    "9^{9^{9^{9}}}", "9^9^9^9", "2^{99999999}", "10^{9999}!", "99999999!", "((((9!)!)!)!)", r"\binom{10^9}{5\cdot10^8}",
    r"\binom{9999}{4999}", "9999!", r"e^{e^{e^{e^{9}}}}", r"\exp(\exp(\exp(\exp(9))))", r"\tan(\exp(\exp(\exp(5))))",
    "{" * 100 + "1" + "}" * 100, "(" * 90 + "1" + ")" * 90, "|" * 100, r"\sqrt{" * 60 + "2" + "}" * 60,
    r"\frac{1}{" * 20 + "2" + "}" * 20, "x^" * 60 + "x", "-" * 190 + "1", "1+" * 90 + "1", "x_" * 60 + "1",
    "(x+1)^{9999}", "(a+b+c+d+e+f)^{99}", "1" * 190, "0." + "0" * 180 + "1", r"0.\overline{" + "1" * 20 + "}",
    r"\sum_{k=1}^{9999999999}\sin(k^k)", r"\prod_{k=1}^{10^{9}}k", r"\int_0^1\sin(x^{x})\cos(e^{x^{7}})dx",
    r"\lim_{x\to\infty}x^{x^{x}}", r"\int\int\int\sin(x^y)\cos(y^z)dxdydz", r"\frac{1}{0}", "0^0", r"\log_1 5",
    r"\ln 0",
    r"\sqrt[0]{2}", r"\sqrt[x]{x}", "i^i", "i^{i^{i}}", r"\sin^{-1} 5", r"\lfloor e^{99}\rfloor", "(-1)!", "(1/2)!",
    "1e308", "1e999", "nan", "inf", "-0", "\x00\x01", "1\u202e2", "١٢٣", "𝟙𝟚", "\ud800", "<script>alert(1)</script>",
    "%", r"\\\\\\", "\\", "$", "$$", "{}", "{", "}", "_", "^", "!", "x!!", "=", "==", "a=b=c=d", "<<>>", "1=2",
    "x=" * 80, ",".join("1" * 60), "&" * 50, r"\begin{pmatrix}" * 10, r"\begin{pmatrix}" + "1&" * 80 + r"\end{pmatrix}",
    r"\{" * 50, r"\pm" * 50, r"1\pm 2\pm 3\pm 4\pm 5", r"\cup" * 40, "or" * 50, "1 or " * 30, r"\text{" * 40,
]  # fmt: skip


@pytest.fixture(scope="module")
def symbols():
    pool = SymbolPool(workers=2, time_limit_s=3, memory_bytes=1 << 30)
    yield pool
    pool.close()


def test_every_hostile_text_has_a_reading_in_bounded_time_and_runs_nothing(symbols):
    Path(MARK).unlink(missing_ok=True)
    assert len(HOSTILE) > 100
    slow = {}
    for text in HOSTILE:
        started = time.monotonic()
        reading = math_readings([text], symbols)[text]
        slow[text] = time.monotonic() - started
        assert (reading.key is None) != (reading.reason is None), text
    # A start of sympy, then the limit and what a loaded machine adds.
    assert max(slow.values()) < 30, max(slow, key=lambda text: slow[text])
    assert not Path(MARK).exists()


def test_a_pool_that_is_handed_the_raw_texts_runs_nothing(symbols):
    Path(MARK).unlink(missing_ok=True)
    assert set(symbols.read(HOSTILE)) == set(HOSTILE)
    assert not Path(MARK).exists()


def test_equal_hostile_texts_are_one_answer_and_an_election_goes_on(symbols):
    task = MathTask(symbols=symbols)
    problem = Problem("p", "What is it?")
    assert all(task.equivalent(text, text, problem) for text in HOSTILE)
    election = elect([Extraction(text) for text in [*HOSTILE, "5", "5", "5", "5", "5", "5", "5", "5"]], task, problem)
    assert election.label == "5"
    assert sum(each.count for each in election.classes) + election.num_unparsed == len(HOSTILE) + 8


def test_an_answer_that_takes_too_long_is_unparsed_with_its_reason(tmp_path):
    class Slow:
        def read(self, texts):
            from ttrl_engine.equivalence import Reading

            return {text: Reading(None, "takes more than 3 s to read") for text in texts}

    problem = Problem("p", "What is it?")
    election = elect([Extraction(r"\log_2 5"), Extraction("5")], MathTask(symbols=Slow()), problem)
    assert election.unparsed == ((0, "takes more than 3 s to read"),)
    assert [each.answer for each in election.classes] == ["5"]
    assert election.consensus == 0.5


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("os.system", ("id",)), ("subprocess.Popen", ("id", [], None, None)), ("socket.connect", (None, None)),
        ("open", ("x", "w", 0)), ("open", ("x", None, 1)), ("open", ("x", "rb+", 0)), ("compile", ("1+1", "<string>")),
        ("compile", ("1+1", "file.py")), ("os.fork", ()), ("os.remove", ("x", -1)), ("ctypes.dlopen", ("x",)),
        ("exec", (compile("1", "<string>", "eval"),)),
    ],
)  # fmt: skip
def test_the_audit_hook_refuses(event, arguments):
    with pytest.raises(PermissionError):
        child._audit(event, arguments)


def test_the_audit_hook_lets_pass_what_reading_needs():
    child._audit("open", ("x", "r", 0))
    child._audit("exec", (test_the_audit_hook_refuses.__code__,))
    child._audit("import", ("sys", None, None, None, None))


def test_sympy_itself_cannot_evaluate_a_string_in_a_child():
    """What math-verify hands to sympy as a number is a number, and nothing else is."""
    import subprocess

    code = (
        "import sympy\nfrom ttrl_engine.equivalence import symbolic\nassert sympy.Number('12') == 12\n"
        "assert sympy.Number('0.1') == sympy.Rational(1, 10)\n"
        "try:\n    sympy.sympify('__import__(\"os\").getpid()')\nexcept Exception as error:\n    print('refused')\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "refused"
