"""Every change of a pseudo-label: which problem, when, from what to what, and whether it helped where that is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from worker.rows import LabelFlipCounts, LabelFlipRow
from worker.store.connection import Connected

# Elected labels only: an abstention in between is passed over. Reads nothing but the covering index; a look-up of the
# election before is twice as fast as window functions.
_FLIPS = """
WITH flips AS (
  SELECT now.problem_id, now.step, now.label, now.consensus, before.step AS step_before, before.label AS label_before,
    before.consensus AS consensus_before, CASE
      WHEN now.label_correct IS NULL OR before.label_correct IS NULL THEN 'unknown'
      WHEN now.label_correct > before.label_correct THEN 'rescue'
      WHEN now.label_correct < before.label_correct THEN 'harm'
      WHEN now.label_correct THEN 'both_right'
      ELSE 'both_wrong' END AS kind
  FROM elections AS now INDEXED BY elections_by_problem
  CROSS JOIN elections AS before INDEXED BY elections_by_problem
    ON before.run_id = now.run_id AND before.problem_id = now.problem_id AND before.step = (
      SELECT step FROM elections INDEXED BY elections_by_problem
      WHERE run_id = now.run_id AND problem_id = now.problem_id AND step < now.step AND label NOT NULL
      ORDER BY step DESC LIMIT 1
    )
  WHERE now.run_id = :run AND now.label NOT NULL AND now.label <> before.label
)
"""
_MATCHES = """
(:query = '' OR problem_id IN (SELECT problem_id FROM problems WHERE set_id = (SELECT set_id FROM runs WHERE id = :run)
  AND (prompt LIKE :pattern ESCAPE '\\' OR problem_id LIKE :pattern ESCAPE '\\')))
"""
_COUNTS = f"{_FLIPS} SELECT kind, count(*) FROM flips WHERE {_MATCHES} GROUP BY kind"  # noqa: S608 -- our own text
_PAGE = f"""{_FLIPS}, page AS (
  SELECT * FROM flips WHERE (:kind = '' OR kind = :kind) AND {_MATCHES}
  ORDER BY step DESC, problem_id LIMIT :limit OFFSET :offset
)
SELECT page.problem_id, COALESCE(problems.prompt, '') AS prompt, page.step_before, page.step, page.label_before,
  page.label, page.consensus_before, page.consensus, page.kind
FROM page LEFT JOIN problems ON problems.problem_id = page.problem_id
  AND problems.set_id = (SELECT set_id FROM runs WHERE id = :run)
ORDER BY page.step DESC, page.problem_id
"""  # noqa: S608 -- our own text
_ALL = f"""{_FLIPS}
SELECT problem_id, step_before, step, label_before, label, consensus_before, consensus, kind FROM flips
ORDER BY step, problem_id
"""  # noqa: S608 -- our own text

COLUMNS: Final = (
    "problem_id",
    "step_before",
    "step",
    "label_before",
    "label",
    "consensus_before",
    "consensus",
    "kind",
)


class LabelFlips(Connected):
    """Changes of pseudo-labels, found in the table `elections`."""

    def label_flip_counts(self, run_id: int, query: str = "") -> LabelFlipCounts:
        """How many there are of each kind, among the problems that contain `query` in prompt or id."""
        found = {str(row[0]): int(row[1]) for row in self.rows(_COUNTS, {"run": run_id, **_like(query)})}
        return LabelFlipCounts(**found)

    def label_flips(
        self, run_id: int, offset: int = 0, limit: int = 50, kind: str = "", query: str = ""
    ) -> list[LabelFlipRow]:
        """The changes, newest first; of one kind only if it is named."""
        parameters = {"run": run_id, "kind": kind, "limit": limit, "offset": offset, **_like(query)}
        return [LabelFlipRow(**dict(row)) for row in self.rows(_PAGE, parameters)]

    def label_flip_rows(self, run_id: int, batch: int = 5000) -> Iterator[list[tuple[Any, ...]]]:
        """All of them in batches, first step first, columns as in COLUMNS."""
        cursor = self.connection.execute(_ALL, {"run": run_id})
        while rows := cursor.fetchmany(batch):
            yield [tuple(row) for row in rows]

    def elections_mark(self, run_id: int) -> str:
        """Changes whenever an election of the run does, and with nothing else: two look-ups by key.

        A new attempt takes steps back and holds them again, hence its number.
        """
        row = self.row(
            "SELECT jobs.attempt, newest.step, count(elections.problem_id), count(elections.label_correct) FROM runs"
            " JOIN jobs ON jobs.id = runs.job_id"
            " JOIN (SELECT max(step) AS step FROM elections WHERE run_id = :run) AS newest"
            " LEFT JOIN elections ON elections.run_id = :run AND elections.step = newest.step WHERE runs.id = :run",
            {"run": run_id},
        )
        return "" if row is None else "-".join(str(value) for value in row)


def _like(query: str) -> dict[str, str]:
    escaped = query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return {"query": query, "pattern": f"%{escaped}%"}
