"""A policy whose words are written down beforehand, drawn from by a real run: votes, rewards, updates, evaluations and
safeguards are the real ones, on a tiny model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ttrl_engine import trainer
from ttrl_engine.config import RunConfig, parse_config
from ttrl_engine.events import AlarmRaised, Event, RunFinished
from ttrl_engine.policy import TrainRow
from ttrl_engine.problems import Problem, ProblemSet
from ttrl_engine.sampler import (
    NO_WATCHER,
    OnProgress,
    Rollout,
    SampleRequest,
    SamplingParams,
    ShouldStop,
    Watcher,
)

EXAM_TEMPERATURE = 0.6
NUM_PROBLEMS = 20  # half of them held out
PROBLEMS = ProblemSet(
    "scripted", "number", tuple(Problem(f"p{i}", f"How much is {100 + i}?") for i in range(NUM_PROBLEMS)), {}
)


@dataclass(frozen=True)
class Draw:
    """What is asked for: rollout `index` to problem number `problem` with the policy after `step` updates."""

    step: int
    problem: int
    index: int
    is_exam: bool


@dataclass(frozen=True)
class Said:
    """The words, how undecided the policy was per token (None: as the model itself would be), and whether they were
    cut at the length limit."""

    text: str
    nats: float | None = 0.5
    is_cut: bool = False


Script = Callable[[Draw], Said]


class ScriptedSampler:
    """Says what the script says of the step that the run is in."""

    name = "scripted"

    def __init__(self, run: trainer._Run, script: Script) -> None:
        self.notes: list[str] = []
        self._run, self._script = run, script

    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,  # noqa: ARG002  # the protocol's
        should_stop: ShouldStop,  # noqa: ARG002  # the protocol's
        watcher: Watcher = NO_WATCHER,
    ) -> list[list[Rollout]]:
        """The words as tokens of the tiny model."""
        drawn = [
            [self._rollout(request, index, params) for index in range(request.num_rollouts)] for request in requests
        ]
        for number, rollouts in enumerate(drawn):
            for index, rollout in enumerate(rollouts):
                watcher.finished(number, index, rollout)
        return drawn

    def _rollout(self, request: SampleRequest, index: int, params: SamplingParams) -> Rollout:
        tokenizer = self._run.policy.tokenizer
        asked = re.search(r"How much is (\d+)", str(tokenizer.decode(list(request.prompt_ids))))
        assert asked is not None
        is_exam = params.temperature == EXAM_TEMPERATURE
        said = self._script(Draw(self._run.state.step + (not is_exam), int(asked[1]) - 100, index, is_exam))
        ids = tokenizer.encode(said.text, add_special_tokens=False)
        tokens = tuple(ids if said.is_cut else [*ids, params.stop_ids[0]])
        assert len(tokens) <= params.max_new_tokens
        if said.nats is None:
            row = TrainRow(request.prompt_ids, tokens, (0.0,) * len(tokens), 0.0)
            logprobs = tuple(self._run.policy.logprobs([row], params.temperature).tolist())
        else:
            logprobs = (-said.nats,) * len(tokens)
        return Rollout(tokens, logprobs, "length" if said.is_cut else "stop")

    def sync(self) -> None:
        """It asks the run."""

    def give_back(self) -> bool:
        """It holds nothing."""
        return False

    def close(self) -> None:
        """Nothing to give back."""


def scripted_config(model: Path, **changes: Any) -> RunConfig:
    """A run of 9 steps that visits all trained problems in each and polls the held-out ones at 0, 3, 6 and 9."""
    config = parse_config(
        {
            "model": {"source": str(model), "method": "full"},
            "data": {"held_out_share": 0.5, "prompt": "plain", "prompt_suffix": ""},
            "vote": {"num_votes": 4, "num_trained": 4, "max_new_tokens": 140, "temperature": 1.0},
            "train": {"problems_per_step": 10, "epochs": 9, "learning_rate": 1e-5, "schedule": "constant"},
            "evaluate": {"every_steps": 3, "num_samples": 4, "temperature": EXAM_TEMPERATURE},
            "checkpoint": {"every_steps": 9, "keep": 2},
            "safeguards": {"action": "note"},
            "hardware": {"device": "cpu", "threads": 1},
        }
    )
    return config.with_changes(**changes)


def play(
    script: Script,
    folder: Path,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    benchmarks: Mapping[str, ProblemSet] | None = None,
) -> tuple[list[Event], list[AlarmRaised]]:
    """All events of a run of the scripted policy, and the alarms among them."""
    monkeypatch.setattr(trainer._Run, "_make_sampler", lambda run: ScriptedSampler(run, script))
    events: list[Event] = []
    trainer.run(config, folder, PROBLEMS, benchmarks or {}, events.append)
    assert isinstance(events[-1], RunFinished)
    return events, [event for event in events if isinstance(event, AlarmRaised)]
