"""The options of a choice problem, from the ways tables hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from ttrl_engine.problems import Problem
from ttrl_engine.tasks.choice import LETTERS
from ttrl_engine.upload.cells import cell_text
from ttrl_engine.upload.table import IssueLog

_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_LETTERED = re.compile(r"^\s{0,5}\(?[A-Z][).:]\s{1,5}")
_SEPARATORS: Final = ("\n", "|", ";")


def read_options(cells: Sequence[str]) -> tuple[str, ...]:
    """Option texts, A first: one per cell of several, or the list in a single cell; empty where there are no two."""
    options = [cell.strip() for cell in cells] if len(cells) > 1 else _listed(cells[0]) if cells else []
    while options and not options[-1]:
        options.pop()
    if not 2 <= len(options) <= len(LETTERS):
        return ()
    if all(_LETTERED.match(option) for option in options):
        options = [_LETTERED.sub("", option) for option in options]
    return tuple(option.strip() for option in options)


def position_to_letter(problems: Sequence[Problem], references: dict[str, str], log: IssueLog) -> dict[str, str]:
    """References that count the options become letters; others stay.

    Counted are they where every one is a whole number within its options and none is an option's text. They count
    from 0 if any is 0, from 1 if any is the number of its options; where neither shows, nothing is changed.
    """
    known = [(problem, references[problem.id]) for problem in problems if problem.id in references and problem.choices]
    if not known or not all(re.fullmatch(r"\d{1,2}", answer) and answer not in p.choices for p, answer in known):
        return references
    from_zero = any(int(answer) == 0 for _, answer in known)
    from_one = any(int(answer) == len(problem.choices) for problem, answer in known)
    fits = all(0 <= int(answer) - (not from_zero) < len(problem.choices) for problem, answer in known)
    if from_zero == from_one or not fits:
        why = "The reference answers are numbers; which option each means is not clear. Use letters or option texts."
        log.add(None, "warning", why, "positions")
        return references
    start = 0 if from_zero else 1
    why = f"The reference answers count the options from {start}; they are shown as letters."
    log.add(None, "info", why, "positions")
    return {**references, **{problem.id: LETTERS[int(answer) - start] for problem, answer in known}}


def _listed(cell: str) -> list[str]:
    text = cell.strip()
    if text.startswith("["):
        try:
            values = json.loads(text)
            return [cell_text(value) for value in values] if isinstance(values, list) else []
        except (ValueError, RecursionError):
            # Lists as Python prints them; read by pattern, since text of a file is never evaluated.
            return [single or double for single, double in _QUOTED.findall(text[:20_000])]
    if text.startswith("{"):
        try:
            by_letter = json.loads(text)
        except (ValueError, RecursionError):
            return []
        return [cell_text(by_letter[letter]) for letter in LETTERS if letter in by_letter]
    separator = next((mark for mark in _SEPARATORS if mark in text), None)
    return [part.strip() for part in text.split(separator) if part.strip()] if separator else []
