import pytest

from ttrl_engine.config import EvalConfig
from ttrl_engine.evaluate import Exam, Marks, draw_exam, report
from ttrl_engine.events import ProblemScore, Split
from ttrl_engine.problems import Problem

PROBLEMS = tuple(Problem(str(i), f"What is {i}?") for i in range(40))
REFERENCES = {str(i): str(i) for i in range(30)}


def marks(*right: int, k: int = 4) -> Marks:
    scores = tuple(ProblemScore(str(i), k, count, str(i), count > k / 2) for i, count in enumerate(right))
    return Marks(scores, 12.0, 0.0)


def exam(max_problems: int | None = None, seed: int = 0) -> Exam:
    drawn = draw_exam(Split.ADAPT, "sums", PROBLEMS, REFERENCES, EvalConfig(max_problems=max_problems), seed)
    assert drawn is not None
    return drawn


def test_only_problems_with_a_reference_are_asked() -> None:
    drawn = exam()
    assert [problem.id for problem in drawn.problems] == [str(i) for i in range(30)]
    assert draw_exam(Split.ADAPT, "sums", PROBLEMS[30:], REFERENCES, EvalConfig(), 0) is None


def test_a_smaller_exam_is_drawn_by_the_seed_and_not_by_the_answers() -> None:
    ids = [problem.id for problem in exam(10).problems]
    assert len(ids) == 10
    assert ids == [problem.id for problem in exam(10).problems]
    assert ids != [problem.id for problem in exam(10, seed=1).problems]
    other = draw_exam(Split.ADAPT, "sums", PROBLEMS, dict.fromkeys(REFERENCES, "0"), EvalConfig(max_problems=10), 0)
    assert other is not None
    assert ids == [problem.id for problem in other.problems]


def test_rates_by_hand() -> None:
    event = report(exam(2), marks(4, 1), None, 0, from_cache=False)
    assert (event.avg, event.maj, event.pass_k) == (0.625, 0.5, 1.0)
    assert event.gain is None
    assert event.avg_low <= event.avg <= event.avg_high


def test_the_gain_is_paired_with_the_base() -> None:
    base = marks(0, 1, 2, 3, 0, 1, 2, 2)
    event = report(exam(8), marks(1, 2, 3, 4, 1, 2, 3, 4), base, 10, from_cache=False)
    assert event.gain is not None
    assert event.gain == pytest.approx(0.28125)
    assert event.gain_low is not None
    assert event.gain_high is not None
    # Nearly every problem gained the same: paired, there is no doubt of a gain, although the problems differ much.
    assert 0.0 < event.gain_low <= event.gain <= event.gain_high


def test_no_gain_is_not_established() -> None:
    event = report(exam(4), marks(4, 0, 2, 2), marks(0, 4, 2, 2), 10, from_cache=False)
    assert event.gain_low is not None
    assert event.gain_high is not None
    assert event.gain_low < 0 < event.gain_high


def test_marks_survive_a_checkpoint() -> None:
    assert Marks.from_dict(marks(1, 2).as_dict()) == marks(1, 2)
