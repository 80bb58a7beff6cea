"""What a person says about the answers of one problem, worked into the rule of its set: these are one, these are not.

An answer is named by its spelling as it is shown. `classes` are the spellings of each answer class of the election
that the person looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from ttrl_engine.config import AnswerConfig, Detach, Merge
from ttrl_engine.errors import ConfigError, DataError

_MOST = 100


def merge(
    answers: AnswerConfig, problem_id: str, classes: Sequence[Sequence[str]], chosen: Collection[str]
) -> AnswerConfig:
    """The chosen spellings become one answer; a class of which only a part was chosen keeps the rest.

    Raises DataError where fewer than two were chosen, or more than a rule can name.
    """
    together = [spelling for spellings in classes for spelling in spellings if spelling in chosen]
    if len(together) < 2:
        raise DataError("Choose at least two spellings to make one answer of them.")
    if len(together) > _MOST:
        raise DataError(f"Choose at most {_MOST} spellings at once.")
    parts = [spellings for spellings in classes if any(each not in chosen for each in spellings)]
    apart = {each for spellings in parts for each in spellings if each in chosen}
    merges = [*_without(answers.merges, problem_id, together), (problem_id, together)]
    return _ruled(answers, merges, _detached(answers, problem_id, apart))


def split(
    answers: AnswerConfig, problem_id: str, classes: Sequence[Sequence[str]], chosen: Collection[str]
) -> AnswerConfig:
    """Each chosen spelling becomes an answer of its own. Raises DataError where each already is."""
    apart = {each for spellings in classes if len(spellings) > 1 for each in spellings if each in chosen}
    if not apart:
        raise DataError("Choose spellings that share an answer with others to split them from it.")
    return _ruled(answers, _without(answers.merges, problem_id, apart), _detached(answers, problem_id, apart))


def change(answers: AnswerConfig, **settings: Any) -> AnswerConfig:
    """The answers with some settings changed. Raises ConfigError with the reason where they cannot be."""
    try:
        changed = AnswerConfig.model_validate(answers.model_dump() | settings)
    except ValidationError as failure:
        raise ConfigError(" ".join(_reason(each["msg"]) for each in failure.errors(include_url=False))) from None
    return changed


def rule_to_save(saved: AnswerConfig, opened: AnswerConfig, draft: AnswerConfig) -> AnswerConfig:
    """The saved rule of a set with what a person changed between `opened` and `draft`; what the run itself had set
    otherwise stays with the run."""
    names = [name for name in AnswerConfig.model_fields if getattr(draft, name) != getattr(opened, name)]
    return saved.model_copy(update={name: getattr(draft, name) for name in names})


def difference(before: AnswerConfig, after: AnswerConfig) -> list[str]:
    """In words, what `after` says that `before` does not."""
    words = []
    for name, info in AnswerConfig.model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if name in ("merges", "detached"):
            words.append(
                f"{info.title}: {len(new):,} instead of {len(old):,}" if old else f"{info.title}: {len(new):,}"
            )
        else:
            words.append(f"{info.title}: {_shown(new)}")
    return words


def _shown(value: Any) -> str:
    return (
        ", ".join(map(str, value)) or "unset" if isinstance(value, tuple) else "unset" if value is None else str(value)
    )


def _reason(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text if text.endswith(".") else f"{text}."


def _without(merges: Iterable[Merge], problem_id: str, gone: Collection[str]) -> list[tuple[str, list[str]]]:
    """The merges with some spellings of a problem taken out; what is left of one is kept where it still joins two."""
    kept = []
    for each in merges:
        answers = [a for a in each.answers if each.problem_id != problem_id or a not in gone]
        if len(answers) > 1:
            kept.append((each.problem_id, answers))
    return kept


def _detached(answers: AnswerConfig, problem_id: str, more: Collection[str]) -> list[tuple[str, str]]:
    known = [(each.problem_id, each.answer) for each in answers.detached]
    return known + [(problem_id, each) for each in sorted(more) if (problem_id, each) not in known]


def _ruled(
    answers: AnswerConfig, merges: Sequence[tuple[str, Sequence[str]]], detached: Sequence[tuple[str, str]]
) -> AnswerConfig:
    try:
        return AnswerConfig.model_validate(
            answers.model_dump()
            | {
                "merges": tuple(Merge(problem_id=name, answers=tuple(together)) for name, together in merges),
                "detached": tuple(Detach(problem_id=name, answer=answer) for name, answer in detached),
            }
        )
    except ValidationError:
        raise DataError("A rule cannot hold so much. Save and use a kind of answer that needs fewer words.") from None
