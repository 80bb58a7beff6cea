"""The policy: the model being trained, its log-probabilities, its update, and its weights on disk."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.errors import RunError
from ttrl_engine.loading import choose_device, choose_dtype, choose_precision, has_bfloat16, load_model
from ttrl_engine.lora import FoldedLora, add_lora, fold_where_faster
from ttrl_engine.memory import Device, ModelShape, default_tokens, describe_rollout
from ttrl_engine.objective import clipped_objective, k3_estimate, weighted_objective
from ttrl_engine.out_of_memory import MAYBE, is_out_of_memory
from ttrl_engine.packing import Pack
from ttrl_engine.packing import TrainRow as TrainRow  # what an update is made of, by the name its users know
from ttrl_engine.ranks import ALONE, Ranks
from ttrl_engine.sampler import ShouldStop, StopRequested
from ttrl_engine.sampling_copy import SamplingCopy
from ttrl_engine.scoring import Scorer


@dataclass(frozen=True)
class UpdateStats:
    """What one policy update measured. Rates are over the tokens that entered it.

    kl_base is None where no base pass was asked for. mismatch and mismatch_max are the mean and the largest
    |log-probability difference| between the sampler and the trainer before the first optimizer step, in nats, and
    capped_share the share of tokens whose importance weight was capped (0 with several updates per step, where the
    clip holds the ratio).
    """

    loss: float
    grad_norm: float
    clip_share: float
    kl_base: float | None
    mismatch: float
    mismatch_max: float
    capped_share: float
    num_tokens: int
    num_optimizer_steps: int


class Policy:
    """A causal LM with either LoRA weights or all weights trainable. Weights that learn are float32, and so are their
    gradients and the optimizer's moments.

    Use `Policy.load`. `tokens_per_batch` bounds a micro-batch; an out-of-memory error halves it and, at the longest
    row, sets `checkpointing` (activations are then made again in the backward pass). Before that, `others_give_back`
    is asked: it lets go of memory that is not needed in an update, and says whether there was any.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, tokens_per_batch: int, source: str
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tokens_per_batch = tokens_per_batch
        self.source = source
        self.checkpointing = False
        self.others_give_back: Callable[[], bool] = _never
        self.reference: PreTrainedModel | None = None
        self.lora_rank = 0
        self.folded: FoldedLora | None = None
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=self.device.type == "cuda")
        self._make_moments()
        # Products in half precision over weights that stay float32.
        self.autocast = not isinstance(model, PeftModel) and has_bfloat16(self.device)
        self.scorer = Scorer(self.base, self.autocast)

    @classmethod
    def load(cls, model: ModelConfig, hardware: HardwareConfig, train: TrainConfig) -> Policy:
        """Load from a bundled name, a folder or the hub. Only safetensors; code from the model folder is never run.

        Raises ModelError with the reason and what to do.
        """
        device = choose_device(hardware)
        dtype = choose_dtype(model, device)
        choose_precision(dtype, device)
        module, tokenizer = load_model(model.source, model.revision, dtype, device)
        # No dropout, ever: the sampler and the trainer must compute the same distribution.
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        module.config.attention_dropout = 0.0
        torch.nn.Module.eval(module)
        # peft draws the initial A from the global generator; the caller has seeded it.
        trained = add_lora(module, model) if model.method == "lora" else module
        trained.eval()
        kind: Device = "cuda" if device.type == "cuda" else "cpu"
        tokens = train.tokens_per_batch or default_tokens(kind, module.config.hidden_size)
        policy = cls(trained, tokenizer, tokens, model.source)
        if isinstance(trained, PeftModel):
            policy.lora_rank = model.lora_rank
            policy.folded = fold_where_faster(trained, model.lora_rank)
        for group in policy.optimizer.param_groups:
            group["weight_decay"] = train.weight_decay
        if train.kl_coef and model.method == "full":
            policy.reference = copy.deepcopy(module).requires_grad_(False)
        if train.gradient_checkpointing:
            policy.checkpoint_activations()
        return policy

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def base(self) -> PreTrainedModel:
        """The transformers module inside, adapter layers included."""
        if isinstance(self.model, PeftModel):
            return cast(PreTrainedModel, self.model.get_base_model())
        return self.model

    @contextlib.contextmanager
    def as_base(self) -> Iterator[PreTrainedModel]:
        """The base model for a while: the adapter is off. Raises RunError where all weights are trained in place."""
        if not isinstance(self.model, PeftModel):
            raise RunError("The base model is not in memory: all of its weights are being trained. Load it again.")
        with self.folded.unfolded() if self.folded else self.model.disable_adapter():
            yield self.base

    def sampling_copy(self) -> SamplingCopy | None:
        """The policy in the format that an update computes in; None where its own weights are in that format."""
        return SamplingCopy(self.base) if self.autocast else None

    def _make_moments(self) -> None:
        """AdamW's state, as its first step would make it (`Adam._init_group`): whoever measures free memory after a
        policy was loaded must find it taken."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if not self.optimizer.state[parameter]:
                    place = parameter.device if group["fused"] else "cpu"
                    self.optimizer.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float32, device=place),
                        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    }

    def load_optimizer(self, saved: dict[str, Any]) -> None:
        """Take over what `optimizer.state_dict()` gave, on whatever device that is."""
        # There may be no room for both.
        self.optimizer.state.clear()
        self.optimizer.load_state_dict(saved)
        # For a weight that had no gradient yet an older version saved none.
        self._make_moments()

    def checkpoint_activations(self) -> None:
        """Keep one hidden state per layer and make the rest again in the backward pass, from now on."""
        self.checkpointing = True
        self.base.gradient_checkpointing_enable(  # type: ignore[no-untyped-call]  # transformers' own
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )

    def logprobs(self, rows: Sequence[TrainRow], temperature: float, model: PreTrainedModel | None = None) -> Tensor:
        """Log-probabilities of the completion tokens, flattened over the rows, (sum of completion lengths,)."""
        model = model if model is not None else self.base
        batch = self.scorer.arrange(rows, share=not self.checkpointing)
        with self.scorer.attending(model, batch):
            return self.scorer.logprobs(model, batch, temperature)

    def update(
        self,
        groups: Sequence[Sequence[TrainRow]],
        train: TrainConfig,
        temperature: float,
        rate: float,
        should_stop: ShouldStop,
        ranks: Ranks = ALONE,
    ) -> UpdateStats:
        """One optimizer step per group of rows (GRPO). Rows with zero advantage add nothing and are left out, but
        their tokens count in the normaliser, so the loss is a mean over all trained tokens of the group.

        With `train.updates_per_step` of 1 the rows are on-policy: the gradient is that of advantage * logprob, each
        token weighted by how much likelier the trainer finds it than the sampler did, at most `train.importance_cap`.
        With more, the later groups are off-policy and all go through the clipped ratio against the sampler, which
        contains that weight already; the cap then does nothing.

        Splitting into micro-batches, and among `ranks`, never changes the gradient. Raises StopRequested before the
        first optimizer step only, so the weights are either those before or those after; RunError if memory does not
        suffice.
        """
        totals = _Totals()
        for index, rows in enumerate(groups):
            stop = should_stop if index == 0 else _never
            self._step(rows, train, temperature, rate, stop, totals, index == 0, ranks)
        return totals.stats()

    def _step(
        self,
        rows: Sequence[TrainRow],
        train: TrainConfig,
        temperature: float,
        rate: float,
        should_stop: ShouldStop,
        totals: _Totals,
        first: bool,
        ranks: Ranks,
    ) -> None:
        """One optimizer step on one group; nothing has changed where it raises."""
        normaliser = sum(len(row.tokens) for row in rows)
        active = [row for row in rows if row.advantage != 0.0 or train.kl_coef > 0.0]
        if not active:
            return
        # Every rank knows all rows of the step, so each takes as many tokens as the others.
        mine = ranks.even_share(active, lambda row: row.length)
        try:
            part = ranks.unless_stopped(
                lambda: self._gradient(mine, train, temperature, normaliser, should_stop, first)
            )
        except StopRequested:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        ranks.sum_gradients(self.parameters)
        part = _Totals.of_ranks(ranks.gather(part))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, train.max_grad_norm)
        if not bool(torch.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise RunError(
                "The gradient is not a number, so the update was not applied. The learning rate is probably too high; "
                "clone the run with a tenth of it."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.folded:
            self.folded.fold()
        part.norm = float(norm)
        totals.add(part)

    def _gradient(
        self,
        rows: Sequence[TrainRow],
        train: TrainConfig,
        temperature: float,
        normaliser: int,
        should_stop: ShouldStop,
        first: bool,
    ) -> _Totals:
        """The gradient of the rows, left at the parameters, and what was measured on the way. Where memory runs out it
        is made again in smaller pieces. Raises StopRequested."""
        while True:
            part = _Totals(has_kl=train.kl_coef > 0.0, steps=1)
            self.optimizer.zero_grad(set_to_none=True)
            # transformers makes activations again in training mode only.
            self.model.train(self.checkpointing)
            try:
                with self.folded.learning() if self.folded else contextlib.nullcontext():
                    for batch in self.scorer.batches(rows, self.tokens_per_batch, share=not self.checkpointing):
                        if should_stop():
                            raise StopRequested
                        self._accumulate(batch, train, temperature, normaliser, part, first)
                return part
            except MAYBE as failure:
                self.optimizer.zero_grad(set_to_none=True)
                self._make_room(failure, rows)
            finally:
                self.model.eval()
            # Not where it was caught: the failure still held on to the tensors of the pass that it ended.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulate(
        self,
        rows: Sequence[TrainRow],
        train: TrainConfig,
        temperature: float,
        normaliser: int,
        part: _Totals,
        first: bool,
    ) -> None:
        """Add the gradient of one micro-batch, and what it measured to `part`."""
        reference = self._reference_logprobs(rows, temperature) if train.kl_coef > 0.0 else None
        batch = self.scorer.arrange(rows, share=not self.checkpointing)
        # Exact only together with kept activations if a prompt's keys ever went through a cache again.
        assert not (self.checkpointing and isinstance(batch, Pack) and batch.shares_prompts)
        old = torch.tensor([value for row in rows for value in row.old_logprobs], device=self.device)
        advantages = torch.tensor(
            [row.advantage for row in rows for _ in row.tokens], dtype=torch.float32, device=self.device
        )
        with self.scorer.attending(self.base, batch):
            logprobs = self.scorer.logprobs(self.base, batch, temperature)
            if train.updates_per_step == 1:
                loss_T, capped_T = weighted_objective(logprobs, old, advantages, train.importance_cap)
                part.capped += float(capped_T.sum())
            else:
                loss_T, clipped_T = clipped_objective(logprobs, old, advantages, train.clip_low, train.clip_high)
                part.clipped += float(clipped_T.sum())
            if reference is not None:
                kl_T = k3_estimate(logprobs, reference)
                part.kl += float(kl_T.detach().sum())
                loss_T = loss_T + train.kl_coef * kl_T
            loss = loss_T.sum() / normaliser
            torch.autograd.backward(loss)
        part.loss += float(loss.detach())
        part.tokens += len(old)
        if first:
            difference = (logprobs.detach() - old).abs()
            part.mismatch += float(difference.sum())
            part.mismatch_max = max(part.mismatch_max, float(difference.max()))
            part.mismatch_tokens += len(old)

    @torch.no_grad()
    def _reference_logprobs(self, batch: Sequence[TrainRow], temperature: float) -> Tensor:
        if self.reference is not None:
            return self.logprobs(batch, temperature, self.reference)
        with self.as_base() as base:
            return self.logprobs(batch, temperature, base)

    @torch.no_grad()
    def shift(self, rows: Sequence[TrainRow], temperature: float) -> float:
        """KL per token between the sampling policy and the current one (k3), on the given rows, in nats."""
        total, tokens = 0.0, 0
        for batch in self.scorer.batches(rows, self.tokens_per_batch, share=not self.checkpointing):
            old = torch.tensor([value for row in batch for value in row.old_logprobs], device=self.device)
            total += float(k3_estimate(old, self.logprobs(batch, temperature)).sum())
            tokens += len(old)
        # Never negative in exact arithmetic; rounding of an unmoved policy may say so.
        return max(0.0, total / max(1, tokens))

    def _make_room(self, failure: BaseException, rows: Sequence[TrainRow]) -> None:
        """After an out-of-memory error: what others hold without need, then smaller micro-batches down to the longest
        row, then checkpointed activations. Raises RunError where none is left, and the failure itself where it is
        another one."""
        if not is_out_of_memory(failure):
            raise failure
        longest = max(row.length for row in rows)
        if self.others_give_back():
            return
        if self.tokens_per_batch > longest:
            self.tokens_per_batch = max(longest, self.tokens_per_batch // 2)
        elif not self.checkpointing:
            self.checkpoint_activations()
        else:
            shape = ModelShape.from_config(self.base.config.to_dict())
            kind: Device = "cuda" if self.device.type == "cuda" else "cpu"
            raise RunError(
                f"Out of memory: even one rollout of {longest:,} tokens with gradient checkpointing does not fit. "
                f"{describe_rollout(shape, longest, kind, self.lora_rank)} Lower the longest answer, take "
                "a smaller model, or free memory that other programs hold."
            ) from failure

    @torch.no_grad()
    def fingerprint(self) -> str:
        """Of the weights that learn; the same weights give the same. One reading of them, where they are: the bits of
        each tensor are added up, which tells apart what training makes, not what somebody contrives."""
        sums = [parameter.detach().view(torch.int32).sum(dtype=torch.int64) for parameter in self.parameters]
        return hashlib.sha256(str(torch.stack(sums).tolist()).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the policy: a peft adapter, or the full model, with the tokenizer; safetensors in either case."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))
        (folder / "README.md").write_text(_card(self.source, isinstance(self.model, PeftModel)), encoding="utf-8")

    def load_weights(self, folder: Path) -> None:
        """Take over the weights that `save` wrote, exactly."""
        if isinstance(self.model, PeftModel):
            set_peft_model_state_dict(self.model, load_file(folder / "adapter_model.safetensors"))
            if self.folded:
                self.folded.fold()
            return
        saved = load_model(str(folder), None, torch.float32, torch.device("cpu"))[0].state_dict()
        self.model.load_state_dict(saved)


@dataclass
class _Totals:
    """Sums over micro-batches and optimizer steps."""

    loss: float = 0.0
    norm: float = 0.0
    clipped: float = 0.0
    kl: float = 0.0
    has_kl: bool = False
    mismatch: float = 0.0
    mismatch_max: float = 0.0
    capped: float = 0.0
    tokens: int = 0
    mismatch_tokens: int = 0
    steps: int = 0

    def add(self, other: _Totals) -> None:
        self.loss += other.loss
        self.norm += other.norm
        self.clipped += other.clipped
        self.kl += other.kl
        self.has_kl |= other.has_kl
        self.mismatch += other.mismatch
        self.mismatch_max = max(self.mismatch_max, other.mismatch_max)
        self.capped += other.capped
        self.tokens += other.tokens
        self.mismatch_tokens += other.mismatch_tokens
        self.steps += other.steps

    @classmethod
    def of_ranks(cls, parts: Sequence[_Totals]) -> _Totals:
        """One optimizer step out of what each rank has measured of it."""
        whole = cls()
        for part in parts:
            whole.add(part)
        whole.steps = 1
        return whole

    def stats(self) -> UpdateStats:
        tokens, steps = max(1, self.tokens), max(1, self.steps)
        return UpdateStats(
            loss=self.loss / steps,
            grad_norm=self.norm / steps,
            clip_share=self.clipped / tokens,
            kl_base=self.kl / tokens if self.has_kl else None,
            mismatch=self.mismatch / max(1, self.mismatch_tokens),
            mismatch_max=self.mismatch_max,
            capped_share=self.capped / tokens,
            num_tokens=self.tokens,
            num_optimizer_steps=self.steps,
        )


def _card(source: str, is_adapter: bool) -> str:
    """What a saved folder is and how it is loaded; in place of the empty template that the libraries write."""
    if is_adapter:
        lines = [
            f'base = AutoModelForCausalLM.from_pretrained("{source}")',
            'model = PeftModel.from_pretrained(base, ".")',
        ]
    else:
        lines = ['model = AutoModelForCausalLM.from_pretrained(".")']
    what = "A LoRA adapter for" if is_adapter else "All weights of"
    code = "\n".join(lines)
    return (
        f"# {source}, adapted\n\n{what} `{source}`, trained with TTRL Studio: by the\n"
        "votes of its own answers (test-time reinforcement learning), without reference answers.\n\n"
        f"```python\n{code}\n```\n"
    )


def _never() -> bool:
    return False
