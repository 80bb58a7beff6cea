"""From a problem to the tokens that the model reads, and from its tokens back to text and answer."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ttrl_engine.config import DataConfig
from ttrl_engine.errors import DataError
from ttrl_engine.models import suffix_for
from ttrl_engine.problems import Problem
from ttrl_engine.sampler import Rollout
from ttrl_engine.tasks.base import Extraction, Task
from ttrl_engine.vote import DROPPED


@dataclass(frozen=True)
class PromptFormat:
    """How a run writes its prompts and reads the answers; the same for training, evaluation and comparison."""

    tokenizer: PreTrainedTokenizerBase
    task: Task
    data: DataConfig
    source: str

    @property
    def suffix(self) -> str:
        """The instruction put after each problem."""
        if self.data.prompt_suffix is not None:
            return self.data.prompt_suffix
        return suffix_for(self.source, self.task.default_suffix)

    def text(self, problem: Problem) -> str:
        """The user's message: the problem, its options where it has them, the instruction."""
        options = [
            f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, problem.choices, strict=False)
        ]
        return "\n".join([problem.prompt, *options]) + self.suffix

    def ids(self, problem: Problem) -> tuple[int, ...]:
        """Token ids, through the chat template where there is one (or where the config insists)."""
        text = self.text(problem)
        template = self.tokenizer.chat_template is not None
        if self.data.prompt == "chat" and not template:
            raise DataError("This model has no chat template. Set the prompt format to `auto` or `plain`.")
        if self.data.prompt == "plain" or not template:
            return tuple(self.tokenizer(text)["input_ids"])
        messages = [{"role": "user", "content": text}]
        if self.data.system_prompt:
            messages.insert(0, {"role": "system", "content": self.data.system_prompt})
        return tuple(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    def read(self, problem: Problem, rollouts: Sequence[Rollout]) -> tuple[list[str], list[Extraction]]:
        """The texts of the rollouts, end tokens left out, and the answer found in each."""
        # One that was called off has no last word to read.
        texts = [str(self.tokenizer.decode(list(rollout.tokens), skip_special_tokens=True)) for rollout in rollouts]
        answers = [
            DROPPED
            if rollout.finish == "dropped"
            else self.task.extract(text, problem, truncated=rollout.finish == "length")
            for text, rollout in zip(texts, rollouts, strict=True)
        ]
        return texts, answers


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation_eos: int | Sequence[int] | None) -> tuple[int, ...]:
    """Every token that ends an answer: the tokenizer's end token and those that the model itself lists."""
    listed = [generation_eos] if isinstance(generation_eos, int) else list(generation_eos or [])
    if tokenizer.eos_token_id is not None:
        listed.append(tokenizer.eos_token_id)
    if not listed:
        raise DataError("This model has no end-of-text token, so its answers would never end.")
    return tuple(sorted(set(listed)))
