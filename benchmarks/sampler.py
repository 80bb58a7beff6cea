"""The torch sampler against `model.generate`, on the same prompts, lengths and temperature.

`python -m benchmarks.sampler` takes the bundled model on a CPU and a random-weight model of Qwen2.5-1.5B's shape on a
GPU. Prints tokens per second, row-steps (rows that the model computed, summed over token steps) and CPU-seconds, and
last a line of JSON. `generate` runs every row until the longest of the batch has ended, so row-steps tell how much of
the difference is work left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from benchmarks.update import QWEN
from ttrl_engine.config import DataConfig, HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.policy import Policy
from ttrl_engine.problems import load_problem_set
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.sampler import SampleRequest, SamplingParams, stream_of
from ttrl_engine.tasks import get_task
from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler, cache_budget


@dataclass(frozen=True)
class Result:
    """One way of sampling, medians over the repeats. `longest_wait_s` is the longest time between two questions
    whether to stop; `generate` asks none."""

    name: str
    tokens: int
    row_steps: int
    seconds: float
    cpu_seconds: float
    tokens_per_s: float
    longest_wait_s: float | None = None


def bundled(problems: int, rollouts: int) -> tuple[PreTrainedModel, list[SampleRequest], SamplingParams]:
    """The bundled model on its own problems; answers end with an end token."""
    policy = Policy.load(ModelConfig(method="full"), HardwareConfig(device="cpu"), TrainConfig())
    chosen = load_problem_set("bundled:sums").problems[:problems]
    prompts = PromptFormat(policy.tokenizer, get_task("math"), DataConfig(), "bundled:abacus-1m")
    ends = stop_ids(policy.tokenizer, policy.base.generation_config.eos_token_id)
    requests = [SampleRequest(prompts.ids(problem), rollouts, stream_of(0, problem.id)) for problem in chosen]
    return policy.base, requests, SamplingParams(1.0, 1.0, 128, ends)


def qwen_shape(problems: int, rollouts: int) -> tuple[PreTrainedModel, list[SampleRequest], SamplingParams]:
    """Random weights in the shape of Qwen2.5-1.5B, in bfloat16. One token in 400 ends an answer, so lengths vary."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(QWEN, dtype=torch.bfloat16).eval()  # type: ignore[no-untyped-call]
    prompts = torch.randint(1000, 100_000, (problems, 150), generator=torch.Generator().manual_seed(0)).tolist()
    requests = [SampleRequest(tuple(ids), rollouts, stream_of(0, number)) for number, ids in enumerate(prompts)]
    return model, requests, SamplingParams(1.0, 1.0, 512, tuple(range(0, 151_936, 400)))


def ours(model: PreTrainedModel, requests: list[SampleRequest], params: SamplingParams, repeats: int) -> Result:
    """This engine's sampler."""
    sampler = TorchSampler(lambda: model, cache_budget(model.device), MAX_ROWS)
    waits: list[float] = []

    def once() -> tuple[int, int]:
        asked = [time.perf_counter()]

        def should_stop() -> bool:
            asked.append(time.perf_counter())
            return False

        sampled = sampler.sample(requests, params, lambda _done, _total: None, should_stop)
        waits.append(max(after - before for before, after in itertools.pairwise(asked)))
        tokens = sum(len(rollout.tokens) for rollouts in sampled for rollout in rollouts)
        return tokens, tokens  # a row is computed for exactly the tokens that it draws

    result = measured("torch sampler", once, model.device, repeats)
    for note in sampler.notes:
        print(note)
    return Result(**{**asdict(result), "longest_wait_s": statistics.median(waits[1:])})


def library(model: PreTrainedModel, requests: list[SampleRequest], params: SamplingParams, repeats: int) -> Result:
    """`generate` on all rows at once, padded on the left."""
    width = max(len(request.prompt_ids) for request in requests)
    rows = [request.prompt_ids for request in requests for _ in range(request.num_rollouts)]
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=params.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=params.max_new_tokens,
        eos_token_id=list(params.stop_ids),
        pad_token_id=params.stop_ids[0],
    )
    decode: Any = model.generate
    ends = torch.tensor(params.stop_ids, device=model.device)

    @torch.inference_mode()
    def once() -> tuple[int, int]:
        drawn = decode(ids, attention_mask=mask, generation_config=config)[:, width:]
        ended = torch.isin(drawn, ends)
        lengths = torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, drawn.shape[1])
        return int(lengths.sum()), drawn.numel()

    return measured("model.generate", once, model.device, repeats)


def measured(name: str, once: Callable[[], tuple[int, int]], device: torch.device, repeats: int) -> Result:
    """Medians over the repeats after one that is not counted."""
    seconds, cpu, rates = [], [], []
    tokens = row_steps = 0
    for repeat in range(repeats + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        tokens, row_steps = once()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat:
            cpu.append(time.process_time() - cpu_start)
            seconds.append(time.perf_counter() - start)
            rates.append(tokens / (seconds[-1] if device.type == "cuda" else cpu[-1]))
    return Result(name, tokens, row_steps, statistics.median(seconds), statistics.median(cpu), statistics.median(rates))


def main() -> None:
    """Run both and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="on a CPU; with one, CPU-seconds are comparable")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on_gpu = torch.cuda.is_available()
    model, requests, params = (qwen_shape if on_gpu else bundled)(arguments.problems, arguments.rollouts)
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {arguments.threads} thread(s)"
    print(
        f"{name}; {arguments.problems} prompts x {arguments.rollouts} rollouts, at most {params.max_new_tokens} tokens"
    )
    print(f"{'':16}{'tokens':>9}{'row-steps':>11}{'seconds':>9}{'CPU-s':>8}{'tokens/s':>10}  (per CPU-second on a CPU)")
    results = [ours(model, requests, params, arguments.repeats), library(model, requests, params, arguments.repeats)]
    for each in results:
        print(
            f"{each.name:16}{each.tokens:>9,}{each.row_steps:>11,}{each.seconds:>9.2f}{each.cpu_seconds:>8.2f}"
            f"{each.tokens_per_s:>10,.0f}"
        )
    print(
        json.dumps(
            {
                "device": name,
                "generate_over_ours": round(results[0].tokens_per_s / results[1].tokens_per_s, 2),
                **{each.name: asdict(each) for each in results},
            }
        )
    )


if __name__ == "__main__":
    main()
