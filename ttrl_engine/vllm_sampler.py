"""The sampler on vLLM, in this process: token ids in, token ids and log-probabilities out, nothing detokenised.

vLLM is an extra (`pip install 'ttrl-studio[gpu]'`); this module imports it only when a sampler is made. After each
update the adapter is written to a new folder under a new name: vLLM's prefix cache is keyed by adapter, so a name used
twice would serve keys and values of the weights before.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel

from ttrl_engine.adapter_folder import AdapterFolder
from ttrl_engine.errors import RunError
from ttrl_engine.gpu_split import Split
from ttrl_engine.memory import GIB, MAX_ROWS, VLLM_PASS
from ttrl_engine.models import resolve_source
from ttrl_engine.policy import Policy
from ttrl_engine.ranks import ALONE, Ranks
from ttrl_engine.sampler import (
    DROPPED,
    NO_WATCHER,
    Finish,
    OnProgress,
    Rollout,
    SampleRequest,
    SamplingParams,
    ShouldStop,
    StopRequested,
    Watcher,
    stream_of,
)
from ttrl_engine.vllm_engine import (
    allowed_rank,
    clear_away,
    free_main_memory,
    load_weights,
    seeds_are_free,
    shut_down,
    start_engine,
    vllm_installed,
)

# Of a GPU's memory where a model's sizes are not known, and on a CPU of the main memory.
GPU_SHARE = 0.45


class VllmSampler:
    """Samples with vLLM's continuous batching. Adapters follow each `sync`; full weights are copied in place.

    On a GPU each rollout has a seed of its own, made of its request's stream, so a resumed run draws by the same
    numbers as one never stopped; its rollouts may still differ, as rows computed together round otherwise. Elsewhere,
    where vLLM would pay for seeds at every token, numbers come from the engine's own stream, one per rank; a resumed
    run draws others.
    """

    name = "vllm"

    def __init__(
        self,
        policy: Policy,
        source: str,
        revision: str | None,
        max_tokens: int,
        seed: int,
        *,
        split: Split | None = None,
        max_rows: int = MAX_ROWS,
        ranks: Ranks = ALONE,
    ) -> None:
        """`max_tokens` bounds prompt and answer together, `max_rows` the rollouts that grow at once. The engine takes
        what `split` gives it of the GPU's memory, and gives it back between calls where that says so. Raises RunError
        where vLLM is missing, does not start or cannot take the policy's weights."""
        if not vllm_installed():
            raise RunError(
                "The config asks for the vLLM sampler, but vLLM is not installed. Install it with "
                "`pip install 'ttrl-studio[gpu]'`, or set the sampler to `torch`."
            )
        self.notes: list[str] = []
        self._policy = policy
        self._version = 0
        self._calls = itertools.count()
        self._llm: Any = None
        self._adapters: AdapterFolder | None = None
        on_gpu = policy.device.type == "cuda"
        share = GPU_SHARE
        if split is not None:
            share = split.engine / torch.cuda.get_device_properties(policy.device).total_memory
        self._sleeps = split is not None and split.sleeps
        if self._sleeps:
            _check_main_memory(policy, ranks)
        options: dict[str, Any] = {"enable_sleep_mode": self._sleeps}
        try:
            if isinstance(policy.model, PeftModel):
                options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": allowed_rank(policy.lora_rank)}
                num_bytes = sum(weight.numel() * weight.element_size() for weight in policy.parameters)
                self._adapters = AdapterFolder(num_bytes, ranks.size)
            self._llm = start_engine(
                ranks.rank,
                model=resolve_source(source),
                revision=revision,
                dtype=_computing_dtype(policy, on_gpu),
                seed=stream_of(seed, "vllm", ranks.rank) % 2**31,
                max_model_len=max_tokens,
                max_num_seqs=max_rows,
                max_num_batched_tokens=VLLM_PASS,
                gpu_memory_utilization=share,
                enforce_eager=not on_gpu,
                # A model's own generation settings must not leak into the vote.
                generation_config="vllm",
                # Of the distribution that tokens are drawn from, which is what the trainer compares with.
                logprobs_mode="processed_logprobs",
                skip_tokenizer_init=True,
                disable_log_stats=True,
                **options,
            )
        # vLLM and the compilers that it calls raise what they like.
        except Exception as failure:
            self.close()
            clear_away(failure)
            raise RunError(f"vLLM could not start: {failure}. Set the sampler to `torch` instead.") from failure
        if self._adapters is None:
            # The same weights again: a model that cannot take them costs nothing yet.
            self._load()
        self._sleep()

    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
        watcher: Watcher = NO_WATCHER,
    ) -> list[list[Rollout]]:
        """See `Sampler.sample`. Asked to stop, or for rollouts to drop, between the engine's steps."""
        self._wake()
        try:
            found = self._sample(requests, params, on_progress, should_stop, watcher)
        except StopRequested:
            # A stop is met, whatever becomes of the engine.
            with contextlib.suppress(RunError):
                self._sleep()
            raise
        except BaseException:
            # An engine that failed in the midst of its work might not even sleep, and hide the reason.
            self.close()
            raise
        self._sleep()
        return found

    def _sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
        watcher: Watcher,
    ) -> list[list[Rollout]]:
        engine = self._llm.llm_engine
        waiting = self._submit(requests, params)
        found: list[dict[int, Rollout]] = [{} for _ in requests]
        total = len(waiting)
        try:
            while waiting:
                if should_stop():
                    raise StopRequested
                for output in engine.step():
                    # One that was called off may still come back, unfinished business of the engine.
                    if output.finished and output.request_id in waiting:
                        number, index = waiting.pop(output.request_id)
                        found[number][index] = _rollout(output.outputs[0])
                        watcher.finished(number, index, found[number][index])
                settled = frozenset(watcher.settled())
                needless = [
                    name for name, (number, index) in waiting.items()
                    if number in settled and not requests[number].required(index)
                ]  # fmt: skip
                if needless:
                    engine.abort_request(needless)
                for name in needless:
                    number, index = waiting.pop(name)
                    found[number][index] = DROPPED
                    watcher.finished(number, index, DROPPED)
                on_progress(total - len(waiting), total)
        except StopRequested:
            engine.abort_request(list(waiting))
            raise
        return [[rollouts[index] for index in range(len(rollouts))] for rollouts in found]

    def _submit(self, requests: Sequence[SampleRequest], params: SamplingParams) -> dict[str, tuple[int, int]]:
        """Hand in every rollout as a request of its own, so that each can be called off; name -> its place."""
        from vllm import SamplingParams as VllmParams
        from vllm.sampling_params import RequestOutputKind

        settings = VllmParams(
            temperature=params.temperature,
            top_p=params.top_p,
            max_tokens=params.max_new_tokens,
            # The end token of the model's own file is one of these, or it does not end anything.
            ignore_eos=True,
            stop_token_ids=list(params.stop_ids),
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        call, adapter, seeded = next(self._calls), self._adapter(), seeds_are_free(self._llm)
        places: dict[str, tuple[int, int]] = {}
        for number, request in enumerate(requests):
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            for index in range(request.num_rollouts):
                name = f"{call}-{number}-{index}"
                places[name] = (number, index)
                if seeded:
                    settings = copy.copy(settings)
                    settings.seed = stream_of(request.stream, index)
                self._llm.llm_engine.add_request(name, prompt, settings, lora_request=adapter)
        return places

    def sync(self) -> None:
        """Serve the policy's newest weights from now on. Raises RunError where the engine cannot take them."""
        self._version += 1
        if self._adapters is not None:
            self._adapters.write(self._policy.model, self._adapter_name)
            return
        self._wake()
        self._load()
        self._sleep()

    def give_back(self) -> bool:
        """See `Sampler.give_back`. Nothing: what the engine keeps while the policy learns was set when it started."""
        return False

    def close(self) -> None:
        """Give back the engine's memory, its process group and the adapters' folder. May be called again."""
        if self._adapters is not None:
            self._adapters.close()
        llm, self._llm = self._llm, None
        if llm is None:
            return
        shut_down(llm)
        del llm
        clear_away()

    def _load(self) -> None:
        try:
            load_weights(self._llm, self._policy.base.state_dict())
        except Exception as failure:
            # Some weights may be new and some old now; nothing that such an engine says may be trained on.
            self.close()
            raise RunError(
                f"vLLM cannot take over the trained weights: {failure}. Train an adapter (model.method = lora) or set "
                "the sampler to `torch`. A run that is under way resumes from its last checkpoint."
            ) from failure

    def _wake(self) -> None:
        if not self._sleeps:
            return
        # What the trainer's allocator holds unused is the engine's now.
        torch.cuda.empty_cache()
        try:
            self._llm.wake_up()
        except Exception as failure:
            self.close()
            raise RunError(
                f"vLLM could not take its memory of the GPU again after an update: {failure}. Lower the tokens per "
                "micro-batch, end other programs that use the GPU, or set the sampler to `torch`, and resume the run."
            ) from failure

    def _sleep(self) -> None:
        """Level 1: weights wait in main memory. Level 2 would throw them away, adapters' base included."""
        if not self._sleeps:
            return
        try:
            self._llm.sleep(level=1)
        except Exception as failure:
            self.close()
            raise RunError(
                f"vLLM could not leave the GPU's memory to the update: {failure}. Its weights wait in main memory "
                "meanwhile. End other programs that use either, or set the sampler to `torch`, and resume the run."
            ) from failure

    @property
    def _adapter_name(self) -> str:
        return f"v{self._version}"

    def _adapter(self) -> Any:
        """The request that selects the newest adapter; None before the first update, which is the base."""
        if self._adapters is None or self._version == 0:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(self._adapter_name, self._version, str(self._adapters.path / self._adapter_name))


def _check_main_memory(policy: Policy, ranks: Ranks) -> None:
    """Raises RunError where the weights of an engine that sleeps have no room in main memory."""
    width = torch.finfo(getattr(torch, _computing_dtype(policy, True))).bits // 8
    needed = ranks.size * width * sum(weight.numel() for weight in policy.base.parameters())
    free = free_main_memory()
    if free is not None and free < needed:
        raise RunError(
            f"vLLM has to sleep during updates, and its weights, {needed / GIB:.1f} GiB in all, do not fit into main "
            f"memory then, of which {free / GIB:.1f} GiB are free. Set the sampler to `torch` instead."
        )


def _computing_dtype(policy: Policy, on_gpu: bool) -> str:
    """The number format that the trainer computes in. Weights that are all trained are float32, its products on a GPU
    are not."""
    if on_gpu and not isinstance(policy.model, PeftModel):
        return "bfloat16"
    return str(policy.base.dtype).removeprefix("torch.")


def _rollout(output: Any) -> Rollout:
    finish: Finish = "stop" if output.finish_reason == "stop" else "length"
    return Rollout(tuple(output.token_ids), tuple(float(value) for value in output.logprobs.logprobs), finish)
