"""Spot checks: problems drawn at random, and what a person said about their labels.

They measure a run and feed nothing: no job reads these tables, and a verdict never becomes a reference answer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from ttrl_engine.errors import DataError
from worker.rows import LabelRow, SpotCheckRow, SpotSaid, SpotVerdictRow
from worker.store.connection import Connected, now

SPOT_CHECK_SIZE = 20
MAX_ANSWER = 400
"""Longest answer a person may give, in characters."""

# Both read only the covering index elections_by_problem. SQLite takes the other columns of a max() from its row.
_NEWEST = """
SELECT max(step) AS step, problem_id, label, consensus, label_correct FROM elections INDEXED BY elections_by_problem
WHERE run_id = ? GROUP BY problem_id
"""
_HISTORY = """
SELECT step, problem_id, label, consensus, label_correct FROM elections INDEXED BY elections_by_problem
WHERE run_id = ? AND problem_id IN (SELECT value FROM json_each(?)) ORDER BY step, problem_id
"""
_ELIGIBLE = """
SELECT problem_id FROM problems WHERE set_id = (SELECT set_id FROM runs WHERE id = :run) AND reference IS NULL
  AND EXISTS (SELECT 1 FROM elections WHERE run_id = :run AND elections.problem_id = problems.problem_id)
ORDER BY idx
"""


class SpotChecks(Connected):
    """The tables `spot_checks` and `spot_verdicts`."""

    def newest_labels(self, run_id: int) -> list[LabelRow]:
        """What each problem that voted elected last."""
        return [_label_row(dict(row)) for row in self.rows(_NEWEST, (run_id,))]

    def label_history(self, run_id: int, problem_ids: Sequence[str]) -> list[LabelRow]:
        """What these problems elected, first step first."""
        return [_label_row(dict(row)) for row in self.rows(_HISTORY, (run_id, json.dumps(list(problem_ids))))]

    def spot_check_pool(self, run_id: int) -> list[str]:
        """The problems a spot check is drawn of: without a reference answer, and voted on at least once."""
        return [row["problem_id"] for row in self.rows(_ELIGIBLE, {"run": run_id})]

    def draw_spot_check(self, run_id: int, num_problems: int = SPOT_CHECK_SIZE) -> SpotCheckRow:
        """Draw a simple random sample, without replacement, of `spot_check_pool`; it becomes the run's present check.

        The seed is the run's plus the number of earlier draws, so a draw can be repeated and not be chosen. Raises
        DataError where there is nothing to draw of.
        """
        with self.writing(run_id) as connection:
            run = connection.execute("SELECT seed, step FROM runs WHERE id = ?", (run_id,)).fetchone()
            pool = [row["problem_id"] for row in connection.execute(_ELIGIBLE, {"run": run_id})]
            if run is None or not pool:
                raise DataError(
                    "There is nothing to draw: no problem without a reference answer has voted yet. Wait for the first "
                    "vote of this run."
                )
            earlier = connection.execute("SELECT count(*) FROM spot_checks WHERE run_id = ?", (run_id,)).fetchone()[0]
            seed = int(run["seed"]) + int(earlier)
            drawn = random.Random(seed).sample(pool, min(num_problems, len(pool)))
            connection.execute(
                "INSERT INTO spot_checks (run_id, seed, step, num_eligible, problems_json, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, seed, run["step"], len(pool), json.dumps(drawn), now()),
            )
        found = self.spot_check(run_id)
        assert found is not None
        return found

    def spot_check(self, run_id: int) -> SpotCheckRow | None:
        """The present check of the run: the last that was drawn."""
        row = self.row(
            "SELECT *, (SELECT count(*) FROM spot_checks WHERE run_id = :run) AS number FROM spot_checks"
            " WHERE run_id = :run ORDER BY id DESC LIMIT 1",
            {"run": run_id},
        )
        if row is None:
            return None
        values = dict(row)
        problem_ids = tuple(json.loads(values.pop("problems_json")))
        return SpotCheckRow(**values, problem_ids=problem_ids)

    def spot_verdicts(self, check_id: int) -> list[SpotVerdictRow]:
        """What was said, in the order it was said."""
        found = self.rows("SELECT * FROM spot_verdicts WHERE check_id = ? ORDER BY id", (check_id,))
        return [SpotVerdictRow(**dict(row)) for row in found]

    def say_spot_verdict(
        self, check: SpotCheckRow, problem_id: str, step: int, said: SpotSaid, text: str | None = None
    ) -> None:
        """Keep one verdict. `text` is the answer that was typed, or the label of `step` that was judged.

        Raises DataError for a problem that was not drawn and for an answer that is empty, too long or no Unicode.
        """
        if problem_id not in check.problem_ids:
            raise DataError("This problem is not among those that were drawn. Reload the page and go on from there.")
        if said == "answer":
            _check_answer(text or "")
        with self.writing(check.run_id) as connection:
            connection.execute(
                "INSERT INTO spot_verdicts (check_id, problem_id, step, said, text, at) VALUES (?, ?, ?, ?, ?, ?)",
                (check.id, problem_id, step, said, text, now()),
            )

    def undo_spot_verdict(self, check: SpotCheckRow) -> SpotVerdictRow | None:
        """Take back the last verdict and return it; None where there is none."""
        with self.writing(check.run_id) as connection:
            row = connection.execute(
                "SELECT * FROM spot_verdicts WHERE check_id = ? ORDER BY id DESC LIMIT 1", (check.id,)
            ).fetchone()
            if row is None:
                return None
            connection.execute("DELETE FROM spot_verdicts WHERE id = ?", (row["id"],))
        return SpotVerdictRow(**dict(row))


def _check_answer(text: str) -> None:
    if not text.strip():
        raise DataError("The answer is empty. Type one, or choose “I don't know”.")
    if len(text) > MAX_ANSWER:
        raise DataError(f"The answer has {len(text):,} characters; {MAX_ANSWER} are taken. Type only the final answer.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("The answer holds a character that is no valid Unicode. Type it again.") from None


def _label_row(values: dict[str, object]) -> LabelRow:
    known = values["label_correct"]
    return LabelRow(**{**values, "label_correct": None if known is None else bool(known)})  # type: ignore[arg-type]  # as the table is typed
