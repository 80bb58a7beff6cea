"""The same questions put to the base model and to an adapted one, with the same random streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.loading import choose_device, load_model
from ttrl_engine.problems import Problem
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.sampler import SampleRequest, SamplingParams, StopRequested, stream_of
from ttrl_engine.tasks import task_for
from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler, cache_budget
from ttrl_engine.vote import elect


@dataclass(frozen=True)
class Side:
    """What one model said: every answer, and their vote."""

    answers: tuple[dict[str, Any], ...]
    classes: tuple[dict[str, Any], ...]
    label: str | None
    abstained: str | None
    consensus: float


def answer_both(
    weights: Path,
    config: RunConfig,
    problem: Problem,
    num_samples: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Sample `num_samples` answers from the base and from the adapted policy in `weights` (a run's `policy` folder or
    a checkpoint), and let each vote.

    Returns {"base": side, "adapted": side}; a side has `answers` [{text, answer, reason, class_index, length,
    finish}], `classes` [{answer, count}] most votes first, `label`, `abstained` and `consensus`. Raises RunError if
    the weights are gone, StopRequested if stopped.
    """
    if not any(weights.glob("*.safetensors")):
        raise RunError("The adapted weights of this run are no longer on disk, so there is nothing to compare with.")
    device = choose_device(config.hardware)
    sides = {}
    for index, name in enumerate(("base", "adapted")):
        model, tokenizer = _load(config, None if name == "base" else weights, device)
        if should_stop():
            raise StopRequested
        prompts = PromptFormat(tokenizer, task_for(config.answers), config.data, config.model.source)
        ends = stop_ids(tokenizer, model.generation_config.eos_token_id)
        params = SamplingParams(temperature, config.evaluate.top_p, max_new_tokens, ends)

        def report(done: int, _total: int, before: int = index * num_samples) -> None:
            on_progress(before + done, 2 * num_samples)

        sides[name] = asdict(_ask(model, prompts, problem, num_samples, params, seed, report, should_stop))
    return sides


def _load(
    config: RunConfig, weights: Path | None, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model, or the one in `weights`, with its tokenizer."""
    dtype = torch.bfloat16 if device.type == "cuda" and config.model.dtype != "float32" else torch.float32
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


def _ask(
    model: PreTrainedModel,
    prompts: PromptFormat,
    problem: Problem,
    num_samples: int,
    params: SamplingParams,
    seed: int,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Side:
    sampler = TorchSampler(lambda: model, cache_budget(model.device), MAX_ROWS)
    request = SampleRequest(prompts.ids(problem), num_samples, stream_of(seed, "compare", problem.prompt))
    [rollouts] = sampler.sample([request], params, on_progress, should_stop)
    task = prompts.task
    texts, extractions = prompts.read(problem, rollouts)
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
