"""Everything the report says, read once from the store; page and print only lay it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluations import SplitSeries, split_series
from app.figures import METRICS, Panel, run_panels
from app.gain_curves import gain_curves
from app.report.labels import Labels, label_panels, read_labels
from app.report.movers import Movers, find_movers
from app.report.panels import gain_panel
from worker import health
from worker.rows import AlarmRow, EvaluationRow, NoteRow, RunRow
from worker.store import Store


@dataclass(frozen=True)
class Control:
    """A run on the same model and problems that was rewarded by lot, and its newest gains."""

    run: RunRow
    splits: tuple[SplitSeries, ...]


@dataclass(frozen=True)
class Evidence:
    """One run as it stood at `made_at` (unix seconds). `num_siblings` counts other runs of this model on this set."""

    run: RunRow
    made_at: float
    splits: tuple[SplitSeries, ...]
    panels: tuple[Panel, ...]
    gain_panels: tuple[Panel, ...]
    labels: Labels
    label_panels: tuple[Panel, ...]
    consensus: tuple[float, float] | None
    alarms: tuple[AlarmRow, ...]
    notes: tuple[NoteRow, ...]
    movers: Movers | None
    controls: tuple[Control, ...]
    num_siblings: int
    seconds: float | None
    machine: dict[str, str]

    @property
    def evaluated(self) -> Sequence[EvaluationRow]:
        """The newest evaluation after step 0 of every split."""
        return [split.newest for split in self.splits if split.newest.step > 0]


def gather(store: Store, run: RunRow, now: float) -> Evidence:
    """Read what there is; nothing has to be there but the run."""
    series, evaluations = store.metric_series(run.id, METRICS), store.evaluations(run.id)
    alarms = store.alarms(run.id)
    splits = tuple(split_series(store.standing_evaluations(run.id)))
    agreed = [point[1] for point in series["consensus"] if point[1] is not None and point[0] <= run.step]
    others = [
        each
        for each in store.runs(archived=True, limit=1000)
        if each.id != run.id and (each.data_hash, each.model) == (run.data_hash, run.model)
    ]
    lots = [each for each in others if each.config.vote.reward == "random" and each.step > 0]
    labels = read_labels(store, run)
    ended = run.job.finished_at if run.job.is_terminal else now
    return Evidence(
        run=run,
        made_at=now,
        splits=splits,
        panels=tuple(run_panels(series, evaluations, alarms)),
        gain_panels=tuple(gain_panel(index, each) for index, each in enumerate(gain_curves(store, run))),
        labels=labels,
        label_panels=tuple(label_panels(labels)),
        consensus=(agreed[0], agreed[-1]) if agreed else None,
        alarms=tuple(alarms),
        notes=tuple(store.notes(run.id)),
        movers=find_movers(store, run, splits),
        controls=tuple(Control(each, tuple(split_series(store.standing_evaluations(each.id)))) for each in lots[:3]),
        num_siblings=len(others) - len(lots),
        seconds=ended - run.job.started_at if run.job.started_at is not None and ended is not None else None,
        machine=_machine(run),
    )


def _machine(run: RunRow) -> dict[str, str]:
    """What computed the run as far as it was recorded, and what wrote the report."""
    here = health.versions()
    device = f"{run.device}, {run.threads} threads, {run.sampler} sampler" if run.device else "not started yet"
    return {"Computed on": device, "Report written on": f"{here['system']}, Python {here['python']}"}
