r"""Finding the final answer in a rollout: the last `\boxed{…}`, else what follows the last "the answer is".

Never the last number of the text: a guess that is always possible would make every rollout vote. All scans are
linear in the text with bounded quantifiers, since the text is whatever a model wrote.
"""

from __future__ import annotations

import re
from collections import deque

from ttrl_engine.tasks.base import Extraction

MAX_ANSWER_LENGTH = 200
MAX_BRACE_DEPTH = 20

NO_ANSWER = "no final answer"
NO_BOX = "nothing is boxed"
CUT = "cut before the answer"
EMPTY_BOX = "boxed text is empty"
TOO_LONG = f"longer than {MAX_ANSWER_LENGTH} characters"
TOO_DEEP = f"braces nested deeper than {MAX_BRACE_DEPTH}"

# Bounds how many mentions of \boxed without braces are passed over.
_MAX_MENTIONS = 50
# An answer is stated at the end; earlier mentions are on the way to it.
_STATED_WITHIN = 20_000
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s{0,5}")
_BARE_BOX = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?|[A-Za-z](?![A-Za-z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_STATED = re.compile(
    r"(?<!\w)(?:answer|result)(?:\s{1,3}(?:to|of|for)[^.\n:]{1,80}?)?\s{0,3}(?:is|:|=)[\s:*_`]{0,8}(?:therefore|thus|simply)?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<!\b(?:St|Dr|Mr|Ms|Mt))(?<!\bMrs)[.!?](?=\s|$)|[;\n]|\*\*|,?\s(?:because|since|which|where|so|as|but|if|when)\s|\s-\s"
)
_MATH_SPAN = re.compile(r"\$([^$\n]{1,400})\$|\\\(([^\n]{1,400}?)\\\)|\\\[\s{0,5}([^\n]{1,400}?)\s{0,5}\\\]")
_NOTHING = re.compile(
    r"\\(?:text|mbox|mathrm|mathbf|textbf|textit|left|right|quad|qquad|displaystyle)(?![A-Za-z])|\\[,;:! ]|[\W_]"
)
_MARKS = frozenset("∞√π∅°±")


def find_boxed(text: str, *, truncated: bool = False) -> Extraction | None:
    r"""The content of the last `\boxed` or `\fbox`, the reason it cannot be read, or None where there is no box.

    The last box decides, as in the official code: an older one is never taken instead of one that was cut.
    """
    end = len(text)
    for _ in range(_MAX_MENTIONS):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        end = start
        opening = _BOX.match(text, start)
        if opening is None:
            continue
        if text.startswith("{", opening.end()):
            return _read_braces(text, opening.end() + 1, truncated)
        bare = _BARE_BOX.match(text, opening.end())
        if bare is not None:
            return Extraction(bare.group())
        if opening.end() == len(text) and truncated:
            return Extraction(None, CUT)
    return None


def find_stated(text: str) -> str | None:
    """What is stated after the last "answer is", "answer:" or the like, to the end of the sentence; None without one.

    May be longer than an answer can be; the caller decides what of it is the answer.
    """
    last = deque(_STATED.finditer(text, max(0, len(text) - _STATED_WITHIN)), maxlen=1)
    if not last:
        return None
    start = last[0].end()
    tail = text[start : start + 4 * MAX_ANSWER_LENGTH].lstrip(" \t\n:*_`")
    span = _MATH_SPAN.match(tail)
    if span is not None:
        return next(group for group in span.groups() if group is not None).strip()
    ending = _SENTENCE_END.search(tail)
    stated = (tail[: ending.start()] if ending else tail).strip(" \t*_`\"'")
    if stated.lower().startswith(("not ", "unknown", "unclear")):
        return None
    return stated.rstrip(".,;: ") or None


def find_answer(text: str, *, truncated: bool = False, boxed_only: bool = False) -> Extraction:
    """The boxed answer, else (unless `boxed_only`) the stated one, else the reason for having none."""
    boxed = find_boxed(text, truncated=truncated)
    if boxed is not None:
        return boxed
    if boxed_only:
        return Extraction(None, CUT if truncated else NO_BOX)
    stated = find_stated(text)
    if stated is None or is_blank(stated):
        return Extraction(None, CUT if truncated else NO_ANSWER)
    if len(stated) > MAX_ANSWER_LENGTH:
        return Extraction(None, TOO_LONG)
    return Extraction(stated)


def is_blank(raw: str) -> bool:
    """Whether nothing is left of an answer once layout commands and punctuation are gone: a blank never votes."""
    return not _NOTHING.sub("", raw) and not _MARKS.intersection(raw)


def show(raw: str) -> str:
    """An answer for a person: control characters and direction marks out, white space joined, at most 200 long."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "" for c in raw[: 4 * MAX_ANSWER_LENGTH]).split())
    return text if len(text) <= MAX_ANSWER_LENGTH else text[: MAX_ANSWER_LENGTH - 1] + "…"


def _read_braces(text: str, start: int, truncated: bool) -> Extraction:
    depth = 1
    for brace in _BRACE.finditer(text, start, start + 4 * MAX_ANSWER_LENGTH):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth > MAX_BRACE_DEPTH:
            return Extraction(None, TOO_DEEP)
        if depth == 0:
            content = text[start : brace.start()].strip()
            if is_blank(content):
                return Extraction(None, EMPTY_BOX)
            if len(content) > MAX_ANSWER_LENGTH:
                return Extraction(None, TOO_LONG)
            return Extraction(content)
    if len(text) - start >= 4 * MAX_ANSWER_LENGTH:
        return Extraction(None, TOO_LONG)
    return Extraction(None, CUT if truncated else "box that never closes")
