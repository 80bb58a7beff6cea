"""Elections: all of one step, all of one problem, and every problem at a glance."""

from __future__ import annotations

import json
import sqlite3

from worker.rows import ClassCountRow, ElectionRow, ProblemOverviewRow
from worker.store.connection import Connected

# Reads only the covering index elections_by_problem. Flips are counted among elected labels, each against the label
# before it; that look-up is twice as fast as a window function.
_OVERVIEW = """
WITH spans AS (
  SELECT problem_id, count(*) AS num_elections, min(step) AS first_step, max(step) AS last_step
  FROM elections INDEXED BY elections_by_problem WHERE run_id = :run GROUP BY problem_id
), flips AS (
  SELECT problem_id, COALESCE(sum(label <> (
    SELECT label FROM elections INDEXED BY elections_by_problem
    WHERE run_id = now.run_id AND problem_id = now.problem_id AND step < now.step AND label NOT NULL
    ORDER BY step DESC LIMIT 1
  )), 0) AS flips
  FROM elections AS now INDEXED BY elections_by_problem WHERE run_id = :run AND label NOT NULL GROUP BY problem_id
)
SELECT spans.problem_id, COALESCE(problems.prompt, '') AS prompt, problems.reference, spans.num_elections,
  spans.last_step, last.label AS last_label, first.label AS first_label, first.consensus AS consensus_first,
  last.consensus AS consensus_last, last.margin AS margin_last, COALESCE(flips.flips, 0) AS flips, last.label_correct,
  problems.idx
FROM spans
JOIN elections AS first INDEXED BY elections_by_problem
  ON first.run_id = :run AND first.problem_id = spans.problem_id AND first.step = spans.first_step
JOIN elections AS last INDEXED BY elections_by_problem
  ON last.run_id = :run AND last.problem_id = spans.problem_id AND last.step = spans.last_step
LEFT JOIN flips ON flips.problem_id = spans.problem_id
LEFT JOIN problems ON problems.problem_id = spans.problem_id
  AND problems.set_id = (SELECT set_id FROM runs WHERE id = :run)
ORDER BY COALESCE(problems.idx, 1e18), spans.problem_id
"""


class Elections(Connected):
    """The table `elections`."""

    def elections_at(self, run_id: int, step: int | None = None) -> list[ElectionRow]:
        """The elections of one step; of the newest if none is named."""
        if step is None:
            newest = self.row("SELECT max(step) FROM elections WHERE run_id = ?", (run_id,))
            step = None if newest is None else newest[0]
        found = self.rows("SELECT * FROM elections WHERE run_id = ? AND step = ? ORDER BY problem_id", (run_id, step))
        return [_election_row(row) for row in found]

    def election_history(self, run_id: int, problem_id: str) -> list[ElectionRow]:
        """The elections of one problem, first step first."""
        found = self.rows(
            "SELECT * FROM elections WHERE run_id = ? AND problem_id = ? ORDER BY step", (run_id, problem_id)
        )
        return [_election_row(row) for row in found]

    def problem_overview(self, run_id: int) -> list[ProblemOverviewRow]:
        """Every problem that voted, in the order of its set."""
        return [
            ProblemOverviewRow(**{**dict(row), "label_correct": _truth(row["label_correct"])})
            for row in self.rows(_OVERVIEW, {"run": run_id})
        ]


def _election_row(row: sqlite3.Row) -> ElectionRow:
    values = dict(row)
    classes = tuple(ClassCountRow(*part) for part in json.loads(values.pop("classes_json")))
    values.pop("run_id")
    return ElectionRow(**{**values, "label_correct": _truth(row["label_correct"])}, classes=classes)


def _truth(value: int | None) -> bool | None:
    return None if value is None else bool(value)
