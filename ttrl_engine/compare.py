"""The same questions put to the base model and to an adapted one, with the same random streams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ttrl_engine.asking import Asking
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.loading import choose_device, choose_precision, load_model, sampling_dtype
from ttrl_engine.problems import Problem
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, StopRequested, stream_of
from ttrl_engine.streaming import Growing, StreamingSampler
from ttrl_engine.tasks import task_for
from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler, cache_budget
from ttrl_engine.vote import elect

SIDES: Final = ("base", "adapted")

OnSide: TypeAlias = Callable[[str, dict[str, Any]], None]

MOST_GROWING = 8
"""Answers of a side that are shown while they grow; nobody reads more at once."""


@dataclass(frozen=True)
class Side:
    """What one model said: every answer, and their vote."""

    answers: tuple[dict[str, Any], ...]
    classes: tuple[dict[str, Any], ...]
    label: str | None
    abstained: str | None
    consensus: float


def answer_both(
    asking: Asking,
    problem: Problem,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_side: OnSide = lambda _name, _side: None,
) -> dict[str, Any]:
    """Answers of the base and of the adapted policy to one problem, and how each model votes. One model after the
    other, so that only one is in memory.

    Returns {"base": side, "adapted": side}; a side has `answers` [{text, answer, reason, class_index, length,
    finish}], `classes` [{answer, count}] most votes first, `label`, `abstained` and `consensus`. `on_side` is told each
    side by its name a few times a second: {"growing": [{text, length, ended}]} of the first answers, then the side.
    Raises RunError if the weights are gone, StopRequested if stopped.
    """
    sides = {}
    for index, name in enumerate(SIDES):

        def report(done: int, _total: int, before: int = index * asking.num_samples) -> None:
            on_progress(before + done, 2 * asking.num_samples)

        asked = _Asked.load(asking, name)
        sides[name] = asdict(_stream(asked, name, problem, report, should_stop, on_side))
        on_side(name, sides[name])
        del asked  # before the other is loaded
    return sides


def _stream(
    asked: _Asked,
    name: str,
    problem: Problem,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    on_side: OnSide,
) -> Side:
    """What one model says, told to `on_side` while it grows."""
    if should_stop():
        raise StopRequested

    def grown(rollouts: Sequence[Growing]) -> None:
        on_side(name, {"growing": [asked.growing(each) for each in rollouts]})

    grown([])
    sampler = StreamingSampler(asked.module, cache_budget(asked.model.device), MAX_ROWS, grown, MOST_GROWING)
    [side] = asked.sides([problem], sampler, on_progress, should_stop)
    return side


def answer_all(
    asking: Asking,
    problems: Sequence[Problem],
    emit: Callable[[str, str, dict[str, Any]], None],
    known: Collection[tuple[str, str]] = (),
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """`answer_both` for many problems, each with the answers it would get alone, up to rounding. `emit` is given the
    name of the side, the problem's id and the side, batch by batch; pairs of name and id in `known` are not asked
    again.

    Raises RunError if the weights are gone, StopRequested if stopped.
    """
    total = 2 * len(problems) * asking.num_samples
    done = len(known) * asking.num_samples
    size = max(1, MAX_ROWS // asking.num_samples)
    for name in SIDES:
        missing = [problem for problem in problems if (name, problem.id) not in known]
        if not missing:
            continue
        asked = _Asked.load(asking, name)
        sampler = TorchSampler(asked.module, cache_budget(asked.model.device), MAX_ROWS)
        for start in range(0, len(missing), size):
            if should_stop():
                raise StopRequested
            batch = missing[start : start + size]

            def report(finished: int, _total: int, before: int = done) -> None:
                on_progress(before + finished, total)

            sides = asked.sides(batch, sampler, report, should_stop)
            for problem, side in zip(batch, sides, strict=True):
                emit(name, problem.id, asdict(side))
            done += len(batch) * asking.num_samples
        del sampler, asked  # before the other is loaded


@dataclass(frozen=True)
class _Asked:
    """One of the two models, ready to be asked."""

    asking: Asking
    model: PreTrainedModel
    prompts: PromptFormat
    params: SamplingParams

    @classmethod
    def load(cls, asking: Asking, name: str) -> _Asked:
        """The base model, or the adapted one. Raises RunError if the weights are gone."""
        weights, config = asking.weights, asking.config
        if not any(weights.glob("*.safetensors")):
            raise RunError(
                "The adapted weights of this run are no longer on disk, so there is nothing to compare with."
            )
        device = choose_device(config.hardware)
        model, tokenizer = _load(config, None if name == "base" else weights, device)
        prompts = PromptFormat(tokenizer, task_for(config.answers), config.data, config.model.source)
        ends = stop_ids(tokenizer, model.generation_config.eos_token_id)
        params = SamplingParams(asking.temperature, config.evaluate.top_p, asking.max_new_tokens, ends)
        return cls(asking, model, prompts, params)

    def module(self) -> PreTrainedModel:
        """What a sampler runs."""
        return self.model

    def sides(
        self,
        problems: Sequence[Problem],
        sampler: TorchSampler,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> list[Side]:
        """What the model says to each problem."""
        count, seed = self.asking.num_samples, self.asking.seed
        requests = [
            SampleRequest(self.prompts.ids(problem), count, stream_of(seed, "compare", problem.prompt))
            for problem in problems
        ]
        found = sampler.sample(requests, self.params, on_progress, should_stop)
        return [self._side(problem, rollouts) for problem, rollouts in zip(problems, found, strict=True)]

    def growing(self, rollout: Growing) -> dict[str, Any]:
        """The text so far. The last characters of an unfinished one may still change."""
        text = str(self.prompts.tokenizer.decode(list(rollout.tokens), skip_special_tokens=True))
        return {"text": text, "length": len(rollout.tokens), "ended": rollout.ended}

    def _side(self, problem: Problem, rollouts: Sequence[Rollout]) -> Side:
        task = self.prompts.task
        texts, extractions = self.prompts.read(problem, rollouts)
        election = elect(extractions, task, problem)
        class_of = {i: n for n, each in enumerate(election.classes) for i in each.members}
        answers = tuple(
            {
                "text": text,
                "answer": None if extraction.raw is None else task.display(extraction.raw),
                "reason": extraction.reason,
                "class_index": class_of.get(index),
                "length": len(rollout.tokens),
                "finish": rollout.finish,
            }
            for index, (text, extraction, rollout) in enumerate(zip(texts, extractions, rollouts, strict=True))
        )
        classes = tuple({"answer": task.display(each.answer), "count": each.count} for each in election.classes)
        return Side(answers, classes, election.label, election.abstained, election.consensus)


def _load(
    config: RunConfig, weights: Path | None, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model, or the one in `weights`, with its tokenizer."""
    dtype = sampling_dtype(config.model, device)
    choose_precision(dtype, device)
    if weights is not None and not (weights / "adapter_config.json").is_file():
        return load_model(str(weights), None, dtype, device)
    model, tokenizer = load_model(config.model.source, config.model.revision, dtype, device)
    if weights is None:
        return model, tokenizer
    try:
        adapted = PeftModel.from_pretrained(model, str(weights))
    except (OSError, ValueError, RuntimeError) as failure:
        raise ModelError(f"The adapter cannot be loaded onto {config.model.source}: {failure}") from failure
    return cast(PreTrainedModel, adapted.get_base_model()), tokenizer
