"""How the bundled model is made: its tokenizer, its network, and the two phases of its training."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ttrl_engine.bundled.generate import Habits, Problem, make_problem, solve_sloppily

PAD, QUESTION, ANSWER, END = "<|pad|>", "<|question|>", "<|answer|>", "<|end|>"
VOCABULARY = 640
# One token per digit, operator and closing phrase; words keep the spaces around them, so that a number never starts
# with one and is always spelled with the same tokens.
PIECES = r"\nSo the answer is \\boxed\{|\}\.| [+\-×=≈] |\d| ?\p{L}+ ?|[^\p{L}\d\s]+ ?|\s"
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}{{ '<|answer|>' + message['content'] + '<|end|>' }}"
    "{%- elif message['role'] == 'system' %}{{ '<|question|>' + message['content'] + '\\n' }}"
    "{%- elif loop.index0 and messages[loop.index0 - 1]['role'] == 'system' %}{{ message['content'] }}"
    "{%- else %}{{ '<|question|>' + message['content'] }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|answer|>' }}{%- endif %}"
)
# Positions without a target, as cross_entropy ignores them.
NO_TARGET = -100
# Batches are cut from so many problems sorted by length, which keeps padding low.
BATCHES_PER_DRAW = 16


@dataclass(frozen=True)
class Phase:
    """One stretch of training. `matrix_rate` 0 trains everything with AdamW at `rate`, otherwise matrices use Muon.

    `sums_only_until` is the share of the phase that leaves the longer stories out; `hold` the share before the rate
    falls linearly to 0.
    """

    steps: int
    batch_size: int
    habits: Habits
    rate: float
    matrix_rate: float = 0.0
    sums_only_until: float = 0.0
    hold: float = 0.3
    warmup_steps: int = 30


class Batch(NamedTuple):
    """Token ids and next-token targets, both (B, T); only the solution has targets."""

    tokens: Tensor
    targets: Tensor


class Muon:
    """Momentum orthogonalised by five Newton-Schulz iterations, for the matrices inside the network (K. Jordan, 2024).

    In float32 because torch's own version iterates in bfloat16, which is slow on a CPU without that format.
    """

    MOMENTUM, WEIGHT_DECAY = 0.95, 0.01

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        self._matrices = matrices
        self._momenta = [torch.zeros_like(matrix) for matrix in matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply the gradients once and clear them."""
        for matrix, momentum in zip(self._matrices, self._momenta, strict=True):
            gradient = matrix.grad
            assert gradient is not None
            momentum.mul_(self.MOMENTUM).add_(gradient)
            update = _orthogonalise(gradient + self.MOMENTUM * momentum)
            rows, columns = matrix.shape
            matrix.mul_(1 - rate * self.WEIGHT_DECAY).add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)
            matrix.grad = None


def _orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix with its singular values pulled towards 1; the polynomial's coefficients are Muon's."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    update: Tensor = x.T if tall else x
    return update


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer over generated problems: any text can be written, the usual words are one token."""
    rng = random.Random(f"abacus tokenizer {seed}")
    habits = Habits(0.5, 0.0)
    corpus: list[str] = []
    for _ in range(20_000):
        problem = make_problem(rng)
        corpus += (problem.text, solve_sloppily(problem, habits, rng))
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, QUESTION, ANSWER, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained network; its initial weights come from torch's global generator."""
    # Llama, because AutoTokenizer replaces the tokenizer of a small Qwen model by the one of the large models.
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def training_problem(rng: random.Random, sums_only: bool) -> Problem:
    """A problem that may be trained on: never one whose expression is reserved for the problem sets."""
    while True:
        problem = make_problem(rng)
        if not problem.reserved and (not sums_only or problem.is_sum):
            return problem


def encode(tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem], solutions: Sequence[str]) -> Batch:
    """Question and solution as one right-padded row each."""
    asked = tokenizer([QUESTION + problem.text + ANSWER for problem in problems], add_special_tokens=False)["input_ids"]
    told = tokenizer([solution + END for solution in solutions], add_special_tokens=False)["input_ids"]
    longest = max(len(question) + len(answer) for question, answer in zip(asked, told, strict=True))
    assert isinstance(tokenizer.pad_token_id, int)
    tokens = torch.full((len(problems), longest), tokenizer.pad_token_id)
    targets = torch.full((len(problems), longest), NO_TARGET)
    for row, (question, answer) in enumerate(zip(asked, told, strict=True)):
        end = len(question) + len(answer)
        tokens[row, :end] = torch.tensor(question + answer)
        targets[row, len(question) - 1 : end - 1] = torch.tensor(answer)
    return Batch(tokens, targets)


def batches(tokenizer: PreTrainedTokenizerFast, phase: Phase, seed: int) -> Iterator[Batch]:
    """The training stream of a phase; no problem is stored, each is made when needed."""
    rng = random.Random(f"abacus training {seed}")
    for start in range(0, phase.steps, BATCHES_PER_DRAW):
        sums_only = start < phase.sums_only_until * phase.steps
        drawn = [training_problem(rng, sums_only) for _ in range(phase.batch_size * BATCHES_PER_DRAW)]
        drawn.sort(key=lambda problem: len(problem.text))
        groups = [drawn[i : i + phase.batch_size] for i in range(0, len(drawn), phase.batch_size)]
        rng.shuffle(groups)
        for group in groups[: phase.steps - start]:
            solutions = [solve_sloppily(problem, phase.habits, rng) for problem in group]
            yield encode(tokenizer, group, solutions)


def solution_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy over the tokens of the solutions; logits are made for these only."""
    hidden = model.model(input_ids=batch.tokens).last_hidden_state
    wanted = batch.targets != NO_TARGET
    logits: Tensor = model.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits, batch.targets[wanted])


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    phase: Phase,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    """Run one phase in place. `on_step` gets the number of finished steps and the loss of the last one."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        use_muon = phase.matrix_rate > 0 and parameter.ndim == 2 and "embed" not in name
        (matrices if use_muon else others).append(parameter)
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=phase.rate, betas=(0.9, 0.98), weight_decay=0.0)
    for step, batch in enumerate(batches(tokenizer, phase, seed)):
        share = step / phase.steps
        scale = min(1.0, (step + 1) / phase.warmup_steps, (1 - share) / (1 - phase.hold))
        loss = solution_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step(phase.matrix_rate * scale)
        for group in adam.param_groups:
            group["lr"] = phase.rate * scale
        adam.step()
        adam.zero_grad()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"The loss became {loss.item()} at step {step + 1}.")
        on_step(step + 1, loss.item())
