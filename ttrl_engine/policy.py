"""The policy: the model being trained, its log-probabilities, its update, and its weights on disk."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.models import resolve_source
from ttrl_engine.objective import clipped_objective, k3_estimate
from ttrl_engine.sampler import ShouldStop, StopRequested

# Logits are made for so many numbers (tokens x vocabulary) at a time and made again in the backward pass.
HEAD_CHUNK = 1 << 25
# Architectures whose logits are exactly `lm_head(last_hidden_state)`; others scale or cap them, so they go through
# their own forward and hold full logits.
PLAIN_HEADS = ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM")


@dataclass(frozen=True)
class TrainRow:
    """One rollout that enters the update. `old_logprobs` are the sampler's, one per completion token."""

    prompt_ids: tuple[int, ...]
    tokens: tuple[int, ...]
    old_logprobs: tuple[float, ...]
    advantage: float

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.tokens)


@dataclass(frozen=True)
class UpdateStats:
    """What one policy update measured. Rates are over the tokens that entered it.

    kl_base is None where no base pass was asked for; mismatch is the mean |log-probability difference| between the
    sampler and the trainer before the first optimizer step, in nats.
    """

    loss: float
    grad_norm: float
    clip_share: float
    kl_base: float | None
    mismatch: float
    num_tokens: int
    num_optimizer_steps: int


class Policy:
    """A causal LM with either LoRA weights or all weights trainable. Weights that learn are float32.

    Use `Policy.load`. `tokens_per_batch` bounds a micro-batch (padded tokens); an out-of-memory error halves it.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, tokens_per_batch: int, source: str
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tokens_per_batch = tokens_per_batch
        self.source = source
        self.reference: PreTrainedModel | None = None
        self.lora_rank = 0
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=self.device.type == "cuda")

    @classmethod
    def load(cls, model: ModelConfig, hardware: HardwareConfig, train: TrainConfig) -> Policy:
        """Load from a bundled name, a folder or the hub. Only safetensors; code from the model folder is never run.

        Raises ModelError with the reason and what to do.
        """
        device = choose_device(hardware)
        dtype = _dtype(model, device)
        module, tokenizer = load_model(model.source, model.revision, dtype, device)
        if train.gradient_checkpointing:
            module.gradient_checkpointing_enable(  # type: ignore[no-untyped-call]  # transformers' own
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        trained: PreTrainedModel | PeftModel = module
        if model.method == "lora":
            # peft draws the initial A from the global generator; the caller has seeded it.
            lora = LoraConfig(
                r=model.lora_rank, lora_alpha=model.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            if train.gradient_checkpointing:
                module.enable_input_require_grads()  # type: ignore[no-untyped-call]  # transformers' own
            trained = get_peft_model(module, lora)
            # The name that the config gives, not where this machine keeps it: an adapter travels.
            trained.peft_config["default"].base_model_name_or_path = model.source
        tokens = train.tokens_per_batch or (16_384 if device.type == "cuda" else 1_024)
        policy = cls(trained, tokenizer, tokens, model.source)
        policy.lora_rank = model.lora_rank if model.method == "lora" else 0
        for group in policy.optimizer.param_groups:
            group["weight_decay"] = train.weight_decay
        if train.kl_coef and model.method == "full":
            policy.reference = copy.deepcopy(module).requires_grad_(False)
        # No dropout, ever: the sampler and the trainer must compute the same distribution.
        for part in trained.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        module.config.attention_dropout = 0.0
        trained.eval()
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
        with self.model.disable_adapter():
            yield self.base

    def logprobs(self, rows: Sequence[TrainRow], temperature: float, model: PreTrainedModel | None = None) -> Tensor:
        """Log-probabilities of the completion tokens, flattened over the rows, (sum of completion lengths,).

        Rows are padded on the right; under a causal mask the padding is never seen, so none is masked.
        """
        model = model if model is not None else self.base
        width = max(row.length for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : row.length] = torch.tensor(row.prompt_ids + row.tokens)
        # Position p predicts token p + 1, so completion token j is scored at position len(prompt) - 1 + j.
        places = torch.cat(
            [
                torch.arange(len(row.tokens)) + (len(row.prompt_ids) - 1 + index * width)
                for index, row in enumerate(rows)
            ]
        )
        targets = torch.tensor([token for row in rows for token in row.tokens], device=self.device)
        ids, places = ids.to(self.device), places.to(self.device)
        if type(model).__name__ in PLAIN_HEADS:
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            return _chunked_logprobs(hidden.reshape(-1, hidden.shape[-1])[places], model.lm_head, targets, temperature)
        logits = model(input_ids=ids, use_cache=False).logits
        return _token_logprobs(logits.reshape(-1, logits.shape[-1])[places], targets, temperature)

    def update(
        self,
        groups: Sequence[Sequence[TrainRow]],
        train: TrainConfig,
        temperature: float,
        rate: float,
        should_stop: ShouldStop,
    ) -> UpdateStats:
        """One optimizer step per group of rows (GRPO). Rows with zero advantage add nothing and are left out, but
        their tokens count in the normaliser, so the loss is a mean over all trained tokens of the group.

        Splitting into micro-batches never changes the gradient. Raises StopRequested before the first optimizer step
        only, so the weights are either those before or those after; RunError if memory does not suffice.
        """
        totals = _Totals()
        for index, rows in enumerate(groups):
            stop = should_stop if index == 0 else _never
            while True:
                try:
                    self._step(rows, train, temperature, rate, stop, totals, first=index == 0)
                    break
                except (torch.OutOfMemoryError, RuntimeError) as failure:
                    self.optimizer.zero_grad(set_to_none=True)
                    self._shrink(failure, rows)
                finally:
                    self.model.eval()
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
    ) -> None:
        normaliser = sum(len(row.tokens) for row in rows)
        active = [row for row in rows if row.advantage != 0.0 or train.kl_coef > 0.0]
        if not active:
            return
        part = _Totals()
        self.optimizer.zero_grad(set_to_none=True)
        # transformers recomputes activations in training mode only.
        self.model.train(train.gradient_checkpointing)
        for batch in micro_batches(active, self.tokens_per_batch):
            if should_stop():
                self.optimizer.zero_grad(set_to_none=True)
                raise StopRequested
            with self._autocast():
                logprobs = self.logprobs(batch, temperature)
            old = torch.tensor([value for row in batch for value in row.old_logprobs], device=self.device)
            advantages = torch.tensor(
                [row.advantage for row in batch for _ in row.tokens], dtype=torch.float32, device=self.device
            )
            loss_T, clipped_T = clipped_objective(logprobs, old, advantages, train.clip_low, train.clip_high)
            if train.kl_coef > 0.0:
                kl_T = k3_estimate(logprobs, self._reference_logprobs(batch, temperature))
                part.kl += float(kl_T.detach().sum())
                loss_T = loss_T + train.kl_coef * kl_T
            loss = loss_T.sum() / normaliser
            torch.autograd.backward(loss)
            part.loss += float(loss.detach())
            part.clipped += float(clipped_T.sum())
            part.mismatch += float((logprobs.detach() - old).abs().sum()) if first else 0.0
            part.tokens += len(old)
            part.mismatch_tokens += len(old) if first else 0
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
        part.norm, part.steps, part.has_kl = float(norm), 1, train.kl_coef > 0.0
        totals.add(part)

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
        for batch in micro_batches(rows, self.tokens_per_batch):
            old = torch.tensor([value for row in batch for value in row.old_logprobs], device=self.device)
            with self._autocast():
                total += float(k3_estimate(old, self.logprobs(batch, temperature)).sum())
            tokens += len(old)
        # Never negative in exact arithmetic; rounding of an unmoved policy may say so.
        return max(0.0, total / max(1, tokens))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 arithmetic over float32 weights where a GPU trains all of them."""
        on = self.device.type == "cuda" and not isinstance(self.model, PeftModel)
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on)

    def _shrink(self, failure: RuntimeError, rows: Sequence[TrainRow]) -> None:
        """Halve the micro-batch after an out-of-memory error; raise where that cannot help or is not the cause."""
        out_of_memory = isinstance(failure, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(failure)
        if not out_of_memory:
            raise failure
        longest = max(row.length for row in rows)
        if self.tokens_per_batch <= longest:
            raise RunError(
                f"Out of memory: even one rollout of {longest:,} tokens does not fit. Lower the longest answer, "
                "switch gradient checkpointing on, or take a smaller model."
            ) from failure
        self.tokens_per_batch = max(longest, self.tokens_per_batch // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def save(self, folder: Path) -> None:
        """Write the policy: a peft adapter, or the full model, with the tokenizer; safetensors in either case."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))
        (folder / "README.md").write_text(_card(self.source, isinstance(self.model, PeftModel)), encoding="utf-8")

    def load_weights(self, folder: Path) -> None:
        """Take over the weights that `save` wrote, exactly."""
        if isinstance(self.model, PeftModel):
            set_peft_model_state_dict(self.model, load_file(folder / "adapter_model.safetensors"))
            return
        saved = load_model(str(folder), None, torch.float32, self.device)[0].state_dict()
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
        self.tokens += other.tokens
        self.mismatch_tokens += other.mismatch_tokens
        self.steps += other.steps

    def stats(self) -> UpdateStats:
        tokens, steps = max(1, self.tokens), max(1, self.steps)
        return UpdateStats(
            loss=self.loss / steps,
            grad_norm=self.norm / steps,
            clip_share=self.clipped / tokens,
            kl_base=self.kl / tokens if self.has_kl else None,
            mismatch=self.mismatch / max(1, self.mismatch_tokens),
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


def micro_batches(rows: Sequence[TrainRow], max_tokens: int) -> Iterator[list[TrainRow]]:
    """Rows sorted by length and cut so that rows x longest stays within `max_tokens` (at least one row each)."""
    batch: list[TrainRow] = []
    for row in sorted(rows, key=lambda row: row.length, reverse=True):
        if batch and (len(batch) + 1) * batch[0].length > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def load_model(
    source: str, revision: str | None, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal LM and its tokenizer. Raises ModelError with the reason."""
    place = resolve_source(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            place, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as failure:
        first = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        raise ModelError(f"The model {source} cannot be loaded: {first}") from failure
    model.to(device)  # type: ignore[arg-type]  # a wrapped method whose wrapper lost its self
    return model, tokenizer


def choose_device(hardware: HardwareConfig) -> torch.device:
    """The device the config asks for. Raises RunError where it asks for a GPU that is not there."""
    if hardware.device == "cpu" or (hardware.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RunError("The config asks for a CUDA GPU, but PyTorch sees none. Choose device `auto` or `cpu`.")
    return torch.device("cuda")


def _dtype(model: ModelConfig, device: torch.device) -> torch.dtype:
    # Steps of a usual learning rate vanish in bfloat16, so weights that are trained in place stay float32.
    if model.method == "full" or model.dtype == "float32":
        return torch.float32
    if model.dtype == "bfloat16" or (device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.bfloat16
    return torch.float32


def _token_logprobs(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    scaled = logits.float() / temperature
    return scaled.gather(1, targets[:, None])[:, 0] - torch.logsumexp(scaled, dim=-1)


def _chunked_logprobs(hidden_T: Tensor, head: torch.nn.Linear, targets_T: Tensor, temperature: float) -> Tensor:
    """`_token_logprobs(head(hidden))` without ever holding tokens x vocabulary, forward or backward."""

    def score(hidden: Tensor, targets: Tensor) -> Tensor:
        return _token_logprobs(head(hidden), targets, temperature)

    step = max(1, HEAD_CHUNK // head.out_features)
    if len(targets_T) <= step:
        return score(hidden_T, targets_T)
    parts = [
        checkpoint(score, hidden_T[at : at + step], targets_T[at : at + step], use_reentrant=False)
        for at in range(0, len(targets_T), step)
    ]
    return torch.cat(parts)


def _never() -> bool:
    return False
