"""Peak memory of whole short runs against the estimate that New run shows: `python -m benchmarks.memory`.

Each run is a process of its own: loading, scoring the base, sampling, voting, two updates, saving. On a CPU its peak is
the largest resident set that the kernel saw; on a GPU what PyTorch's allocator reserved, and the driver's context. An
estimate counts every answer at its longest, which random weights give; their answers earn nothing, so the KL term makes
the update's work. Prompts are counted as long as they are. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.children import OFFLINE, ONE_THREAD
from ttrl_engine.config import RunConfig, load_config, parse_config
from ttrl_engine.memory import PROCESS, Device, estimate, read_shape
from ttrl_engine.models import resolve_source

MODELS = ("random:10m", "random:60m")
METHODS = ("lora", "full")
MIB = 1 << 20


def config_of(source: str, method: str, options: argparse.Namespace) -> RunConfig:
    """A run of two steps on the bundled problems."""
    problems, votes = options.problems, options.votes
    return parse_config(
        {
            "model": {"source": source, "method": method},
            "data": {"problems": "bundled:sums", "held_out_share": 0.0, "max_problems": 2 * problems},
            "vote": {"num_votes": votes, "num_trained": votes, "max_new_tokens": options.longest, "early_stop": False},
            "train": {"problems_per_step": problems, "max_steps": 2, "kl_coef": 0.001},
            "evaluate": {"every_steps": 0, "num_samples": 1, "max_problems": 4},
            "hardware": {"threads": 1, "sampler": "torch"},
        }
    )


def peak_bytes() -> tuple[Device, int]:
    """Of this process so far."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        beside = total - free - torch.cuda.memory_reserved()
        return "cuda", torch.cuda.max_memory_reserved() + beside
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return "cpu", int(peak) * 1024


def longest_prompt(config: RunConfig) -> int:
    """Tokens of the longest prompt among the problems of the run."""
    from transformers import AutoTokenizer

    from ttrl_engine.problems import load_problem_set, split
    from ttrl_engine.prompts import PromptFormat
    from ttrl_engine.tasks import task_for

    problem_set = load_problem_set(config.data.problems)
    tokenizer = AutoTokenizer.from_pretrained(resolve_source(config.model.source))
    task = task_for(config.answers.over(problem_set.answers))
    prompts = PromptFormat(tokenizer, task, config.data, config.model.source)
    parts = split(problem_set, config.data.held_out_share, config.data.max_problems, config.seed)
    return max(len(prompts.ids(problem)) for problem in parts.adapt)


def one_run(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Run it here and compare."""
    from ttrl_engine.problems import load_problem_set
    from ttrl_engine.trainer import run

    run(config, folder, load_problem_set(config.data.problems), {}, lambda _: None)
    device, peak = peak_bytes()
    exact = config.with_changes(**{"data.max_prompt_tokens": longest_prompt(config)})
    expected = estimate(read_shape(Path(resolve_source(config.model.source))), exact, device)
    largest = "sampling" if expected.during("sampling") > expected.during("updating") else "updating"
    return {
        "device": device,
        "peak_mib": round(peak / MIB),
        "estimate_mib": round(expected.total / MIB),
        "ratio": round(peak / expected.total, 3),
        "beside_process": round((peak - PROCESS[device]) / (expected.total - PROCESS[device]), 3),
        "larger_phase": largest,
    }


def measured(model: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-") as folder:
        source = model
        if model.startswith("random:"):
            from benchmarks.update import model_source

            source = model_source(model, Path(folder) / "model")
        config = Path(folder) / "config.yaml"
        config.write_text(config_of(source, method, options).to_yaml(), encoding="utf-8")
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", "--child", str(config), str(Path(folder) / "run")],
            env=os.environ | OFFLINE | ONE_THREAD,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return {"model": model, "method": method, **found}


def main() -> int:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--problems", type=int, default=4, help="problems per step")
    parser.add_argument("--votes", type=int, default=32, help="rollouts per problem, all trained")
    parser.add_argument("--longest", type=int, default=64, help="tokens of the longest answer")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        config, folder = options.child
        print(json.dumps(one_run(load_config(config), folder)))
        return 0
    print(f"{'model':<22}{'method':<8}{'peak':>10}{'estimate':>12}{'ratio':>8}{'beside the process':>20}  larger phase")
    rows = []
    for model in options.models:
        for method in options.methods:
            row = measured(model, method, options)
            rows.append(row)
            print(
                f"{model:<22}{method:<8}{row['peak_mib']:>6} MiB{row['estimate_mib']:>8} MiB{row['ratio']:>8.2f}"
                f"{row['beside_process']:>20.2f}  {row['larger_phase']}",
                flush=True,
            )
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
