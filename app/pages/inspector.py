"""The inspector of one vote: what a person may try on it, and what is kept of that. The page is `inspector_view`.

Nothing here touches the run: a draft is a rule for the problem set, tried on the stored rollouts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app import components as ui
from app import rulings
from app.revotes import Effect, Past
from app.services import Services
from ttrl_engine.config import AnswerConfig
from ttrl_engine.errors import StudioError
from ttrl_engine.revote import Revote
from ttrl_engine.tasks import task_for
from worker.rows import ElectionRow, RunRow

SETTINGS = ("kind", "read", "labels", "pattern", "unit", "tolerance")
MAX_UNDO = 50
# Longer than any list of ticked spellings or any pattern that is taken.
_MAX_SAID = 20_000


@dataclass(frozen=True)
class Inspect:
    """What a visitor tries out. `draft` is the rule tried, None while the vote is shown as it was held; `opened` is
    what it began as; `undo` are earlier drafts. `chosen` are ticked spellings of `problem`; `reading` is the group of
    rollouts being read and the place in it; `message` is the answer to the last click, as HTML."""

    problem: str | None = None
    draft: AnswerConfig | None = None
    opened: AnswerConfig | None = None
    undo: tuple[AnswerConfig | None, ...] = ()
    chosen: frozenset[str] = frozenset()
    reading: tuple[str, int] | None = None
    message: str = ""

    def at(self, problem_id: str | None) -> Inspect:
        """The same draft over another problem, where nothing is ticked yet."""
        if problem_id == self.problem:
            return self
        return replace(self, problem=problem_id, chosen=frozenset(), reading=None, message="")

    def tried(self, draft: AnswerConfig | None, opened: AnswerConfig | None) -> Inspect:
        """With another draft, and the present one to go back to."""
        undo = (*self.undo, self.draft)[-MAX_UNDO:]
        return replace(self, draft=draft, opened=opened, undo=undo, chosen=frozenset(), message="")


@dataclass(frozen=True)
class Shown:
    """One vote ready to be shown: the rules it is held under and was held under, both elections (None where the
    rollouts are gone), and what the change does elsewhere."""

    run: RunRow
    problem_id: str
    step: int
    history: Sequence[ElectionRow]
    stored: ElectionRow | None
    held_under: AnswerConfig
    saved: AnswerConfig
    rows: Sequence[Mapping[str, Any]]
    held: Revote | None
    now: Revote | None
    on_problem: Effect | None
    on_step: Effect | None
    failure: str

    @property
    def has_saved_rule(self) -> bool:
        """Whether the set's rule says something else than what the run was started with."""
        return self.saved != self.held_under

    def spellings(self) -> list[list[str]]:
        """The shown spellings of each class of the election as it is shown now."""
        return [] if self.now is None else [list(shown_spellings(each.spellings)) for each in self.now.election.classes]


def token(text: str) -> str:
    """A name of a text that is safe in an attribute and in an address."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def shown_spellings(spellings: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Spelling as shown -> votes; raw spellings that look alike count as one."""
    found: dict[str, int] = {}
    for raw, count in spellings:
        shown = show(raw)
        found[shown] = found.get(shown, 0) + count
    return found


def show(raw: str) -> str:
    """An answer as every kind shows it, and as rules name it."""
    return task_for(AnswerConfig()).display(raw)


def look(
    services: Services,
    run: RunRow,
    problem_id: str,
    step: int,
    history: Sequence[ElectionRow],
    inspect: Inspect,
    *,
    effects: bool = True,
) -> Shown:
    """Read the vote as it was held and as it would be held; `effects` also reads the others that change with it."""
    chosen_set = services.store.problem_set(run.set_id)
    of_set = AnswerConfig() if chosen_set is None else chosen_set.answers
    past = Past(services.store, run)
    held = now = None
    on_problem = on_step = None
    failure, held_under = "", run.config.answers
    try:
        held_under = run.config.answers.over(AnswerConfig(kind=of_set.kind))
        held = past.one(step, problem_id, held_under)
        now = held if inspect.draft is None else past.one(step, problem_id, inspect.draft)
        if effects and inspect.draft is not None and inspect.draft != held_under:
            steps = [each.step for each in history]
            on_problem = past.effect_on_problem(steps, problem_id, held_under, inspect.draft)
            on_step = past.effect_on_step(step, held_under, inspect.draft)
    except StudioError as refusal:
        failure = str(refusal)
    saved = held_under if chosen_set is None else chosen_set.rule.over(held_under)
    stored = next((each for each in history if each.step == step), None)
    rows = past.rows(step, problem_id)
    return Shown(
        run, problem_id, step, history, stored, held_under, saved, rows, held, now, on_problem, on_step, failure
    )


def act(services: Services, seen: Shown, inspect: Inspect, what: str, value: str) -> Inspect:
    """What a click or a changed setting does to the draft, or to the set's rule."""
    try:
        return _act(services, seen, replace(inspect, message=""), what, value)
    except StudioError as refusal:
        return replace(inspect, message=ui.note("Nothing was changed", str(refusal), "warn", alert=True))


def _act(services: Services, seen: Shown, inspect: Inspect, what: str, value: str) -> Inspect:
    start = seen.saved if inspect.draft is None else inspect.draft
    opened = seen.saved if inspect.opened is None else inspect.opened
    ticked = _ticked(seen, value)
    match what:
        case "chosen":
            return replace(inspect, chosen=ticked)
        case "class":
            return replace(inspect, chosen=_toggled(seen, inspect.chosen, value))
        case "merge":
            return inspect.tried(rulings.merge(start, seen.problem_id, seen.spellings(), ticked), opened)
        case "split":
            return inspect.tried(rulings.split(start, seen.problem_id, seen.spellings(), ticked), opened)
        case "saved":
            return inspect.tried(seen.saved, seen.saved)
        case "undo" if inspect.undo:
            return replace(inspect, draft=inspect.undo[-1], undo=inspect.undo[:-1], chosen=frozenset())
        case "discard":
            return inspect.tried(None, None)
        case "save" if inspect.draft is not None:
            return _saved(services, seen, inspect, inspect.draft, opened)
        case "reading":
            group, _, place = value.partition(":")
            at = int(place) if place.isascii() and place.isdigit() and len(place) < 6 else 0
            return replace(inspect, reading=(group, at) if group else None)
        case _ if what in SETTINGS:
            return inspect.tried(rulings.change(start, **{what: _setting(what, value)}), opened)
    return inspect


def _saved(services: Services, seen: Shown, inspect: Inspect, draft: AnswerConfig, opened: AnswerConfig) -> Inspect:
    chosen_set = services.store.problem_set(seen.run.set_id)
    rule = rulings.rule_to_save(AnswerConfig() if chosen_set is None else chosen_set.rule, opened, draft)
    task_for(rule.over(draft))
    services.store.save_rule(seen.run.set_id, rule)
    under_way = " This run goes on under the rule it was started with." if seen.run.job.is_active else ""
    text = f"New runs on {seen.run.set_name} read answers like this.{under_way}"
    return replace(inspect, opened=draft, message=ui.note("Saved for the problem set", text, "good", alert=True))


def _setting(name: str, value: str) -> Any:
    """A typed value as AnswerConfig takes it; empty is unset."""
    if name == "labels":
        return tuple(part.strip() for part in value.split(",") if part.strip())
    text = value if name == "pattern" else value.strip()
    return text or None


def _ticked(seen: Shown, tokens: str) -> frozenset[str]:
    wanted = set(tokens.split(","))
    return frozenset(each for spellings in seen.spellings() for each in spellings if token(each) in wanted)


def _toggled(seen: Shown, chosen: Collection[str], wanted: str) -> frozenset[str]:
    own = next((each for each in seen.spellings() if token(each[0]) == wanted), [])
    return frozenset(set(chosen) - set(own) if set(own) <= set(chosen) else set(chosen) | set(own))


def said(event: gr.EventData) -> tuple[str, str]:
    """(what, value) of a click or a changed field; both come from the browser."""
    data = event._data if isinstance(event._data, dict) else {}
    what, _, value = str(data.get("value", ""))[:_MAX_SAID].partition(":")
    return what, value
