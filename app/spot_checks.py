"""What a spot check says of a run: each drawn problem's label held against what a person said about it.

A verdict is used here and nowhere else. It is no reference answer: no run, no reward and no evaluation reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from ttrl_engine.calibration import Calibration, calibration
from ttrl_engine.config import AnswerConfig
from ttrl_engine.errors import StudioError
from ttrl_engine.problems import Problem
from ttrl_engine.stats import wilson_interval
from ttrl_engine.tasks import task_for
from worker.rows import LabelRow, ProblemRow, RunRow, SpotCheckRow, SpotVerdictRow
from worker.store import Store

LEAST = 5
"""With fewer checked labels no accuracy is shown: the interval would span most of the scale."""


class Standing(StrEnum):
    """How a label stands after what was said. An OPEN one is another than the label that was rejected."""

    RIGHT = "right"
    WRONG = "wrong"
    OPEN = "open"
    SKIPPED = "skipped"
    PENDING = "pending"


@dataclass(frozen=True)
class Tally:
    """The checked labels of one step. `num_open` may be right or wrong, and the interval holds both."""

    step: int
    num_right: int
    num_wrong: int
    num_open: int

    @property
    def num_judged(self) -> int:
        """Labels known to be right or wrong."""
        return self.num_right + self.num_wrong

    @property
    def accuracy(self) -> float | None:
        """Share of right ones; None with too few."""
        return self.num_right / self.num_judged if self.num_judged >= LEAST else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; open labels count as wrong at its low end and as right at its high end."""
        total = self.num_judged + self.num_open
        return wilson_interval(self.num_right, total)[0], wilson_interval(self.num_right + self.num_open, total)[1]


@dataclass(frozen=True)
class Checked:
    """One drawn problem: its newest label, what was said, and how the label stands."""

    problem: ProblemRow
    newest: LabelRow
    said: tuple[SpotVerdictRow, ...]
    standing: Standing

    @property
    def to_ask(self) -> bool:
        """Whether a person should look at it now."""
        if self.standing is Standing.OPEN:
            # Said "I don't know" to the label it has now: not asked again until the label changes.
            last = self.said[-1]
            return not (last.said == "skip" and last.text == self.newest.label)
        return self.standing is Standing.PENDING


@dataclass(frozen=True)
class SpotCheck:
    """The present check of a run. `tallies` has one entry per step at which a drawn problem voted."""

    row: SpotCheckRow
    problems: tuple[Checked, ...]
    tallies: tuple[Tally, ...]
    calibration: Calibration | None

    @property
    def now(self) -> Tally:
        """The labels that the drawn problems have now."""
        return self.tallies[-1]

    @property
    def next(self) -> Checked | None:
        """The first one to ask about, in the order of the draw."""
        return next((each for each in self.problems if each.to_ask), None)

    @property
    def num_skipped(self) -> int:
        """Drawn problems about which nothing is known."""
        return sum(each.standing is Standing.SKIPPED for each in self.problems)


def spot_check(store: Store, run: RunRow) -> SpotCheck | None:
    """The present check of the run, read anew; None where none was drawn."""
    row = store.spot_check(run.id)
    if row is None:
        return None
    rule_json = answer_rule(store, run).model_dump_json()
    history = store.label_history(run.id, row.problem_ids)
    said: dict[str, list[SpotVerdictRow]] = {}
    for verdict in store.spot_verdicts(row.id):
        said.setdefault(verdict.problem_id, []).append(verdict)
    newest = {label.problem_id: label for label in history}
    problems = {name: store.problem(run.set_id, name) for name in row.problem_ids}
    found = []
    for name in row.problem_ids:
        problem, label = problems[name], newest.get(name)
        if problem is not None and label is not None:
            own = tuple(said.get(name, ()))
            found.append(Checked(problem, label, own, standing(rule_json, problem, own, label.label)))
    return SpotCheck(row, tuple(found), _tallies(rule_json, found, history), _calibration(found))


def answer_rule(store: Store, run: RunRow) -> AnswerConfig:
    """How the run reads and compares answers."""
    chosen_set = store.problem_set(run.set_id)
    kind = AnswerConfig() if chosen_set is None else AnswerConfig(kind=chosen_set.kind)
    return run.config.answers.over(kind)


def standing(rule_json: str, problem: ProblemRow, said: Sequence[SpotVerdictRow], label: str | None) -> Standing:
    """How a label stands under a rule (an `AnswerConfig` as JSON).

    An answer or a confirmed label decides about every label, a rejected one about itself. A vote that elected nothing
    is not right, as in the metric `label_accuracy`.
    """
    spoken = [each for each in said if each.said != "skip"]
    if not spoken:
        return Standing.SKIPPED if said else Standing.PENDING
    if label is None:
        return Standing.WRONG
    asked = Problem(problem.problem_id, problem.prompt, problem.choices)
    answers = [each.text for each in spoken if each.said in ("answer", "right") and each.text is not None]
    if answers:
        return Standing.RIGHT if _same(rule_json, asked, label, answers[-1]) else Standing.WRONG
    rejected = [each.text for each in spoken if each.text is not None]
    return Standing.WRONG if any(_same(rule_json, asked, label, each) for each in rejected) else Standing.OPEN


@lru_cache(maxsize=4096)
def _same(rule_json: str, problem: Problem, label: str, answer: str) -> bool:
    """Whether the run would take both for one answer."""
    return task_for(AnswerConfig.model_validate_json(rule_json)).equivalent(label, answer, problem)


def unreadable(rule: AnswerConfig, problem: ProblemRow, answer: str) -> str | None:
    """Why an answer cannot be compared, or None where it can."""
    asked = Problem(problem.problem_id, problem.prompt, problem.choices)
    try:
        reading = task_for(rule).keys([answer], asked)[answer]
    except StudioError as refusal:
        return str(refusal)
    return reading.reason if reading.key is None else None


def _tallies(rule_json: str, problems: Sequence[Checked], history: Sequence[LabelRow]) -> tuple[Tally, ...]:
    """Step by step, over the label that each problem had by then."""
    spoken = {each.problem.problem_id: each for each in problems if any(said.said != "skip" for said in each.said)}
    known: dict[tuple[str, str | None], Standing] = {}
    stands: dict[str, Standing] = {}
    tallies: dict[int, Tally] = {}
    for label in history:
        checked = spoken.get(label.problem_id)
        if checked is not None:
            case = (label.problem_id, label.label)
            if case not in known:
                known[case] = standing(rule_json, checked.problem, checked.said, label.label)
            stands[label.problem_id] = known[case]
        held = list(stands.values())
        tallies[label.step] = Tally(
            label.step, held.count(Standing.RIGHT), held.count(Standing.WRONG), held.count(Standing.OPEN)
        )
    return tuple(tallies.values()) or (Tally(0, 0, 0, 0),)


def _calibration(problems: Sequence[Checked]) -> Calibration | None:
    judged = {Standing.RIGHT: True, Standing.WRONG: False}
    known = [each for each in problems if each.newest.label is not None and each.standing in judged]
    return of_labels([each.newest for each in known], {each.newest.problem_id: judged[each.standing] for each in known})


def of_labels(labels: Sequence[LabelRow], correct: Mapping[str, bool]) -> Calibration | None:
    """Consensus against correctness of elected labels; None with too few."""
    if len(labels) < LEAST:
        return None
    return calibration([each.consensus for each in labels], [correct[each.problem_id] for each in labels])


def of_references(labels: Sequence[LabelRow]) -> Calibration | None:
    """The same by reference answers, over the problems that have one."""
    known = {each.problem_id: each.label_correct for each in labels if each.label is not None}
    correct = {name: right for name, right in known.items() if right is not None}
    return of_labels([each for each in labels if each.problem_id in correct], correct)
