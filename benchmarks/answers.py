"""How well equal answers meet and different ones stay apart: `python -m benchmarks.answers --data FILE`.

FILE has one JSON object per line with an "answer" (and perhaps an "id"), as MATH-500 has. It is only read. Three
measurements: 64 rollouts that box the reference; the reference written in other ways; pairs of different answers.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.math import MathTask
from ttrl_engine.vote import elect, rewards

NUM_ROLLOUTS = 64
NUM_PAIRS = 5000
TASK = MathTask()
PROBLEM = Problem("p", "What is it?")

Rewriting: TypeAlias = Callable[[str], str | None]

_INTEGER = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_WORD = re.compile(r"\\text\{(\(?\w+\)?)\}")
_STRUCTURE = re.compile(r"[=,()\[\]&]|\\(?:pm|in|text|mbox|begin|cup|\{)|[a-zA-Z]{3}")


def main() -> int:
    """Run all three and print the figures, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    answers = [json.loads(line)["answer"] for line in arguments.data.read_text().splitlines() if line.strip()]
    started = time.perf_counter()
    figures = identical(answers) | rewritten(answers) | different(answers, random.Random(arguments.seed))
    figures["seconds"] = round(time.perf_counter() - started, 2)
    print(json.dumps(figures))
    return 0


def identical(answers: list[str]) -> dict[str, float]:
    """Rollouts that all box the reference: one class, consensus 1, the right label, reward 1 for all."""
    right = 0
    for answer in answers:
        rollout = f"We compute step by step, and so the answer is \\boxed{{{answer}}}."
        election = elect([TASK.extract(rollout, PROBLEM) for _ in range(NUM_ROLLOUTS)], TASK, PROBLEM)
        held = (
            election.num_classes == 1
            and election.consensus == 1.0
            and election.label is not None
            and TASK.equivalent(election.label, answer, PROBLEM)
            and rewards(election) == [1.0] * NUM_ROLLOUTS
        )
        right += held
        if not held:
            print(f"  not unanimous: {answer}")
    print(f"{NUM_ROLLOUTS} identical rollouts: {right} of {len(answers)} references hold")
    return {"references": len(answers), "identical": right}


def rewritten(answers: list[str]) -> dict[str, float]:
    """Every reference in every other way that applies to it: how many stay in its class."""
    total: Counter[str] = Counter()
    split: list[tuple[str, str, str]] = []
    ways = [len(list(spellings(answer))) for answer in answers]
    for answer in answers:
        for name, spelling in spellings(answer):
            total[name] += 1
            if not TASK.equivalent(answer, spelling, PROBLEM):
                split.append((name, answer, spelling))
    for name, count in sorted(total.items()):
        print(f"  {name:22} {count - sum(each[0] == name for each in split):4} of {count}")
    for name, answer, spelling in split:
        print(f"  split by {name}: {answer}   |   {spelling}")
    merged = total.total() - len(split)
    print(f"rewritten: {merged} of {total.total()} in one class; ways per reference: at least {min(ways)}")
    return {"rewritten": total.total(), "merged": merged, "least_ways": min(ways)}


def different(answers: list[str], rng: random.Random) -> dict[str, float]:
    """Pairs of different answers: how many get one key."""
    pairs = list(dict.fromkeys(pair for answer in answers for pair in near(answer)))
    rng.shuffle(pairs)
    pairs = pairs[: NUM_PAIRS // 2]
    num_near = len(pairs)
    while len(pairs) < NUM_PAIRS:
        a, b = rng.sample(answers, 2)
        if _plain(a) != _plain(b):
            pairs.append((a, b))
    merged = [(a, b) for a, b in pairs if TASK.equivalent(a, b, PROBLEM)]
    for a, b in merged:
        print(f"  merged: {a}   |   {b}")
    print(f"different: {len(merged)} of {len(pairs)} pairs merge ({num_near} of them one small change apart)")
    return {"pairs": len(pairs), "near_pairs": num_near, "false_merges": len(merged)}


def spellings(answer: str) -> Iterator[tuple[str, str]]:
    """The answer in other ways, each with the name of the way."""
    for name, rewrite in REWRITINGS.items():
        spelling = rewrite(answer)
        if spelling is not None and spelling != answer:
            yield name, spelling


def _decimal(answer: str) -> str | None:
    """The exact decimal of a fraction, or the fraction of a decimal."""
    match = _FRACTION.fullmatch(answer)
    if match is not None:
        value = Fraction(int(match.group(2)), int(match.group(3)))
        rest = value.denominator
        while rest % 2 == 0 or rest % 5 == 0:
            rest //= 2 if rest % 2 == 0 else 5
        return f"{match.group(1)}{float(value)}" if rest == 1 else None
    if re.fullmatch(r"\d*\.\d+", answer):
        return f"\\frac{{{Fraction(answer).numerator}}}{{{Fraction(answer).denominator}}}"
    return None


def _reordered(answer: str) -> str | None:
    """The members of a list or a set, or the parts of a union, the other way round."""
    if "\\cup" in answer:
        return " \\cup ".join(reversed([part.strip() for part in answer.split("\\cup")]))
    inside = answer[2:-2] if answer.startswith("\\{") else answer
    members = [each.strip() for each in inside.split(",")]
    if len(members) < 2 or any(character in inside for character in "([&$!") or re.search(r"\d,\d{3}\b", answer):
        return None
    turned = ", ".join(reversed(members))
    return f"\\{{{turned}\\}}" if inside is not answer else turned


def _thousands(answer: str, comma: str) -> str | None:
    whole = _INTEGER.fullmatch(answer)
    return f"{int(answer):,}".replace(",", comma) if whole and abs(int(answer)) >= 1000 else None


def _of_integers(rewrite: Callable[[str], str]) -> Rewriting:
    return lambda answer: rewrite(answer) if _INTEGER.fullmatch(answer) else None


def _of_values(rewrite: Callable[[str], str]) -> Rewriting:
    return lambda answer: rewrite(answer) if _STRUCTURE.search(_FRACTION.sub("", answer)) is None else None


def _of_words(rewrite: Callable[[str], str]) -> Rewriting:
    return lambda answer: rewrite(match.group(1)) if (match := _WORD.fullmatch(answer)) else None


def _half_line(answer: str) -> str | None:
    match = re.fullmatch(r"([(\[])(-?\d+),\s*\\infty\)", answer)
    return None if match is None else f"x {'>' if match.group(1) == '(' else chr(92) + 'ge'} {match.group(2)}"


REWRITINGS: dict[str, Rewriting] = {
    "dfrac": lambda answer: answer.replace("\\frac", "\\dfrac"),
    "tfrac": lambda answer: answer.replace("\\frac", "\\tfrac"),
    "slash": lambda answer: _FRACTION.sub(r"\1\2/\3", answer) if _FRACTION.fullmatch(answer) else None,
    "exact decimal": _decimal,
    "x =": lambda answer: f"x = {answer}" if _STRUCTURE.search(_FRACTION.sub("", answer)) is None else None,
    "loose": lambda answer: re.sub(
        r"(?<=[\w}) ])([-+])(?=[\w\\(])", r" \1 ", re.sub(r",(?!\\!|\d{3}\b)", ", ", answer)
    ),
    "tight": lambda answer: None if "text" in answer else re.sub(r" (?![a-zA-Z])", "", answer),
    "left right": lambda answer: (
        None if "\\left" in answer else re.sub(r"([(\[])", r"\\left\1", re.sub(r"([)\]])", r"\\right\1", answer))
    ),
    "no left right": lambda answer: answer.replace("\\left", "").replace("\\right", ""),
    "unit": _of_integers(lambda answer: f"{answer}\\text{{ cm}}"),
    "unit in words": _of_integers(lambda answer: f"{answer} square units"),
    "degrees": _of_integers(lambda answer: f"{answer}^\\circ"),
    "no degrees": lambda answer: answer.replace("^\\circ", ""),
    "degree sign": lambda answer: answer.replace("^\\circ", "°"),
    "reordered": _reordered,
    "padded": _of_integers(lambda answer: re.sub(r"(\d+)", r"0\1", answer)),
    "with .0": _of_integers(lambda answer: f"{answer}.0"),
    "plus": _of_integers(lambda answer: answer if answer.startswith("-") else f"+{answer}"),
    "thousands commas": lambda answer: _thousands(answer, ","),
    "thousands in TeX": lambda answer: _thousands(answer, "{,}"),
    "text": _of_integers(lambda answer: f"\\text{{{answer}}}"),
    "mathrm": _of_words(lambda word: f"\\mathrm{{{word}}}"),
    "bare word": _of_words(lambda word: word),
    "in dollars": lambda answer: f"${answer}$",
    "in brackets": _of_values(lambda answer: f"\\left({answer}\\right)"),
    "bold": _of_values(lambda answer: f"\\mathbf{{{answer}}}"),
    "display": lambda answer: f"\\displaystyle {answer}",
    "full stop": lambda answer: f"{answer}.",
    "unicode": lambda answer: (
        answer.replace("\\pi", "π").replace("\\infty", "∞").replace("\\cup", "∪").replace("-", "−").replace("\\pm", "±")
    ),
    "square brackets": lambda answer: answer.replace("{pmatrix}", "{bmatrix}"),
    "inequality": _half_line,
    "base in words": lambda answer: re.sub(r"_\{?(\d)\}?$", r" \\text{ (base \1)}", answer),
}


def near(answer: str) -> Iterator[tuple[str, str]]:
    """The answer with one change that makes it another."""
    for match in re.finditer(r"(?<![\\!{])\d+", answer):
        digits = match.group()
        for number in (int(digits) + 1, int(digits) + 10, abs(int(digits) - 1)):
            yield answer, answer[: match.start()] + str(number).zfill(len(digits)) + answer[match.end() :]
    if _STRUCTURE.search(answer) is None and answer.strip("0.") and "\\pm" not in answer and answer[0] not in "-\\":
        yield answer, f"-({answer})"
    inner = re.fullmatch(r"(\\left)?([(\[])([^()\[\]]+),([^()\[\]]+?)(\\right)?([)\]])", answer)
    if inner is not None:
        left, opening, first, last, right, closing = (group or "" for group in inner.groups())
        if first.strip() != last.strip():
            yield answer, f"{left}{opening}{last},{first}{right}{closing}"
        other = {"(": "[", "[": "(", ")": "]", "]": ")"}
        yield answer, f"{left}{other[opening]}{first},{last}{right}{closing}"
        yield answer, f"{left}{opening}{first},{last}{right}{other[closing]}"


def _plain(answer: str) -> str:
    """The answer without what MATH ignores, by other means than those measured."""
    text = re.sub(
        r"\\(?:text|mbox)\{ ?[a-z]*\}(?:\^2)?$|\\[!$]|\^\\circ|[ ,$]", "", answer.replace("\\dfrac", "\\frac")
    )
    match = _FRACTION.fullmatch(re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", re.sub(r"^[a-z]=", "", text)))
    if match is not None:
        return str(Fraction(int(match.group(1) + match.group(2)), int(match.group(3))))
    try:
        return str(Fraction(re.sub(r"^[a-z]=", "", text)))
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
