"""A TTRL step of ours against TRL's, measured side by side: `make bench-engine`.

Same weights, tokenizer, problems, votes, loss, optimizer and lengths. Each side is a process of its own, in its own
environment; steps alternate, so that what else the machine does hits both. On a CPU the figures are CPU-seconds of
the process on one thread, on a GPU wall seconds and peak memory; medians after one warm-up step. Then both sides
learn the same task from the same three seeds, which shows whether speed was bought with another algorithm.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.children import Child, Sides
from benchmarks.exchange import Job
from benchmarks.learning_curves import Comparison, compare_curves
from benchmarks.same_gradient import gradient_difference

NUM_VOTES, LORA_RANK = 64, 32
# A rate at which the policy hardly moves, so that every step does the same work.
TIMING_RATE = 1e-5
# TRL's quickest micro-batch of 8, 16, 32, 64 and 128 rows on this work.
TRL_ROWS_PER_BATCH = 64
CURVE_SEEDS, CURVE_STEPS, CURVE_VOTES, CURVE_RATE = (1, 2, 3), 12, 32, 3e-4


@dataclass(frozen=True)
class Workload:
    """How many of the 64 votes are trained, with LoRA or not, and whether answers end or all have 32 tokens."""

    num_trained: int
    lora: bool
    fixed: bool
    bar: float


WORKLOADS = {
    "train64": Workload(64, lora=False, fixed=False, bar=4.5),
    "vote64_train32": Workload(32, lora=False, fixed=False, bar=6.0),
    "lora_train64": Workload(64, lora=True, fixed=False, bar=4.2),
    "lora_vote64_train32": Workload(32, lora=True, fixed=False, bar=6.0),
    "fixed32_train64": Workload(64, lora=False, fixed=True, bar=1.4),
    "fixed32_vote64_train32": Workload(32, lora=False, fixed=True, bar=2.0),
}
OVERHEAD_BAR = 0.03


@dataclass(frozen=True)
class Measured:
    """The steps of both sides on one workload, warm-up left out, as their sides reported them."""

    trl: list[dict[str, Any]]
    ours: list[dict[str, Any]]
    unit: str

    @property
    def ratio(self) -> float:
        """Median step of TRL over median step of ours, cut to two digits: never rounded up to a bar."""
        return math.floor(100 * median(self.trl, self.unit) / median(self.ours, self.unit)) / 100

    @property
    def overhead_share(self) -> float:
        """Median share of our step outside sampling and updating."""
        return median(self.ours, "overhead_share")


def median(steps: Sequence[dict[str, Any]], key: str) -> float:
    """Median of one reported figure."""
    return statistics.median(float(step[key]) for step in steps)


def make_models(folder: Path, shape: str, device: str, seed: int) -> None:
    """Write `ended` and `fixed` models and the problems of this seed below `folder`."""
    import torch

    from benchmarks import toy

    if device == "cpu":
        torch.set_num_threads(1)
    for name, ends in (("ended", True), ("fixed", False)):
        toy.save_model(folder / name, toy.SHAPES[shape], ends, seed, torch.device(device))
    toy.save_problems(folder / "problems.json", seed)


def job_of(workload: Workload, folder: Path, device: str, num_steps: int) -> Job:
    """One workload as both sides get it."""
    from benchmarks.toy import FIXED_LENGTH, MAX_LENGTH

    return Job(
        model=str(folder / ("fixed" if workload.fixed else "ended")),
        problems=str(folder / "problems.json"),
        device=device,
        num_votes=NUM_VOTES,
        num_trained=workload.num_trained,
        lora_rank=LORA_RANK if workload.lora else 0,
        max_new_tokens=FIXED_LENGTH if workload.fixed else MAX_LENGTH,
        learning_rate=TIMING_RATE,
        rows_per_batch=TRL_ROWS_PER_BATCH,
        seed=0,
        max_steps=num_steps + 2,
    )


def measure(sides: Sides, job: Job, num_steps: int) -> Measured:
    """Alternate one step of each side, after a warm-up step of each."""
    with sides.start_trl(job) as trl, sides.start_ours(job) as ours:
        steps: dict[Child, list[dict[str, Any]]] = {trl: [], ours: []}
        for child in (trl, ours):
            child.wait()
        for _ in range(num_steps + 1):
            for child, taken in steps.items():
                taken.append(child.step())
    return Measured(steps[trl][1:], steps[ours][1:], "cpu_s" if job.device == "cpu" else "wall_s")


def describe(name: str, found: Measured) -> str:
    """One line of the table."""
    unit = found.unit
    line = f"{name:<24}{median(found.trl, unit):>8.2f}{median(found.ours, unit):>8.2f}{found.ratio:>7.2f}"
    line += f"{WORKLOADS[name].bar:>6.1f}{found.overhead_share:>9.2%}"
    line += f"{statistics.fmean(step['mean_length'] for step in found.trl):>8.1f}"
    line += f"{statistics.fmean(step['mean_length'] for step in found.ours):>6.1f}"
    if "peak_gib" in found.ours[-1]:
        line += f"   peak GiB {max(s['peak_gib'] for s in found.trl):.1f}"
        line += f" {max(s['peak_gib'] for s in found.ours):.1f}"
    return line


def learn(sides: Sides, folder: Path, device: str) -> Comparison:
    """Both sides learn from the same weights and problems; a seed draws other rollouts. Sides run at the same time:
    no seconds are read here."""
    job = job_of(WORKLOADS["train64"], folder, device, CURVE_STEPS)
    job = replace(job, num_votes=CURVE_VOTES, num_trained=CURVE_VOTES, learning_rate=CURVE_RATE)
    curves: dict[str, list[list[float]]] = {"trl": [], "ours": []}
    for seed in CURVE_SEEDS:
        seeded = replace(job, seed=seed)
        with sides.start_trl(seeded) as trl, sides.start_ours(seeded) as ours:
            pair = {"trl": trl, "ours": ours}
            for child in pair.values():
                child.wait()
            taken: dict[str, list[float]] = {"trl": [], "ours": []}
            for _ in range(CURVE_STEPS):
                for child in pair.values():
                    child.ask()
                for name, child in pair.items():
                    taken[name].append(child.wait()["right_share"])
        for name, curve in taken.items():
            curves[name].append(curve)
    return compare_curves(curves["trl"], curves["ours"])


def summary(found: dict[str, Measured]) -> dict[str, Any]:
    """The last line. The overhead is the largest of the workloads' medians."""
    return {
        "trl_over_ours": {name: measured.ratio for name, measured in found.items()},
        "overhead_share": round(max(measured.overhead_share for measured in found.values()), 4),
    }


def main() -> int:
    """Measure, print, and end with the JSON line."""
    options = parse()
    sides = Sides(Path(options.trl_python))
    started = time.monotonic()
    found: dict[str, Measured] = {}
    gradient: float | None = None
    comparison: Comparison | None = None
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-") as temporary:
        folder = Path(temporary)
        make_models(folder, options.shape, options.device, seed=0)
        unit = "CPU-seconds" if options.device == "cpu" else "wall seconds"
        print(f"{unit} per step, median of {options.steps}; 8 problems x {NUM_VOTES} rollouts, shape {options.shape}")
        print(f"{'workload':<24}{'TRL':>8}{'ours':>8}{'ratio':>7}{'bar':>6}{'overhead':>9}{'tokens: TRL':>12} ours")
        for name in options.workloads:
            job = job_of(WORKLOADS[name], folder, options.device, options.steps)
            found[name] = measure(sides, job, options.steps)
            print(describe(name, found[name]), flush=True)
        if options.curves:
            gradient = gradient_difference(sides, job_of(WORKLOADS["train64"], folder, options.device, 1), folder)
            print(f"One step of TRL's repeated by our update: gradients differ by {gradient:.1e} of their length.")
            comparison = learn(sides, folder, options.device)
            print("\n".join(comparison.lines()))
    print(f"The whole benchmark took {(time.monotonic() - started) / 60:.0f} minutes.")
    if options.json_out:
        details = {
            "options": vars(options),
            "workloads": {name: {"trl": each.trl, "ours": each.ours} for name, each in found.items()},
            "gradient_difference": gradient,
            "curves": None if comparison is None else comparison.as_dict(),
            "summary": summary(found),
        }
        Path(options.json_out).write_text(json.dumps(details, indent=1), encoding="utf-8")
    print(json.dumps(summary(found)))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_vs_trl", description=__doc__)
    parser.add_argument("--trl-python", default=".venv-trl/bin/python", help="the interpreter that has TRL")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shape", default="1m", choices=("1m", "qwen2.5-1.5b"), help="size of the model")
    parser.add_argument("--steps", type=int, default=5, help="measured steps per workload and side")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--json-out", default=None, help="write every step's figures to this file")
    parser.add_argument(
        "--no-curves", dest="curves", action="store_false", help="no learning curves and no gradient check"
    )
    options = parser.parse_args()
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    # Random weights have nothing to learn from a vote.
    options.curves = options.curves and options.shape == "1m"
    return options


if __name__ == "__main__":
    sys.exit(main())
