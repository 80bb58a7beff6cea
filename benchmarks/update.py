"""The policy update alone: padded, packed, packed with shared prompts, over several token budgets.

On a CPU one thread and CPU-seconds, on a GPU wall seconds. The same rows for all, drawn with the lengths asked for; the
last line is one JSON object. `--model random:qwen2.5-1.5b` is a model of that shape with random weights.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from ttrl_engine.attention import ragged
from ttrl_engine.bundled import model_path
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.memory import ModelShape
from ttrl_engine.packing import TrainRow
from ttrl_engine.policy import Policy


def _shape(vocabulary: int, hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )


QWEN = _shape(151_936, 1536, 8960, 28, 12, 2)
RANDOM = {
    "qwen2.5-1.5b": QWEN,
    "0.5b": _shape(151_936, 896, 4864, 24, 14, 2),
    "60m": _shape(8_192, 512, 2048, 16, 8, 4),
    "10m": _shape(8_192, 256, 1024, 8, 4, 2),
}
PATHS = ("padded", "packed", "shared")


def model_source(name: str, folder: Path) -> str:
    """A name that the policy can load; `random:SHAPE` is written to `folder` first, with the bundled tokenizer."""
    if not name.startswith("random:"):
        return name
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(RANDOM[name.removeprefix("random:")])
    model.bfloat16().save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(model_path("abacus-1m"))).save_pretrained(str(folder))
    return str(folder)


def draw_rows(num_problems: int, num_rows: int, prompt: int, mean: int, longest: int, vocab: int) -> list[TrainRow]:
    """Rows whose lengths are exponential, as an end token makes them; all with an advantage."""
    draw = random.Random(0)
    rows = []
    for _ in range(num_problems):
        ids = tuple(draw.randrange(vocab) for _ in range(prompt))
        for index in range(num_rows):
            count = min(longest, 1 + int(draw.expovariate(1 / mean)))
            tokens = tuple(draw.randrange(vocab) for _ in range(count))
            rows.append(TrainRow(ids, tokens, (-1.0,) * count, 0.5 if index % 2 else -0.5))
    return rows


@dataclass
class Timing:
    """One path at one budget. `seconds` is CPU time on a CPU, else wall time; `positions` counts what was computed."""

    path: str
    budget: int
    seconds: float
    tokens_per_s: float
    positions: int
    tflops: float
    peak_gib: float


def measure(policy: Policy, rows: list[TrainRow], path: str, budget: int, repeats: int) -> Timing:
    """Median of `repeats` updates after one to warm up. The learning rate is 0, so all see the same weights."""
    lay_out = policy.scorer.lay_out
    cuda = policy.device.type == "cuda"
    policy.tokens_per_batch = budget
    policy.checkpointing = path != "shared"  # says only whether prompts are shared: nothing is made again
    if path == "padded":
        policy.scorer.lay_out = None
    share = path == "shared"
    batches = [policy.scorer.arrange(batch, share) for batch in policy.scorer.batches(rows, budget, share)]
    positions = sum(batch.ids.numel() for batch in batches)
    found = []
    try:
        for turn in range(repeats + 1):
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter() if cuda else time.process_time()
            policy.update([rows], TrainConfig(), 1.0, 0.0, lambda: False)
            if cuda:
                torch.cuda.synchronize()
            spent = (time.perf_counter() if cuda else time.process_time()) - start
            found += [spent] if turn else []
    finally:
        policy.scorer.lay_out = lay_out
        policy.checkpointing = False
    seconds = statistics.median(found)
    shape = ModelShape.from_config(policy.base.config.to_dict())
    # Forward and the gradient of activations, and of weights where these are computed.
    per_weight = 4 if policy.lora_rank and not policy.folded else 6
    work = per_weight * (shape.parameters - (0 if shape.tied else shape.vocabulary * shape.hidden)) * positions
    completion = sum(len(row.tokens) for row in rows)
    return Timing(
        path=path,
        budget=budget,
        seconds=round(seconds, 3),
        tokens_per_s=round(completion / seconds, 1),
        positions=positions,
        tflops=round(work / seconds / 1e12, 4),
        peak_gib=round(_peak(cuda), 2),
    )


def _peak(cuda: bool) -> float:
    """GiB: of tensors on a GPU; of the whole process so far on a CPU."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.update", description=__doc__)
    parser.add_argument("--model", default="bundled:abacus-1m")
    parser.add_argument("--method", choices=("full", "lora"), default="lora")
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="rows per problem")
    parser.add_argument("--prompt", type=int, default=13, help="tokens of a prompt")
    parser.add_argument("--mean", type=int, default=22, help="mean tokens of a completion")
    parser.add_argument("--longest", type=int, default=128, help="most tokens of a completion")
    parser.add_argument("--budgets", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-") as folder:
        source = model_source(options.model, Path(folder))
        policy = Policy.load(ModelConfig(source=source, method=options.method), HardwareConfig(), TrainConfig())
    vocab = int(policy.base.config.vocab_size)
    rows = draw_rows(options.problems, options.rows, options.prompt, options.mean, options.longest, vocab)
    kernel = "none" if policy.scorer.lay_out is None else "flash" if policy.scorer.lay_out is ragged else "side by side"
    print(f"{options.model} {options.method} on {policy.device.type}, packed attention: {kernel}")
    print(f"{'path':<8}{'budget':>8}{'positions':>11}{'seconds':>9}{'tokens/s':>10}{'TFLOP/s':>9}{'peak GiB':>10}")
    timings: list[dict[str, Any]] = []
    for path in PATHS:
        if path != "padded" and policy.scorer.lay_out is None:
            continue
        for budget in options.budgets:
            one = measure(policy, rows, path, budget, options.repeats)
            timings.append(vars(one))
            print(
                f"{one.path:<8}{one.budget:>8,}{one.positions:>11,}{one.seconds:>9.3f}{one.tokens_per_s:>10,.0f}"
                f"{one.tflops:>9.3f}{one.peak_gib:>10.2f}",
                flush=True,
            )
    best = {path: min((t["seconds"] for t in timings if t["path"] == path), default=None) for path in PATHS}
    print(json.dumps({"model": options.model, "method": options.method, "best_seconds": best, "timings": timings}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
