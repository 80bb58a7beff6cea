"""The models and problems of `engine_vs_trl`, made on the spot: a tiny model trained for seconds, or random weights.

The tiny model answers eight sums. It writes a few letters, boxes one digit, right about half of the time, and ends:
the number of letters is geometric, so lengths have a mean of about 22 and a tail to 128 tokens, as ended answers do.
Random weights of a large shape get the same by an end token whose probability is the same everywhere.
"""

from __future__ import annotations

import json
import math
import random
import string
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END, BOX = "<pad>", "<end>", "\\boxed{"
LETTERS = string.ascii_lowercase
CHARACTERS = (*string.digits, *LETTERS, "(", ")", "+", "=", "}")
PROMPT = "({a}+{b})mod10="
NUM_PROBLEMS = 8
# An answer is its letters, the box, a digit, the brace and the end token.
MEAN_LENGTH, MAX_LENGTH, FIXED_LENGTH = 22, 128, 32
CLOSING = 4
RIGHT_SHARE = 0.5
# Optimizer steps on short answers and on whole ones, letters of a short answer, rows per step, learning rate.
SHORT_STEPS, LONG_STEPS, SHORT_LETTERS, ROWS, RATE = 150, 60, 2, 32, 2e-3
# An embedding this small leaves the logits of random weights close to equal.
EMBEDDING_STD, SHARED_STD = 0.002, 0.02


@dataclass(frozen=True)
class Shape:
    """The size of a Llama-like network; its parameters are about what the name says."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    vocabulary: int
    trained: bool


SHAPES = {
    "1m": Shape(128, 480, 4, 4, 4, 64, trained=True),
    "qwen2.5-1.5b": Shape(1536, 8960, 28, 12, 2, 151_936, trained=False),
}


def make_problems(seed: int) -> list[dict[str, str]]:
    """Eight different sums: id, prompt and answer (which only measures)."""
    rng = random.Random(f"engine_vs_trl problems {seed}")
    chosen: list[dict[str, str]] = []
    while len(chosen) < NUM_PROBLEMS:
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        prompt = PROMPT.format(a=a, b=b)
        if all(prompt != problem["prompt"] for problem in chosen):
            chosen.append({"id": str(len(chosen)), "prompt": prompt, "answer": str((a + b) % 10)})
    return chosen


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    r"""One token per character and one for `\boxed{`; the rest of the vocabulary are words that box a digit, so that
    random text votes too."""
    words = [PAD, END, BOX, *CHARACTERS]
    words += [f"{index}:{BOX}{index % 10}}}" for index in range(len(words), vocabulary)]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=PAD))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=core, pad_token=PAD, eos_token=END, padding_side="left", clean_up_tokenization_spaces=False
    )


def make_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, device: torch.device) -> LlamaForCausalLM:
    """Fresh weights from torch's global generator."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with device:
        return LlamaForCausalLM(config)


def write_answer(answer: str, mean_letters: int, fixed_length: int | None, rng: random.Random) -> str:
    """One sampled solution of at most `MAX_LENGTH` tokens. With a fixed length it does not end: letters fill it up."""
    digit = answer if rng.random() < RIGHT_SHARE else rng.choice(string.digits)
    letters = int(math.log(1.0 - rng.random()) / math.log(mean_letters / (mean_letters + 1)))
    letters = min(letters, (fixed_length or MAX_LENGTH) - CLOSING)
    text = "".join(rng.choices(LETTERS, k=letters)) + f"{BOX}{digit}}}"
    if fixed_length is None:
        return text + END
    return text + "".join(rng.choices(LETTERS, k=fixed_length - letters - CLOSING + 1))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, ends: bool, seed: int) -> None:
    """Teach the habit of `write_answer` in place, in seconds on one thread: which digit on short answers, which are
    cheap, then how long answers are."""
    rng = random.Random(f"engine_vs_trl training {seed}")
    problems = make_problems(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    short = (SHORT_LETTERS, None if ends else 4 * SHORT_LETTERS + CLOSING)
    long = (MEAN_LENGTH - CLOSING, None) if ends else (FIXED_LENGTH // 4, FIXED_LENGTH)
    schedule = [short] * SHORT_STEPS + [long] * LONG_STEPS
    for step, (mean_letters, fixed_length) in enumerate(schedule):
        drawn = rng.choices(problems, k=ROWS)
        asked = [tokenizer(problem["prompt"])["input_ids"] for problem in drawn]
        told = [tokenizer(write_answer(each["answer"], mean_letters, fixed_length, rng))["input_ids"] for each in drawn]
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 10, 3 * (1 - step / len(schedule)))
        loss = completion_loss(model, asked, told)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def completion_loss(model: LlamaForCausalLM, asked: list[list[int]], told: list[list[int]]) -> torch.Tensor:
    """Cross-entropy over the completion tokens of right-padded rows."""
    width = max(len(question) + len(answer) for question, answer in zip(asked, told, strict=True))
    tokens = torch.zeros(len(asked), width, dtype=torch.long, device=model.device)
    targets = torch.full_like(tokens, -100)
    for row, (question, answer) in enumerate(zip(asked, told, strict=True)):
        end = len(question) + len(answer)
        tokens[row, :end] = torch.tensor(question + answer, device=model.device)
        targets[row, len(question) - 1 : end - 1] = torch.tensor(answer, device=model.device)
    logits = model(input_ids=tokens, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


@torch.no_grad()
def end_anywhere(model: LlamaForCausalLM, probability: float) -> None:
    """Give random weights an end token with about this mean probability at any place.

    All embeddings get one part in common, which makes the last hidden states point the same way; the end token's row
    of the tied head lies along that way, at the length where the mean probability is met.
    """
    table = cast(torch.nn.Embedding, model.get_input_embeddings()).weight
    table.normal_(0.0, EMBEDDING_STD)
    table.add_(torch.randn_like(table[0]) * SHARED_STD)
    tokens = torch.randint(len(CHARACTERS), len(table), (4, 64), device=table.device)
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state.flatten(0, 1).float()
    way = torch.nn.functional.normalize(hidden.mean(0), dim=0)
    end = model.config.eos_token_id
    logits = hidden @ table.float().T
    logits[:, end] = -torch.inf
    others, along = logits.logsumexp(-1), hidden @ way
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        too_likely = float(torch.sigmoid(along * middle - others).mean()) > probability
        low, high = (low, middle) if too_likely else (middle, high)
    table[end] = (way * high).to(table.dtype)


def save_model(folder: Path, shape: Shape, ends: bool, seed: int, device: torch.device) -> None:
    """Make a model of this shape and write it with its tokenizer, so that transformers loads it from `folder`."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(shape.vocabulary)
    model = make_model(shape, tokenizer, device)
    if shape.trained:
        train(model, tokenizer, ends, seed)
    elif ends:
        end_anywhere(model, 1 / MEAN_LENGTH)
    if not shape.trained:
        model.to(torch.bfloat16)  # type: ignore[arg-type]  # a wrapped method whose wrapper lost its self
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def save_problems(path: Path, seed: int) -> None:
    """Write the problems as JSON."""
    path.write_text(json.dumps(make_problems(seed)), encoding="utf-8")
