"""Problem sets: stored once per content, read back page by page."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ttrl_engine.config import AnswerConfig
from ttrl_engine.errors import DataError
from ttrl_engine.patterns import require_fast
from ttrl_engine.problems import BUNDLED_PREFIX, Problem, ProblemSet
from worker.rows import ProblemRow, ProblemSetRow
from worker.store.connection import Connected, now

SET_PREFIX = "set:"
"""How a config names a stored set: `set:ID`."""

_SELECT = """
SELECT problem_sets.*, (SELECT count(*) FROM runs WHERE runs.set_id = problem_sets.id) AS num_runs FROM problem_sets
"""

_MATCHES = """
FROM problems WHERE set_id = :set_id AND (:query = '' OR prompt LIKE :pattern ESCAPE '\\'
  OR problem_id LIKE :pattern ESCAPE '\\' OR reference LIKE :pattern ESCAPE '\\')
"""


class ProblemSets(Connected):
    """The tables `problem_sets` and `problems`."""

    def add_problem_set(
        self, problem_set: ProblemSet, source: str, notes: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> str:
        """Store the set and return its id. The same content gives the same id and is stored once."""
        _check(problem_set.rule)
        set_id = problem_set.content_hash
        head = (set_id, problem_set.name, problem_set.kind, len(problem_set.problems), problem_set.num_references)
        notes_json = json.dumps(dict(notes) if isinstance(notes, Mapping) else {"notes": list(notes or ())})
        try:
            with self.writing() as connection:
                known = connection.execute("UPDATE problem_sets SET archived = 0 WHERE id = ?", (set_id,)).rowcount
                if known:
                    if problem_set.rule != AnswerConfig():  # chosen with this upload; none given takes none away
                        rule = (_rule_json(problem_set.rule), set_id)
                        connection.execute("UPDATE problem_sets SET rule_json = ? WHERE id = ?", rule)
                    return set_id
                connection.execute(
                    "INSERT INTO problem_sets (id, name, kind, num_problems, num_references, source, created_at,"
                    " notes_json, rule_json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*head, source, now(), notes_json, _rule_json(problem_set.rule)),
                )
                connection.executemany(
                    "INSERT INTO problems (set_id, idx, problem_id, prompt, reference, choices_json)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        (set_id, idx, p.id, p.prompt, problem_set.references.get(p.id), json.dumps(p.choices))
                        for idx, p in enumerate(problem_set.problems)
                    ),
                )
        except UnicodeEncodeError as failure:
            raise DataError(
                f"The problem set {problem_set.name!r} holds text that is not valid Unicode ({failure.reason}). "
                "Save the file as UTF-8 and upload it again."
            ) from None
        return set_id

    def problem_sets(self, archived: bool = False) -> list[ProblemSetRow]:
        """All sets, newest first; archived ones only if asked for."""
        found = self.rows(_SELECT + " WHERE archived <= ? ORDER BY created_at DESC, id", (int(archived),))
        return [_problem_set_row(row) for row in found]

    def problem_set(self, set_id: str) -> ProblemSetRow | None:
        """One set, archived or not."""
        row = self.row(_SELECT + " WHERE id = ?", (set_id,))
        return None if row is None else _problem_set_row(row)

    def load_problem_set(self, set_id: str) -> ProblemSet:
        """The whole set as the engine takes it. Raises DataError if there is none with this id."""
        head = self.problem_set(set_id)
        if head is None:
            raise DataError(f"There is no problem set {set_id!r}. It may have been removed; upload it again.")
        rows = self.problems_page(set_id, 0, head.num_problems)
        return ProblemSet(
            name=head.name,
            kind=head.kind,
            problems=tuple(Problem(row.problem_id, row.prompt, row.choices) for row in rows),
            references={row.problem_id: row.reference for row in rows if row.reference is not None},
            rule=head.rule,
        )

    def derive_problem_set(
        self, set_id: str, places: Collection[int], *, words: str = "", referenced: bool = False
    ) -> str:
        """Store the problems at these places of a set, from 0, as a set of its own and return its id.

        References and rule go with them; `referenced` leaves out problems without a reference. It is named
        "… (n of m)", with `words` added. Raises DataError where nothing is left.
        """
        whole = self.load_problem_set(set_id)
        chosen = tuple(
            problem
            for place, problem in enumerate(whole.problems)
            if place in places and (not referenced or problem.id in whole.references)
        )
        if not chosen:
            raise DataError(
                "None of the chosen problems has a reference answer, so nothing can be measured on them. "
                "Leave them out instead, or choose others."
                if referenced and places
                else "No problem is left. Choose fewer problems to leave out, or others."
            )
        if len(chosen) == len(whole.problems):
            return set_id
        ids = {problem.id for problem in chosen}
        said = {
            "merges": tuple(merge for merge in whole.rule.merges if merge.problem_id in ids),
            "detached": tuple(detach for detach in whole.rule.detached if detach.problem_id in ids),
        }
        rule = whole.rule.model_copy(update=said)
        size = f"{len(chosen):,} of {len(whole.problems):,}{words}"
        name = f"{whole.name.removeprefix(BUNDLED_PREFIX)} ({size})"
        references = {problem_id: known for problem_id, known in whole.references.items() if problem_id in ids}
        return self.add_problem_set(ProblemSet(name, whole.kind, chosen, references, rule), f"{SET_PREFIX}{set_id}")

    def problems_page(self, set_id: str, offset: int = 0, limit: int = 50, query: str = "") -> list[ProblemRow]:
        """Problems in the order of the file, those that contain `query` in prompt, id or reference answer."""
        found = self.rows(
            "SELECT * " + _MATCHES + " ORDER BY idx LIMIT :limit OFFSET :offset",
            {**_search(set_id, query), "limit": limit, "offset": offset},
        )
        return [_problem_row(row) for row in found]

    def count_problems(self, set_id: str, query: str = "") -> int:
        """How many problems `problems_page` finds in all."""
        row = self.row("SELECT count(*) " + _MATCHES, _search(set_id, query))
        return 0 if row is None else int(row[0])

    def archive_problem_set(self, set_id: str, archived: bool = True) -> None:
        """Take the set out of the lists, or back in. Runs that used it keep it."""
        with self.writing() as connection:
            connection.execute("UPDATE problem_sets SET archived = ? WHERE id = ?", (int(archived), set_id))

    def save_rule(self, set_id: str, rule: AnswerConfig) -> None:
        """Keep what a person says about the answers of a set, for runs from now on.

        Runs that were started keep theirs, which is frozen in their config. Raises DataError without the set, and
        ConfigError for a rule that cannot be used.
        """
        _check(rule)
        with self.writing() as connection:
            changed = connection.execute(
                "UPDATE problem_sets SET rule_json = ? WHERE id = ?", (_rule_json(rule), set_id)
            ).rowcount
            if not changed:
                raise DataError(f"There is no problem set {set_id!r}. It may have been removed; upload it again.")

    def problem(self, set_id: str, problem_id: str) -> ProblemRow | None:
        """One problem by the id it has in its set."""
        row = self.row("SELECT * FROM problems WHERE set_id = ? AND problem_id = ?", (set_id, problem_id))
        return None if row is None else _problem_row(row)

    def problems_of(self, set_id: str | None, problem_ids: Iterable[str]) -> dict[str, ProblemRow]:
        """Those of these problems that a stored set has, by id."""
        found = self.rows(
            "SELECT * FROM problems WHERE set_id = ? AND problem_id IN (SELECT value FROM json_each(?))",
            (set_id, json.dumps(list(problem_ids))),
        )
        return {row["problem_id"]: _problem_row(row) for row in found}


def rule_from(rule_json: str) -> AnswerConfig:
    """The rule of a set from the column `rule_json`."""
    return AnswerConfig.model_validate_json(rule_json)


def _check(rule: AnswerConfig) -> None:
    if rule.pattern is not None:
        require_fast(rule.pattern)


def _rule_json(rule: AnswerConfig) -> str:
    return rule.model_dump_json(exclude_defaults=True)


def _search(set_id: str, query: str) -> dict[str, Any]:
    escaped = query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return {"set_id": set_id, "query": query, "pattern": f"%{escaped}%"}


def _problem_row(row: sqlite3.Row) -> ProblemRow:
    choices = tuple(json.loads(row["choices_json"]))
    return ProblemRow(row["idx"], row["problem_id"], row["prompt"], row["reference"], choices)


def _problem_set_row(row: sqlite3.Row) -> ProblemSetRow:
    values = dict(row)
    notes = json.loads(values.pop("notes_json"))
    rule = rule_from(values.pop("rule_json"))
    return ProblemSetRow(**{**values, "archived": bool(values["archived"])}, notes=notes, rule=rule)
