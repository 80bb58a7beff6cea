"""A whole run: load, score the base, step by step learn, score, save; resumable at any moment.

`run` is the engine's front door. It knows no queue, database or page: it takes a config and problems, reports by
`emit`, and stops soon after `should_stop()` turns true, with everything finished so far on disk.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ttrl_engine.checkpoint import (
    RunState,
    healthy_checkpoint,
    keep_healthy,
    list_checkpoints,
    load_state,
    publish,
    restore,
    save_checkpoint,
)
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ConfigError, DataError, RunError
from ttrl_engine.evaluate import BaseScores, Exam, Marks, NoBaseScores, draw_exam, report, take_exam
from ttrl_engine.events import (
    AlarmRaised,
    CheckpointSaved,
    Emit,
    Ending,
    Event,
    HeldOutPolled,
    Noted,
    Phase,
    Progressed,
    RunFinished,
    RunStarted,
    Split,
    StepFinished,
)
from ttrl_engine.gpu_split import Split as GpuSplit
from ttrl_engine.learner import Clock, Learner, StepOutcome, step_problems
from ttrl_engine.loading import choose_precision
from ttrl_engine.memory import GIB, engine_rows
from ttrl_engine.models import fingerprint
from ttrl_engine.observe import election_events, step_metrics
from ttrl_engine.policy import Policy
from ttrl_engine.problems import Problem, ProblemSet, split
from ttrl_engine.process_group import join
from ttrl_engine.prompts import PromptFormat, stop_ids
from ttrl_engine.ranks import Ranks
from ttrl_engine.rollout_files import (
    DamagedRolloutsError,
    forget_tokens,
    read_tokens,
    rollout_key,
    write_texts,
    write_tokens,
)
from ttrl_engine.safeguards import Alarm, Safeguards
from ttrl_engine.sampler import Rollout, Sampler, SamplingParams, StopRequested, stream_of
from ttrl_engine.tasks import task_for
from ttrl_engine.this_gpu import expected_use
from ttrl_engine.threads import default_threads
from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler, cache_budget
from ttrl_engine.vllm_engine import vllm_installed
from ttrl_engine.vllm_sampler import VllmSampler

PROGRESS_INTERVAL_S = 0.25


def run(
    config: RunConfig,
    folder: Path,
    problem_set: ProblemSet,
    benchmarks: Mapping[str, ProblemSet],
    emit: Emit,
    should_stop: Callable[[], bool] = lambda: False,
    base_scores: BaseScores | None = None,
) -> RunFinished:
    """Run (or resume, where `folder` holds checkpoints) TTRL on a problem set and return the last event.

    `folder` receives `checkpoints/step-000010/`, `rollouts/step-000001.jsonl.gz` and, at the end, `policy/` with the
    adapter or the model. `benchmarks` maps a shown name to a labelled set that is only scored. Raises StudioError
    with a reason for the user.

    Under torchrun every process calls it alike: they share the work, and only the first one emits and writes.
    """
    ranks = join(config.hardware)
    speak = emit if ranks.first else _silent
    try:
        run = _Run(config, folder, problem_set, benchmarks, speak, should_stop, base_scores or NoBaseScores(), ranks)
        return run.go()
    finally:
        ranks.close()


def roll_back(folder: Path, emit: Emit, wanted: int | None = None) -> RunFinished:
    """End a run that is not under way at its last healthy checkpoint, or at the healthy one of step `wanted`, whose
    weights become its result.

    Raises RunError where there is no such checkpoint, or the disk does not take it.
    """
    found = keep_healthy(folder, wanted)
    if found is None and wanted is not None:
        raise RunError(
            f"There is no checkpoint of step {wanted} from before the first alarm on disk any more. Choose another one "
            "on the run's page."
        )
    if found is None:
        raise RunError(
            "There is no checkpoint from before the first alarm, so there is nothing to go back to. Clone the run with "
            "a lower learning rate, or save more often."
        )
    step, path = found
    emit(Noted(step, "warning", rolled_back(step) if wanted is None else f"Rolled back to step {step}, as chosen."))
    finished = RunFinished(ending=Ending.ALARM, step=step, policy_path=str(path))
    emit(finished)
    return finished


def rolled_back(step: int) -> str:
    """What is noted of it."""
    return f"Rolled back to step {step}, the last healthy checkpoint."


class _Run:
    """The state of one run, the same in each of its processes."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        problem_set: ProblemSet,
        benchmarks: Mapping[str, ProblemSet],
        emit: Emit,
        should_stop: Callable[[], bool],
        base_scores: BaseScores,
        ranks: Ranks,
    ) -> None:
        self.config, self.folder, self.problem_set = config, folder, problem_set
        self.emit, self.should_stop, self.base_scores = emit, should_stop, base_scores
        self.ranks = ranks
        self.clock = Clock()
        self.last_progress = 0.0
        self.answers = config.answers.over(problem_set.answers)
        self.task = task_for(self.answers)
        self._phase(0, Phase.LOADING, 0, 1)
        self.threads = config.hardware.threads or max(1, default_threads() // ranks.size)
        torch.set_num_threads(self.threads)
        start = stream_of(config.seed, "start")
        torch.manual_seed(start)
        random.seed(start)
        np.random.seed(start % 2**32)
        self.policy = Policy.load(config.model, config.hardware, config.train)
        self.prompts = PromptFormat(self.policy.tokenizer, self.task, config.data, config.model.source)
        # What was said of single answers was said of this set: a benchmark may have problems of the same ids.
        unruled = self.answers.model_copy(update={"merges": (), "detached": ()})
        self.benchmark_prompts = replace(self.prompts, task=task_for(unruled))
        parts = split(problem_set, config.data.held_out_share, config.data.max_problems, config.seed)
        self.adapt = self._that_fit(parts.adapt, problem_set.name)
        if len(self.adapt) < 2:
            raise DataError("Fewer than 2 problems are short enough to train on. Raise the longest prompt.")
        held_out = self._that_fit(parts.held_out, problem_set.name)
        self.exams = self._draw_exams(held_out, benchmarks)
        ends = stop_ids(self.policy.tokenizer, self.policy.base.generation_config.eos_token_id)
        self.sampler = self._make_sampler()
        # vLLM leaves torch one thread and plain float32 products.
        torch.set_num_threads(self.threads)
        choose_precision(self.policy.base.dtype, self.policy.device)
        self.learner = Learner(config, self.policy, self.sampler, self.prompts, ends, ranks)
        evaluate = config.evaluate
        self.exam_params = SamplingParams(evaluate.temperature, evaluate.top_p, config.vote.max_new_tokens, ends)
        self.total_steps = config.total_steps(len(self.adapt))
        self.safeguards = Safeguards(config.safeguards)
        self.state = RunState(
            step=0,
            tokens_per_batch=self.policy.tokens_per_batch,
            checkpointing=self.policy.checkpointing,
            evaluated_step=-1,
            # A run may be resumed by another number of processes.
            config_digest=config.with_changes(**{"hardware.gpus": 1}).digest(),
            data_hash=problem_set.content_hash,
        )
        self.saved_step = 0
        self.has_read = False
        self._resume()
        self._warn_if_alone()
        self.emit(
            RunStarted(
                model=config.model.source,
                num_parameters=sum(p.numel() for p in self.policy.model.parameters()),
                num_trainable=sum(p.numel() for p in self.policy.parameters),
                device=_device_name(self.policy.device),
                sampler=self.sampler.name,
                threads=self.threads,
                num_adapt=len(self.adapt),
                num_held_out=len(held_out),
                first_step=self.state.step + 1,
                total_steps=self.total_steps,
            )
        )

    def _make_sampler(self) -> Sampler:
        policy, wanted = self.policy, self.config.hardware.sampler
        if wanted == "vllm" or (wanted == "auto" and policy.device.type == "cuda" and vllm_installed()):
            made = self._vllm()
            if not isinstance(made, RunError):
                return made
            if wanted == "vllm":
                raise made
            self._note(0, "warning", f"The torch sampler is used, which is slower than vLLM. {made}")
        copied = policy.sampling_copy()
        budget = cache_budget(policy.device)
        use = expected_use(policy, self.config.with_changes(**{"hardware.sampler": "torch"}))
        if use is not None:
            # The update has to find room beside it.
            budget = min(budget, use.cache)
        if copied is not None:
            return TorchSampler(lambda: copied.module, budget, MAX_ROWS, copied.refresh)
        return TorchSampler(lambda: policy.base, budget, MAX_ROWS)

    def _vllm(self) -> VllmSampler | RunError:
        """vLLM, or why it cannot be used. What one rank samples with, all do."""
        made: VllmSampler | RunError
        use = expected_use(self.policy, self.config)
        split = None if use is None else use.split
        # Other programs may leave one rank less room than another.
        short = [each.engine for each in self.ranks.gather(split) if each is not None and not each.fits]
        if short:
            return RunError(
                f"vLLM needs {max(short) / GIB:.1f} GiB for this model, more than training leaves of the GPU. Set the "
                "sampler to `torch`, lower the longest answer, or end other programs that use the GPU."
            )
        try:
            made = self._start_vllm(split)
        except RunError as failure:
            made = failure
        reasons = self.ranks.gather(str(made) if isinstance(made, RunError) else "")
        if isinstance(made, VllmSampler) and any(reasons):
            made.close()
            made = RunError(next(filter(None, reasons)))
        return made

    def _start_vllm(self, split: GpuSplit | None) -> VllmSampler:
        config, policy = self.config, self.policy
        if split is not None:
            sleeping = " and gives it back for every update, as both do not fit at once" if split.sleeps else ""
            self._note(0, "info", f"vLLM takes {split.engine / GIB:.1f} GiB of the GPU{sleeping}.")
        tokens = config.data.max_prompt_tokens + config.vote.max_new_tokens
        window = getattr(policy.base.config, "max_position_embeddings", tokens)
        return VllmSampler(
            policy,
            config.model.source,
            config.model.revision,
            min(tokens, window),
            config.seed,
            split=split,
            max_rows=engine_rows(config),
            ranks=self.ranks,
        )

    def go(self) -> RunFinished:
        """Until done, stopped or alarmed."""
        try:
            ending = self._loop()
        except StopRequested:
            ending = Ending.STOPPED
        finally:
            self.sampler.close()
        if ending is not Ending.COMPLETED and self.state.step > self.saved_step:
            self._save()
        step = self.state.step
        path = self._save_policy() if step > 0 and self.ranks.first else None
        finished = RunFinished(ending=ending, step=step, policy_path=None if path is None else str(path))
        self.emit(finished)
        return finished

    def _loop(self) -> Ending:
        alarmed = self.state.evaluated_step < self.state.step and self._evaluation_due() and self._evaluate()
        if alarmed:
            # Or every resume would meet the same alarm again.
            self._save()
        # The attempt before may have ended between the alarm and the roll back.
        alarmed = alarmed or (self.config.safeguards.action == "roll_back" and not self.state.healthy)
        while True:
            if alarmed and self.config.safeguards.action != "note":
                if self.config.safeguards.action == "roll_back":
                    self._roll_back()
                return Ending.ALARM
            if self.state.step >= self.total_steps:
                return Ending.COMPLETED
            if self.ranks.any(self.should_stop()):
                raise StopRequested
            alarmed = self._step()
            if self._evaluation_due():
                alarmed = self._evaluate() or alarmed
            if self.state.step % self.config.checkpoint.every_steps == 0 or self.state.step == self.total_steps:
                self._save()

    def _step(self) -> bool:
        """One step of TTRL; whether an alarm fired."""
        step = self.state.step + 1
        problems = step_problems(self.adapt, step, self.config.train.problems_per_step, self.config.seed)

        def on_phase(phase: Phase, done: int, total: int) -> None:
            self._phase(step, phase, done, total)

        key = self._key(step, problems)
        stored = self._stored(step, key)
        ballots = self.learner.vote(step, problems, self.clock, on_phase, self.should_stop, stored)
        self._pass_on_notes(step)
        if self.ranks.first:
            with self.clock.phase(Phase.SAVING):
                write_texts(self.folder, step, ballots)
                if stored is None:
                    write_tokens(self.folder, step, key, [ballot.rollouts for ballot in ballots])
        outcome = self.learner.learn(step, self.total_steps, ballots, self.clock, on_phase, self.should_stop)
        self._keep_room(step)
        # What it says of the step is for one to decide, or ranks might part ways over a rounding error.
        alarmed = self.ranks.from_first(self._tell(outcome) if self.ranks.first else False)
        self.state.labels |= {ballot.problem.id: ballot.election.label_key for ballot in ballots}
        self.state.step = step
        self.state.healthy = self.state.healthy and not alarmed
        return alarmed

    def _tell(self, outcome: StepOutcome) -> bool:
        """Emit what a step did; whether an alarm fired."""
        step, references = outcome.step, self.problem_set.references
        for event in election_events(outcome, self.task, references):
            self.emit(event)
        seconds = self.clock.take()
        metrics = step_metrics(outcome, self.task, references, self.state.labels, seconds)
        self.emit(StepFinished(step, self.total_steps, metrics, seconds))
        return self._raise(step, self.safeguards.observe(step, metrics))

    def _raise(self, step: int, alarms: Sequence[Alarm]) -> bool:
        """Emit the alarms that the safeguards have just given; whether there are any."""
        self.state.safeguards = self.safeguards.state()
        for alarm in alarms:
            action = self.config.safeguards.action
            self.emit(AlarmRaised(step, alarm.alarm, alarm.message, alarm.value, alarm.threshold, action))
        return bool(alarms)

    def _keep_room(self, step: int) -> None:
        """What any rank did because memory ran out in the update, all of them do from now on, resumed or not."""
        policy, state = self.policy, self.state
        budgets, checkpointing = zip(*self.ranks.gather((policy.tokens_per_batch, policy.checkpointing)), strict=True)
        policy.tokens_per_batch = min(budgets)
        if any(checkpointing) and not policy.checkpointing:
            policy.checkpoint_activations()
        if policy.tokens_per_batch < state.tokens_per_batch:
            self._note(
                step,
                "warning",
                f"Memory ran out in the update of step {step}, so micro-batches went from {state.tokens_per_batch:,} "
                f"to {policy.tokens_per_batch:,} tokens. The result is the same, only slower.",
            )
        if policy.checkpointing and not state.checkpointing:
            self._note(
                step,
                "warning",
                f"Memory ran out in the update of step {step} with {policy.tokens_per_batch:,} tokens per micro-batch, "
                "the longest rollout alone, so gradient checkpointing is on from now on: activations are made twice, "
                "and a prompt is no longer read once for all of its rollouts. The result is the same, only slower.",
            )
        state.tokens_per_batch, state.checkpointing = policy.tokens_per_batch, policy.checkpointing

    def _evaluation_due(self) -> bool:
        every, step = self.config.evaluate.every_steps, self.state.step
        return step in (0, self.total_steps) or (every > 0 and step % every == 0)

    def _evaluate(self) -> bool:
        """Score the current policy in every exam; step 0 is the base model, whose marks may come from the cache.
        Whether an alarm fired."""
        step = self.state.step
        total = sum(len(exam.problems) for exam in self.exams) * self.config.evaluate.num_samples
        before = 0
        polls: list[tuple[Exam, Marks, float]] = []
        for exam in self.exams:
            key = json.dumps(exam.key)
            cache_key = self._base_key(exam) if step == 0 else None
            known = self.base_scores.get(cache_key) if cache_key and self.ranks.first else None
            cached = self.ranks.from_first(None if known is None else dict(known))

            questions = len(exam.problems) * self.config.evaluate.num_samples

            def on_progress(done: int, share: int, offset: int = before, whole: int = questions) -> None:
                self._phase(step, Phase.EVALUATING, offset + done * whole // share, total)

            clock = Clock()
            with clock.phase(Phase.EVALUATING):
                marks = (
                    Marks.from_dict(cached)
                    if cached
                    else take_exam(
                        exam,
                        self.sampler,
                        self.benchmark_prompts if exam.split is Split.BENCHMARK else self.prompts,
                        self.config.evaluate,
                        self.exam_params,
                        stream_of(self.config.seed, "exam", step, *exam.key),
                        on_progress,
                        self.should_stop,
                        self.ranks,
                    )
                )
            before += questions
            if cache_key:
                self.state.base[key] = marks.as_dict()
                if not cached and self.ranks.first:
                    self.base_scores.put(cache_key, marks.as_dict())
            base = Marks.from_dict(self.state.base[key]) if key in self.state.base else None
            seconds = 0.0 if cached else clock.seconds[Phase.EVALUATING]
            if marks.scores:
                self.emit(report(exam, marks, base, step, cached is not None, seconds))
            if exam.polled:
                polls.append((exam, marks, 0.0 if marks.scores else seconds))
        self._pass_on_notes(step)
        self.state.evaluated_step = step
        # After all exams: a stop between a poll and what follows from it would lose its alarm.
        fired = [self._tell_poll(step, *poll) for poll in polls]
        alarmed = any(fired)
        self.state.healthy = self.state.healthy and not alarmed
        return alarmed

    def _tell_poll(self, step: int, exam: Exam, marks: Marks, seconds: float) -> bool:
        """Emit what the held-out problems say without references; whether an alarm fired."""
        self.emit(HeldOutPolled(step, len(exam.polled), self.config.evaluate.num_samples, marks.alike, seconds))
        alarmed = self.ranks.first and self._raise(step, self.safeguards.observe_held_out(step, marks.alike))
        return self.ranks.from_first(alarmed)

    def _base_key(self, exam: Exam) -> str:
        config = self.config
        parts = [
            fingerprint(config.model.source, config.model.revision),
            config.model.dtype,
            str(self.policy.device.type),
            self.sampler.name,
            self.threads,
            exam.digest,
            config.evaluate.model_dump(exclude={"every_steps"}),
            config.vote.max_new_tokens,
            config.data.model_dump(include={"prompt", "prompt_suffix", "system_prompt"}),
            self.answers.model_dump(mode="json", exclude_defaults=True),
            config.seed,
        ]
        return json.dumps(parts, sort_keys=True)

    def _draw_exams(self, held_out: tuple[Problem, ...], benchmarks: Mapping[str, ProblemSet]) -> list[Exam]:
        config, own = self.config.evaluate, self.problem_set
        drawn = [
            draw_exam(Split.ADAPT, own.name, self.adapt, own.references, config, self.config.seed),
            draw_exam(Split.HELD_OUT, own.name, held_out, own.references, config, self.config.seed),
        ]
        for name, other in benchmarks.items():
            exam = draw_exam(
                Split.BENCHMARK, name, self._that_fit(other.problems, name), other.references, config, self.config.seed
            )
            if exam is None:
                raise DataError(f"The benchmark {name} has no reference answers, so nothing can be scored on it.")
            drawn.append(exam)
        return [exam for exam in drawn if exam is not None]

    def _that_fit(self, problems: tuple[Problem, ...], name: str) -> tuple[Problem, ...]:
        """The problems whose prompts are within the config's limit and leave the model's window room for an answer."""
        window = getattr(self.policy.base.config, "max_position_embeddings", None)
        room = self.config.vote.max_new_tokens
        limit = self.config.data.max_prompt_tokens
        if window is not None and window - room < 1:
            raise ConfigError(
                f"The longest answer ({room:,} tokens) does not fit the model's window of {window:,} tokens. "
                f"Lower vote.max_new_tokens to leave room for the problem."
            )
        limit = min(limit, window - room) if window is not None else limit
        fitting = tuple(problem for problem in problems if len(self.prompts.ids(problem)) <= limit)
        if len(fitting) < len(problems):
            kept = {problem.id for problem in fitting}
            left_out = [problem.id for problem in problems if problem.id not in kept]
            named = ", ".join(left_out[:5]) + (" …" if len(left_out) > 5 else "")
            self._note(
                0,
                "warning",
                f"{len(left_out)} of {len(problems)} problems of {name} have prompts longer than {limit:,} tokens and "
                f"are left out: {named}",
            )
        return fitting

    def _resume(self) -> None:
        """Take over the newest checkpoint that is whole and belongs to this config and data."""
        for step, checkpoint in reversed(list_checkpoints(self.folder)):
            state = load_state(checkpoint)
            if (state.config_digest, state.data_hash) != (self.state.config_digest, self.state.data_hash):
                raise RunError(
                    f"{checkpoint} belongs to another config or problem set. Give this run a folder of its own."
                )
            restore(checkpoint, self.policy)
            self.state, self.saved_step = state, step
            self.policy.tokens_per_batch = state.tokens_per_batch
            if state.checkpointing and not self.policy.checkpointing:
                self.policy.checkpoint_activations()
            # A state from before the flag says nothing of it, whatever the config asks for.
            state.checkpointing = self.policy.checkpointing
            self.safeguards = Safeguards.from_state(self.config.safeguards, state.safeguards)
            self.sampler.sync()
            self._note(step, "info", f"Resumed from the checkpoint of step {step}.")
            return

    def _warn_if_alone(self) -> None:
        wanted = self.config.hardware.gpus
        if wanted > 1 and self.ranks.size == 1:
            self._note(
                self.state.step,
                "warning",
                f"The config asks for {wanted} processes and this is one, so it computes alone. Start it by "
                f"`python -m ttrl_engine` or `torchrun --nproc-per-node {wanted} -m ttrl_engine` to share the work.",
            )

    def _save(self) -> None:
        step = self.state.step
        self._phase(step, Phase.SAVING, 0, 1)
        self.saved_step = step
        if not self.ranks.first:
            return
        with self.clock.phase(Phase.SAVING):
            path = save_checkpoint(self.folder, self.policy, self.state, self.config.checkpoint.keep)
            forget_tokens(self.folder, step)
        self.emit(CheckpointSaved(step, str(path)))

    def _roll_back(self) -> None:
        """Return to the newest checkpoint from before the first alarm."""
        # The first rank has just saved; the others may be ahead of it.
        found = self.ranks.from_first(healthy_checkpoint(self.folder) if self.ranks.first else None)
        if found is not None:
            step, checkpoint = found
            restore(checkpoint, self.policy)
            self.state, self.saved_step = load_state(checkpoint), step
            self._note(step, "warning", rolled_back(step))
            return
        self.state.step = 0
        self._note(0, "warning", "There was no healthy checkpoint to roll back to, so nothing of this run is kept.")

    def _save_policy(self) -> Path:
        """The result, in the format that peft or transformers load; complete or not there at all."""
        return publish(self.folder, self.policy.save, "The trained weights", "resume the run")

    def _stored(self, step: int, key: str) -> list[list[Rollout]] | None:
        """The rollouts of the step where an earlier attempt drew them from these very weights."""
        found = None
        if self.ranks.first:
            try:
                found = read_tokens(self.folder, step, key)
            except DamagedRolloutsError as failure:
                reason = f"The stored rollouts of step {step} cannot be read ({failure}), so they are sampled again."
                self._note(step, "warning", reason)
        found = self.ranks.from_first(found)
        if found is not None and not self.has_read:
            self.has_read = True
            self._note(step, "info", f"From step {step} on, rollouts that were on disk are used and not sampled again.")
        return found

    def _key(self, step: int, problems: Sequence[Problem]) -> str:
        state = self.state
        ids = [problem.id for problem in problems]
        return rollout_key(state.config_digest, state.data_hash, step, ids, self.policy.fingerprint())

    def _phase(self, step: int, phase: Phase, done: int, total: int) -> None:
        now = time.monotonic()
        if done in (0, total) or now - self.last_progress >= PROGRESS_INTERVAL_S:
            self.last_progress = now
            self.emit(Progressed(step, phase, done, total))

    def _pass_on_notes(self, step: int) -> None:
        """What the sampler has to say to the user, each thing once."""
        notes, self.sampler.notes[:] = list(self.sampler.notes), []
        for note in notes:
            self._note(step, "warning", note)

    def _note(self, step: int, level: str, message: str) -> None:
        self.emit(Noted(step, level, message))


def _silent(event: Event) -> None:
    """What a rank says that is not the first."""


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
