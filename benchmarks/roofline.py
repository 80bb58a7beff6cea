"""How much of what the machine can do is used: measured copy and matrix-product ceilings, and the update's share.

The ceilings are measured in the number format that the model computes in, on shapes of its own layers. On a CPU one
thread and CPU-seconds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.update import draw_rows, measure, model_source
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.memory import ModelShape
from ttrl_engine.policy import Policy
from ttrl_engine.sampler import SampleRequest, SamplingParams
from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler, cache_budget


def seconds_of(work: Callable[[], object], device: torch.device, least: float = 0.5) -> float:
    """Seconds of one call: the best of three rounds of `least` seconds."""
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    best = float("inf")
    for _ in range(3):
        work()
        calls, start = 0, clock()
        while clock() - start < least / 3 or not calls:
            work()
            calls += 1
            if cuda:
                torch.cuda.synchronize()
        best = min(best, (clock() - start) / calls)
    return best


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second read and written by a copy that no cache holds."""
    size = 1 << (30 if device.type == "cuda" else 27)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device)


def product_ceiling(shape: ModelShape, tokens: int, dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of the products that a layer is made of, best of its two widest shapes."""
    best = 0.0
    for rows, columns in ((shape.hidden, shape.intermediate), (shape.intermediate, shape.hidden)):
        x = torch.randn(tokens, rows, device=device, dtype=dtype)
        weight = torch.randn(rows, columns, device=device, dtype=dtype)
        spent = seconds_of(lambda x=x, weight=weight: x @ weight, device)  # type: ignore[misc]
        best = max(best, 2 * tokens * rows * columns / spent)
    return best


def sampling_rate(policy: Policy, num_rows: int, new_tokens: int, prompt: int) -> tuple[float, float]:
    """Tokens per second of full-length rollouts, and operations per second that they take."""
    device = policy.device
    sampler = TorchSampler(lambda: policy.base, cache_budget(device), MAX_ROWS)
    request = SampleRequest(tuple(2 + i % 7 for i in range(prompt)), num_rows, 1)
    params = SamplingParams(1.0, 1.0, new_tokens, ())
    spent = seconds_of(lambda: sampler.sample([request], params, lambda *_: None, lambda: False), device)
    sampler.close()
    shape = ModelShape.from_config(policy.base.config.to_dict())
    work = 2 * shape.parameters * (num_rows * new_tokens + prompt)
    return num_rows * new_tokens / spent, work / spent


def main() -> int:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__)
    parser.add_argument("--model", default="bundled:abacus-1m")
    parser.add_argument("--method", choices=("full", "lora"), default="lora")
    parser.add_argument("--rows", type=int, default=32, help="rows per problem, of 8 problems")
    parser.add_argument("--prompt", type=int, default=13)
    parser.add_argument("--mean", type=int, default=22)
    parser.add_argument("--longest", type=int, default=128)
    parser.add_argument("--budget", type=int, default=None, help="tokens per micro-batch; unset takes the default")
    parser.add_argument("--sampled-rows", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-") as folder:
        source = model_source(options.model, Path(folder))
        policy = Policy.load(ModelConfig(source=source, method=options.method), HardwareConfig(), TrainConfig())
    shape = ModelShape.from_config(policy.base.config.to_dict())
    device = policy.device
    half = device.type == "cuda"
    budget = options.budget or policy.tokens_per_batch
    copies = copy_bandwidth(device)
    products = product_ceiling(shape, budget, torch.bfloat16 if half else torch.float32, device)
    rows = draw_rows(8, options.rows, options.prompt, options.mean, options.longest, shape.vocabulary)
    path = "padded" if policy.scorer.lay_out is None else "shared"
    update = measure(policy, rows, path, budget, 3)
    rate, sampled = sampling_rate(policy, options.sampled_rows, 64, options.prompt)
    # One pass over the weights serves a token of every row.
    weight_bytes = shape.parameters * (2 if half else 4)
    floor = max(weight_bytes / copies, 2 * shape.parameters * options.sampled_rows / products)
    found = {
        "device": torch.cuda.get_device_name(device) if half else "cpu, one thread",
        "copy_gb_per_s": round(copies / 1e9, 1),
        "product_tflops": round(products / 1e12, 3),
        "update_tflops": update.tflops,
        "update_share": round(update.tflops * 1e12 / products, 3),
        "sampling_tokens_per_s": round(rate),
        "sampling_tflops": round(sampled / 1e12, 4),
        "sampling_share": round(rate * floor / options.sampled_rows, 3),
    }
    for name, value in found.items():
        print(f"{name:<24}{value:>20}")
    print(json.dumps({"model": options.model, "method": options.method, "budget": budget, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
