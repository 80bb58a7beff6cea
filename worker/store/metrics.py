"""Metric series: reduced where they lie, so that a page never reads 100,000 rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence

from worker.rows import SeriesPoint
from worker.store.connection import Connected

# A bucket is `step / width`, with the width a whole number of steps: the points drawn do not move while the run
# goes on, only when the width grows. The least and the greatest value of a bucket are kept: a spike stays visible.
_SERIES = """
SELECT name, min(step), avg(value), min(value), max(value) FROM metrics
WHERE run_id = :run AND name IN (SELECT value FROM json_each(:names)) GROUP BY name, step / :width ORDER BY name, step
"""

_LAST_STEP = """
SELECT max(last) FROM (
  SELECT (SELECT max(step) FROM metrics WHERE run_id = :run AND name = names.value) AS last
  FROM json_each(:names) AS names
)
"""

# Skips from name to name through the primary key instead of scanning every row of the run.
_NAMES = """
WITH RECURSIVE found(name) AS (
  SELECT min(name) FROM metrics WHERE run_id = :run
  UNION ALL
  SELECT (SELECT min(name) FROM metrics WHERE run_id = :run AND name > found.name) FROM found WHERE found.name NOT NULL
)
SELECT name FROM found WHERE name NOT NULL
"""

_AT = """
SELECT step, value FROM metrics
WHERE run_id = :run AND name = :name AND step IN (SELECT value FROM json_each(:steps))
"""

_LATEST = """
SELECT step, value FROM metrics WHERE run_id = :run AND name = :name
AND step <= (SELECT step FROM runs WHERE id = :run) ORDER BY step DESC LIMIT 1
"""


class MetricSeries(Connected):
    """The table `metrics`."""

    def metric_names(self, run_id: int) -> list[str]:
        """Every name the run has values of, those of the phases (`seconds.…`) included."""
        return [row["name"] for row in self.rows(_NAMES, {"run": run_id})]

    def metric_series(self, run_id: int, names: Sequence[str], max_points: int = 400) -> dict[str, list[SeriesPoint]]:
        """(step, mean, least, greatest) per bucket, at most `max_points` per name. Every asked name is a key.

        `step` is the first of the bucket. Where every step has its own bucket, the three values are the same.
        """
        series: dict[str, list[SeriesPoint]] = {name: [] for name in names}
        arguments = {"run": run_id, "names": json.dumps(list(names))}
        row = self.row(_LAST_STEP, arguments)
        if row is None or row[0] is None:
            return series
        width = -(-(int(row[0]) + 1) // max(1, max_points))
        for name, step, mean, least, greatest in self.rows(_SERIES, {**arguments, "width": width}):
            series[name].append((step, mean, least, greatest))
        return series

    def metric_at(self, run_id: int, name: str, steps: Collection[int]) -> dict[int, float | None]:
        """The value at each of these steps; a step without one is no key."""
        found = self.rows(_AT, {"run": run_id, "name": name, "steps": json.dumps(sorted(steps))})
        return {row["step"]: row["value"] for row in found}

    def latest_metrics(self, run_id: int) -> dict[str, float | None]:
        """The newest value of every name, of a run that was rolled back the one at the step that it went back to."""
        return {name: value for name, (_, value) in self._latest(run_id).items()}

    def metrics_csv(self, run_id: int) -> str:
        """All metrics, one line per step and one column per name; an empty cell is an unknown value."""
        names = self.metric_names(run_id)
        steps: dict[int, dict[str, float | None]] = {}
        for row in self.rows("SELECT step, name, value FROM metrics WHERE run_id = ?", (run_id,)):
            steps.setdefault(row["step"], {})[row["name"]] = row["value"]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["step", *names])
        for step in sorted(steps):
            known = steps[step]
            writer.writerow([step, *("" if known.get(name) is None else repr(known[name]) for name in names)])
        return text.getvalue()

    def _latest(self, run_id: int) -> dict[str, tuple[int, float | None]]:
        found = {}
        for name in self.metric_names(run_id):
            row = self.row(_LATEST, {"run": run_id, "name": name})
            if row is not None:
                found[name] = (row["step"], row["value"])
        return found
