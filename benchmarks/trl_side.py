"""TRL's side of `engine_vs_trl`: GRPOTrainer with a majority-vote reward. Runs in TRL's own environment.

Settings are the quickest that TRL 1.16 offers for this work on a CPU: no reference model, one iteration per batch, so
no pass for old log-probabilities, no gradient checkpointing, float32. The loss is ours: advantages over the problem's
mean (`scale_rewards="none"`), summed over tokens and divided by all completion tokens of the step (`dapo`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.exchange import Job, Side
from benchmarks.majority import majority_rewards, read_answer


class MajorityVote:
    """The reward function, and what it saw in the last step. References only measure."""

    __name__ = "majority_vote"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.facts: dict[str, Any] = {}
        self.rollouts: dict[str, Any] = {}

    def __call__(
        self,
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
        reference: list[str],
        **_: Any,
    ) -> list[float | None]:
        answers = [read_answer(text) for text in completions]
        lengths = [len(ids) for ids in completion_ids]
        right = sum(answer == truth for answer, truth in zip(answers, reference, strict=True))
        self.facts = {
            "mean_length": sum(lengths) / len(lengths),
            "max_length": max(lengths),
            "right_share": right / len(answers),
        }
        rewards = majority_rewards(answers, self.job.num_votes, self.job.num_trained)
        self.rollouts = {"prompts": prompts, "completions": completion_ids, "rewards": rewards}
        return rewards


class OnePerWord(TrainerCallback):
    """Holds the trainer before each step until the other end says `step`."""

    def __init__(self, side: Side, vote: MajorityVote, cuda: bool) -> None:
        self.side, self.vote, self.cuda = side, vote, cuda

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        control.should_training_stop = not self.side.ready()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if self.vote.job.record and state.global_step == 1:
            self._record(kwargs["model"], kwargs["optimizer"].state)
        facts = dict(self.vote.facts)
        if self.cuda:
            facts["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        control.should_training_stop = not self.side.finished(facts)

    def _record(self, model: Any, state: Any) -> None:
        moments = {name: state[weights]["exp_avg"].cpu() for name, weights in model.named_parameters()}
        torch.save(self.vote.rollouts | {"moments": moments}, self.vote.job.record)


def settings(job: Job, folder: str, num_problems: int) -> GRPOConfig:
    """All problems in every step, `num_votes` rollouts each, one optimizer step per batch of rollouts."""
    cuda = job.device == "cuda"
    return GRPOConfig(
        output_dir=folder,
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=False,
        num_generations=job.num_votes,
        per_device_train_batch_size=job.rows_per_batch,
        gradient_accumulation_steps=num_problems * job.num_votes // job.rows_per_batch,
        max_completion_length=job.max_new_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        num_iterations=1,
        loss_type="dapo",
        scale_rewards="none",
        epsilon=0.2,
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_steps=job.max_steps,
        seed=job.seed,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        model_init_kwargs={"dtype": "bfloat16" if cuda and job.lora_rank else "float32"},
    )


def main() -> None:
    """Train until no more steps are wanted."""
    job, side = Job.from_json(sys.argv[1]), Side()
    cuda = job.device == "cuda"
    if cuda:
        side.synchronise = torch.cuda.synchronize
    else:
        torch.set_num_threads(1)
    problems = json.loads(Path(job.problems).read_text(encoding="utf-8"))
    rows = [{"prompt": problem["prompt"], "reference": problem["answer"]} for problem in problems]
    vote = MajorityVote(job)
    lora = LoraConfig(r=job.lora_rank, lora_alpha=2 * job.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory(prefix="ttrl-bench-trl-") as folder:
        trainer = GRPOTrainer(
            model=job.model,
            args=settings(job, folder, len(problems)),
            train_dataset=Dataset.from_list(rows),
            reward_funcs=vote,
            peft_config=lora if job.lora_rank else None,
            callbacks=[OnePerWord(side, vote, cuda)],
        )
        trainer.train()


if __name__ == "__main__":
    main()
