"""Problems and problem sets: prompts to answer, and, kept apart from them, reference answers that only measure.

A `Problem` has no field for its answer. What trains is handed problems, what measures is handed `References`; a
function whose arguments hold no references cannot leak one into a reward.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from ttrl_engine.config import AnswerConfig, TaskKind
from ttrl_engine.errors import DataError

References: TypeAlias = Mapping[str, str]
"""Problem id -> reference answer. Partial or empty where answers are not known."""

BUNDLED_PREFIX = "bundled:"


@dataclass(frozen=True)
class Problem:
    """One prompt without its answer. `choices` are the option texts of a choice problem, A first; empty elsewhere."""

    id: str
    prompt: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProblemSet:
    """A validated list of problems with unique ids, in the order of their file, and what references are known.

    `rule` is what a person saved about reading and comparing the answers of this set.
    """

    name: str
    kind: TaskKind
    problems: tuple[Problem, ...]
    references: References
    rule: AnswerConfig = field(default_factory=AnswerConfig)

    def __post_init__(self) -> None:
        ids = {problem.id for problem in self.problems}
        if len(ids) != len(self.problems):
            raise DataError(f"The problem set {self.name!r} has two problems with the same id. Give each its own.")
        if not ids.issuperset(self.references):
            stray = sorted(set(self.references) - ids)[0]
            raise DataError(f"The problem set {self.name!r} has a reference answer for {stray!r}, which is no problem.")
        # A read-only copy: a frozen set must not change when the caller's dict does.
        object.__setattr__(self, "references", MappingProxyType(dict(self.references)))

    def __reduce__(self) -> tuple[type[ProblemSet], tuple[object, ...]]:
        return (ProblemSet, (self.name, self.kind, self.problems, dict(self.references), self.rule))

    @property
    def answers(self) -> AnswerConfig:
        """How answers to this set are read and compared where a run does not say otherwise; its kind is set."""
        return self.rule.over(AnswerConfig(kind=self.kind))

    @property
    def num_references(self) -> int:
        """How many of the problems have a reference answer."""
        return len(self.references)

    @property
    def content_hash(self) -> str:
        """16 hex digits of the SHA-256 over kind, ids, prompts, choices and references; name and rule are left out."""
        digest = hashlib.sha256(json.dumps(self.kind).encode())
        for problem in self.problems:
            row = [problem.id, problem.prompt, list(problem.choices), self.references.get(problem.id)]
            digest.update(b"\n" + json.dumps(row).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Split:
    """The problems that are trained on, and those that never are. Both in the order of the set."""

    adapt: tuple[Problem, ...]
    held_out: tuple[Problem, ...]


def split(problem_set: ProblemSet, held_out_share: float, max_problems: int | None, seed: int) -> Split:
    """Draw at most `max_problems` problems, then hold `held_out_share` of them out.

    Both draws depend only on the seed and the problem ids: neither the order of the file, nor prompts, nor references
    decide. A share above 0 holds out at least one problem. Raises DataError if fewer than 2 are left to adapt on.
    """
    drawn = sorted(problem_set.problems, key=lambda problem: _draw_key("draw", seed, problem.id))[:max_problems]
    num_held_out = max(1, round(len(drawn) * held_out_share)) if held_out_share > 0 else 0
    if len(drawn) - num_held_out < 2:
        raise DataError(
            f"The problem set {problem_set.name!r} leaves {max(0, len(drawn) - num_held_out)} of {len(drawn)} problems "
            f"to adapt on when {held_out_share:.0%} are held out; at least 2 are needed. "
            "Add problems or hold out a smaller share."
        )
    by_lot = sorted(drawn, key=lambda problem: _draw_key("held out", seed, problem.id))
    held_out = {problem.id for problem in by_lot[:num_held_out]}
    kept = {problem.id for problem in drawn}
    in_order = [problem for problem in problem_set.problems if problem.id in kept]
    return Split(
        adapt=tuple(problem for problem in in_order if problem.id not in held_out),
        held_out=tuple(problem for problem in in_order if problem.id in held_out),
    )


def load_problem_set(ref: str) -> ProblemSet:
    """The problem set behind `bundled:NAME` or a file path; columns and kind are guessed.

    Raises DataError with the first errors found if the file cannot be read or holds no usable problem. Rows with
    errors are left out, as on the upload page.
    """
    from ttrl_engine.upload import guess_mapping, read_table, validate  # upload builds on this module

    if ref.startswith(BUNDLED_PREFIX):
        from ttrl_engine.bundled import problem_set_path

        path, name = Path(problem_set_path(ref.removeprefix(BUNDLED_PREFIX))), ref
    else:
        path = Path(ref).expanduser()
        name = path.stem
    table = read_table(path, path.name)
    draft = validate(table, guess_mapping(table), name=name)
    if draft.problem_set is None:
        reasons = " ".join(issue.message for issue in draft.issues if issue.severity == "error")
        raise DataError(f"Cannot use {ref} as a problem set. {reasons[:1000]}")
    return draft.problem_set


def _draw_key(purpose: str, seed: int, problem_id: str) -> bytes:
    return hashlib.sha256(f"{purpose}\0{seed}\0{problem_id}".encode("utf-8", "surrogatepass")).digest()
