"""Whether the labels were right, by a person's word and by the references, and whether the consensus tells."""

from __future__ import annotations

from dataclasses import dataclass

from app.figures import Panel
from app.format import interval, percent
from app.pages.run_spot_view import calibration_sentence, counts_words, spot_caveats
from app.report.panels import calibration_panel, spot_panel
from app.spot_checks import LEAST, SpotCheck, of_references, spot_check
from ttrl_engine.calibration import Calibration
from worker.rows import RunRow
from worker.store import Store
from worker.store.spot_checks import SPOT_CHECK_SIZE


@dataclass(frozen=True)
class Labels:
    """What is known of the labels that the problems have now; None is unknown."""

    check: SpotCheck | None
    by_references: Calibration | None

    @property
    def by_check(self) -> Calibration | None:
        """The calibration of the labels that a person judged."""
        return self.check.calibration if self.check is not None else None


def read_labels(store: Store, run: RunRow) -> Labels:
    """The spot check and both calibrations as they stand."""
    known = of_references(store.newest_labels(run.id)) if run.set_num_references else None
    return Labels(spot_check(store, run), known)


def label_words(run: RunRow, labels: Labels) -> list[str]:
    """A sentence or more per source; what is unknown says how it comes to be known."""
    known = ((labels.by_check, "by the spot check"), (labels.by_references, "by reference answers"))
    bins = [f"Consensus against correctness. {calibration_sentence(found, by)}" for found, by in known if found]
    return [*_check_words(run, labels), *_reference_words(run, labels), *bins]


def label_panels(labels: Labels) -> list[Panel]:
    """The checked labels over the steps, and consensus against correctness by each source that is known."""
    panels = [spot_panel(labels.check)] if labels.check is not None and labels.check.now.accuracy is not None else []
    known = ((labels.by_check, "spot check"), (labels.by_references, "references"))
    return panels + [calibration_panel(found, by) for found, by in known if found is not None]


def _check_words(run: RunRow, labels: Labels) -> list[str]:
    check = labels.check
    how = f"Open the run's page, choose Spot check, and judge {SPOT_CHECK_SIZE} labels drawn at random."
    if check is None:
        return [f"By a person's word: unknown. Nobody has checked labels of this run. {how}"]
    now = check.now
    if now.accuracy is None:
        return [
            f"By a person's word: unknown. {now.num_judged} of at least {LEAST} labels have been judged so far. "
            "Go on with the spot check on the run's page."
        ]
    return [
        f"By a person's word: {percent(now.accuracy)} {interval(*now.interval)} of the labels at step {now.step} are "
        f"right (spot check, {counts_words(check)}, 95 % Wilson interval).",
        " ".join(spot_caveats(run, check)),
    ]


def _reference_words(run: RunRow, labels: Labels) -> list[str]:
    if not run.set_num_references:
        return ["By reference answers: unknown, this set has none."]
    if labels.by_references is None:
        return [f"By reference answers: unknown, fewer than {LEAST} problems with one have elected a label yet."]
    found = labels.by_references
    return [
        f"By reference answers: {found.num_correct:,} of {found.num_labels:,} newest labels of the problems trained "
        f"on are right ({percent(found.accuracy)}). Problems whose newest vote elected nothing are left out."
    ]
