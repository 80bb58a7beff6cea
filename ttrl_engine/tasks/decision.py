r"""Decisions: one out of a closed list, yes or no unless the list says otherwise.

The last clear statement counts: the last box, else a sentence that is, or begins with, a decision ("Yes, because …"),
or a clause that ends in one ("the answer is no", "so it is guilty"). A clear statement that is negated ("not yes",
"isn't true") says what the answer is not, which on a longer list is not enough to know what it is: it gives no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ttrl_engine.config import TaskKind
from ttrl_engine.problems import Problem
from ttrl_engine.tasks.base import Extraction
from ttrl_engine.tasks.final_answer import CUT, NO_ANSWER, NO_BOX, find_boxed
from ttrl_engine.tasks.keyed import KeyedTask
from ttrl_engine.tasks.text import plain_words

NOT_A_DECISION = "not one of the decisions"
NEGATED = "the last decision stated is negated"
YES_NO: Final = ("yes", "no")

# Where the list is yes and no, or true and false, the words of the other pair mean the same.
_SAME_AS: Final = {"yes": "true", "true": "yes", "no": "false", "false": "no"}
_PAIRS: Final = (frozenset(YES_NO), frozenset(["true", "false"]))
# Statements are looked for at the end of the text, and their surroundings within a few words.
_STATED_WITHIN: Final = 20_000
_BEFORE: Final = 60
_AFTER: Final = 8
_MARKUP: Final = " \t*_`\"'“”‘’$(["
_STARTS = re.compile(r"(?:^|[.!?:;,\n\-–—])\Z")
_STATES = re.compile(
    r"(?<!\w)(?:is|are|was|be|as|says?|think|thus|hence|so|therefore|answer|result|conclude|verdict|decision|choose|=)\Z",
    re.IGNORECASE,
)
_NEGATES = re.compile(r"(?:(?<!\w)(?:not|never|neither|nor|hardly|cannot|than|of)|n['’]t)\Z", re.IGNORECASE)
_ENDS = re.compile(r"[\s*_`\"'“”’$\])}]{0,5}(?:[.,;:!\n]|[-–—]|$)|\s(?:because|since|as)\s")


class DecisionTask(KeyedTask):
    """Implements `Task` for a closed list of decisions."""

    kind: TaskKind = "decision"

    def __init__(self, labels: Sequence[str] = (), *, boxed_only: bool = False) -> None:
        self.labels = tuple(labels) or YES_NO
        self._boxed_only = boxed_only
        self._label_of = _spellings(self.labels)
        spelled = sorted(self._label_of, key=len, reverse=True)
        words = "|".join(r"[\s_\-]{1,3}".join(re.escape(word) for word in each.split()) for each in spelled)
        self._named = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)

    @property
    def default_suffix(self) -> str:
        """The instruction, with the list."""
        listed = ", ".join(self.labels[:-1]) + " or " + self.labels[-1] if len(self.labels) > 1 else self.labels[0]
        return f"\nPlease reason step by step, and put your final answer ({listed}) within \\boxed{{}}."

    def extract(self, text: str, _problem: Problem, /, *, truncated: bool = False) -> Extraction:
        """The decision in the last box, else the last one clearly stated, named as in the list."""
        boxed = find_boxed(text, truncated=truncated)
        if boxed is not None:
            if boxed.raw is None:
                return boxed
            label = self._label_of.get(plain_words(boxed.raw))
            return Extraction(label) if label is not None else Extraction(None, NOT_A_DECISION)
        if self._boxed_only:
            return Extraction(None, CUT if truncated else NO_BOX)
        return self._stated(text[-_STATED_WITHIN:], truncated)

    def canonical(self, raw: str, _problem: Problem, /) -> str:
        """The decision as the list names it; text that is none is its own class."""
        label = self._label_of.get(plain_words(raw[:2000]))
        return f"decision {label}" if label is not None else "text " + " ".join(raw.split())

    def _stated(self, text: str, truncated: bool) -> Extraction:
        last = Extraction(None, CUT if truncated else NO_ANSWER)
        for match in self._named.finditer(text):
            if _ENDS.match(text, match.end()) is None:
                continue
            before = text[max(0, match.start() - _BEFORE) : match.start()].rstrip(_MARKUP)
            if _NEGATES.search(before):
                last = Extraction(None, NEGATED)
            elif not before or _STARTS.search(before) or _STATES.search(before):
                label = self._label_of.get(plain_words(match.group()))
                last = Extraction(label) if label is not None else last
        return last


def _spellings(labels: Sequence[str]) -> dict[str, str]:
    """Plain words -> the label they name."""
    found = {plain_words(label): label for label in reversed(labels)}
    if frozenset(found) in _PAIRS:
        found |= {_SAME_AS[word]: label for word, label in found.items()}
    return found
