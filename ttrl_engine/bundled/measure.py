"""How good a model is at the bundled problem sets, asked and marked by the engine itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ttrl_engine.bundled.generate import Problem
from ttrl_engine.config import DataConfig
from ttrl_engine.problems import Problem as Prompt
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.sampler import Rollout, SampleRequest, SamplingParams, stream_of
from ttrl_engine.tasks import get_task
from ttrl_engine.torch_sampler import TorchSampler
from ttrl_engine.vote import elect

LONGEST_ANSWER = 160
CACHE_BYTES, MAX_ROWS = 1 << 30, 512


@dataclass(frozen=True)
class Figures:
    """Shares over all samples of a set; `maj` is the share of problems whose unique most frequent answer is right."""

    right: float
    maj: float
    unparsed: float
    mean_tokens: float


class Examiner:
    """A model loaded from a folder, ready to be asked."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._sampler = TorchSampler(lambda: model, CACHE_BYTES, MAX_ROWS)
        self._format = PromptFormat(self._tokenizer, get_task("math"), DataConfig(), "bundled:abacus-1m")
        self._stop_ids = stop_ids(self._tokenizer, model.generation_config.eos_token_id)

    def ask(self, problems: list[Problem], num_samples: int, temperature: float, top_p: float, seed: int) -> Figures:
        """Sample every problem `num_samples` times and mark the answers."""
        prompts = [Prompt(f"{number}", problem.text) for number, problem in enumerate(problems)]
        requests = [
            SampleRequest(self._format.ids(prompt), num_samples, stream_of(seed, "figures", prompt.id))
            for prompt in prompts
        ]
        params = SamplingParams(temperature, top_p, LONGEST_ANSWER, self._stop_ids)
        answers = self._sampler.sample(requests, params, lambda _done, _total: None, lambda: False)
        right = majorities = unparsed = tokens = 0
        for problem, prompt, rollouts in zip(problems, prompts, answers, strict=True):
            task = self._format.task
            extractions = [task.extract(self._text(rollout), prompt) for rollout in rollouts]
            election = elect(extractions, task, prompt, tie="abstain")
            reference = str(problem.answer)
            right += sum(c.count for c in election.classes if task.equivalent(c.answer, reference, prompt))
            majorities += election.label is not None and task.equivalent(election.label, reference, prompt)
            unparsed += election.num_unparsed
            tokens += sum(len(rollout.tokens) for rollout in rollouts)
        total = len(problems) * num_samples
        return Figures(right / total, majorities / len(problems), unparsed / total, tokens / total)

    def _text(self, rollout: Rollout) -> str:
        return str(self._tokenizer.decode(list(rollout.tokens), skip_special_tokens=True))
