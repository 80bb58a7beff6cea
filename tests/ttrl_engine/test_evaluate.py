import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ttrl_engine.config import DataConfig, EvalConfig
from ttrl_engine.evaluate import Exam, Marks, draw_exam, report, take_exam
from ttrl_engine.events import ProblemScore, Split
from ttrl_engine.problems import Problem
from ttrl_engine.prompts import PromptFormat
from ttrl_engine.sampler import NO_WATCHER, OnProgress, Rollout, SampleRequest, SamplingParams, ShouldStop, Watcher
from ttrl_engine.tasks import get_task

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


def test_which_held_out_problems_are_polled_does_not_depend_on_references() -> None:
    def drawn(references: dict[str, str]) -> Exam:
        found = draw_exam(Split.HELD_OUT, "sums", PROBLEMS, references, EvalConfig(max_problems=10), 0)
        assert found is not None
        return found

    all_known = {problem.id: "1" for problem in PROBLEMS}
    whole, some, none = drawn(all_known), drawn(dict(REFERENCES)), drawn({})
    assert whole.polled == some.polled == none.polled
    assert {problem.id for problem in whole.problems} == whole.polled, "one asking serves both"
    assert len(some.references) == 10
    assert {problem.id for problem in some.problems} == some.polled | set(some.references)
    assert (none.references, len(none.problems)) == ({}, 10)
    assert len({whole.digest, some.digest, none.digest}) == 3


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


class Recited:
    """A sampler that gives the same texts to every prompt; the last one is cut."""

    name = "recited"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> None:
        self.answers = [tuple(tokenizer(text)["input_ids"]) for text in texts]
        self.notes: list[str] = []

    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,  # noqa: ARG002  # the protocol's
        on_progress: OnProgress,  # noqa: ARG002
        should_stop: ShouldStop,  # noqa: ARG002
        watcher: Watcher = NO_WATCHER,  # noqa: ARG002
    ) -> list[list[Rollout]]:
        rollouts = [Rollout(tokens, (0.0,) * len(tokens), "stop") for tokens in self.answers]
        rollouts[-1] = dataclasses.replace(rollouts[-1], finish="length")
        return [rollouts for _ in requests]

    def sync(self) -> None: ...

    def give_back(self) -> bool:
        return False

    def close(self) -> None: ...


def test_a_score_counts_what_could_not_be_read_and_what_was_cut(tiny_model: Path) -> None:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(tiny_model))
    drawn = exam(1)
    right = drawn.problems[0].id
    texts = [f"The answer is {right}.", "The answer is 99.", "no idea", f"It is {right} and then"]
    prompts = PromptFormat(tokenizer, get_task("number"), DataConfig(), "x/y")
    config, params = EvalConfig(num_samples=4), SamplingParams(0.6, 0.95, 16, (1,))
    found = take_exam(
        drawn, Recited(tokenizer, texts), prompts, config, params, 0, lambda _done, _total: None, lambda: False
    )
    [score] = found.scores
    assert (score.num_samples, score.num_correct, score.num_unparsed, score.num_truncated) == (4, 1, 2, 1)
    assert score.mean_length == sum(map(len, texts)) / 4


def test_marks_of_an_older_version_know_nothing_of_reading() -> None:
    [old] = Marks.from_dict(
        {
            "scores": [{"problem_id": "1", "num_samples": 4, "num_correct": 1, "maj_answer": "1", "maj_correct": True}],
            "mean_length": 12,
            "truncated": 0,
        }
    ).scores
    assert (old.num_unparsed, old.num_truncated, old.mean_length) == (None, None, None)
