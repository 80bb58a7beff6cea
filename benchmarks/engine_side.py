"""Our side of `engine_vs_trl`: a whole run by the engine's front door, with everything a run does between steps."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.exchange import Job, Side
from ttrl_engine import trainer
from ttrl_engine.config import RunConfig
from ttrl_engine.events import Event, Phase, RunStarted, StepFinished
from ttrl_engine.problems import Problem, ProblemSet


def run_config(job: Job, num_problems: int) -> RunConfig:
    """The job as a run: no checkpoint and no evaluation worth mentioning, a constant rate, the vote's ties broken as
    TRL's side breaks them."""
    method = "lora" if job.lora_rank else "full"
    return RunConfig.model_validate(
        {
            "seed": job.seed,
            "model": {"source": job.model, "method": method}
            | ({"lora_rank": job.lora_rank, "lora_alpha": 2 * job.lora_rank} if job.lora_rank else {}),
            "data": {"held_out_share": 0.0, "prompt": "plain", "prompt_suffix": ""},
            "vote": {
                "num_votes": job.num_votes,
                "num_trained": job.num_trained,
                "max_new_tokens": job.max_new_tokens,
                "tie": "first_sampled",
            },
            "train": {
                "problems_per_step": num_problems,
                "epochs": 10_000,
                "max_steps": job.max_steps,
                "learning_rate": job.learning_rate,
                "schedule": "constant",
                "warmup_share": 0.0,
            },
            "evaluate": {"every_steps": 0, "num_samples": 1, "max_problems": 1},
            "safeguards": {"action": "note"},
            "checkpoint": {"every_steps": 1_000_000},
            "hardware": {"device": job.device, "sampler": "torch", "threads": 1 if job.device == "cpu" else 0},
        }
    )


class OnePerWord:
    """Holds the run after each step until the other end says `step`."""

    def __init__(self, side: Side, cuda: bool) -> None:
        self.side, self.cuda = side, cuda
        self.go_on = True
        self.began = time.perf_counter()

    def emit(self, event: Event) -> None:
        """Reply to the start and to each step."""
        if isinstance(event, RunStarted):
            self.go_on = self.side.ready()
        elif isinstance(event, StepFinished):
            metrics = event.metrics
            facts = {
                "mean_length": metrics["length_mean"],
                "max_length": metrics["length_max"],
                "right_share": metrics["truth_share"],
                "overhead_share": self._overhead_share(event),
                "seconds": event.seconds,
            }
            if self.cuda:
                facts["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            self.go_on = self.side.finished(facts)
        else:
            return
        self.began = time.perf_counter()

    def _overhead_share(self, event: StepFinished) -> float:
        """Share of the step, from the end of the last one, that went neither into sampling nor into the update."""
        working = sum(event.seconds.get(phase, 0.0) for phase in (Phase.SAMPLING, Phase.UPDATING))
        return 1.0 - working / (time.perf_counter() - self.began)


def main() -> None:
    """Run until no more steps are wanted."""
    job, side = Job.from_json(sys.argv[1]), Side()
    cuda = job.device == "cuda"
    if cuda:
        side.synchronise = torch.cuda.synchronize
    rows = json.loads(Path(job.problems).read_text(encoding="utf-8"))
    problem_set = ProblemSet(
        name="benchmark",
        kind="number",
        problems=tuple(Problem(row["id"], row["prompt"]) for row in rows),
        references={row["id"]: row["answer"] for row in rows},
    )
    held = OnePerWord(side, cuda)
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-ours-") as folder:
        trainer.run(
            config=run_config(job, len(rows)),
            folder=Path(folder),
            problem_set=problem_set,
            benchmarks={},
            emit=held.emit,
            should_stop=lambda: not held.go_on,
        )


if __name__ == "__main__":
    main()
