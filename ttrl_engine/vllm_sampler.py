"""The sampler on vLLM, in this process: token ids in, token ids and log-probabilities out, nothing detokenised.

vLLM is an extra (`pip install 'ttrl-studio[gpu]'`); this module imports it only when a sampler is made. After each
update the adapter is written to a new folder under a new name: vLLM's prefix cache is keyed by adapter, so a name used
twice would serve keys and values of the weights before.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError, RunError
from ttrl_engine.gpu_split import Split
from ttrl_engine.memory import PROCESS, ModelShape, estimate
from ttrl_engine.models import resolve_source
from ttrl_engine.policy import Policy
from ttrl_engine.sampler import (
    NO_WATCHER,
    Finish,
    OnProgress,
    Rollout,
    SampleRequest,
    SamplingParams,
    ShouldStop,
    StopRequested,
    Watcher,
)

# Of a GPU's memory where a model's sizes are not known, and on a CPU of the main memory.
GPU_SHARE = 0.45
MAX_ROWS = 512
DROPPED = Rollout((), (), "dropped")


def vllm_installed() -> bool:
    """Whether vLLM can be imported, without importing it (which takes many seconds)."""
    return importlib.util.find_spec("vllm") is not None


def split_of_gpu(policy: Policy, config: RunConfig) -> Split | None:
    """How this process's GPU is divided between the policy and vLLM, what other programs hold left out; None without a
    GPU, or where the model's config does not give its sizes."""
    if policy.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(policy.device)
    others = max(0, total - free - torch.cuda.memory_reserved(policy.device) - PROCESS["cuda"])
    try:
        shape = ModelShape.from_config(policy.base.config.to_dict())
    except ModelError:
        return None
    return estimate(shape, config, "cuda", total - others).split


class VllmSampler:
    """Samples with vLLM's continuous batching. Adapters follow each `sync`; full weights are copied in place.

    Random numbers come from the engine's own stream: seeds per request would cost a Python loop per token. A resumed
    run therefore draws other rollouts than one never stopped.
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
    ) -> None:
        """`max_tokens` bounds prompt and answer together. The engine takes what `split` gives it of the GPU's memory,
        and gives it back between calls where that says so. Raises RunError where vLLM is missing or does not start."""
        if not vllm_installed():
            raise RunError(
                "The config asks for the vLLM sampler, but vLLM is not installed. Install it with "
                "`pip install 'ttrl-studio[gpu]'`, or set the sampler to `torch`."
            )
        self.notes: list[str] = []
        self._policy = policy
        self._lora = policy.model if isinstance(policy.model, PeftModel) else None
        self._version = 0
        self._calls = itertools.count()
        self._adapters = Path(tempfile.mkdtemp(prefix="ttrl-adapters-", dir=_fast_folder()))
        options: dict[str, Any] = {}
        if self._lora is not None:
            options = {"enable_lora": True, "max_loras": 1, "max_lora_rank": _allowed_rank(policy.lora_rank)}
        on_gpu = policy.device.type == "cuda"
        share = GPU_SHARE
        if split is not None:
            share = split.engine / torch.cuda.get_device_properties(policy.device).total_memory
        self._sleeps = split is not None and split.sleeps
        options["enable_sleep_mode"] = self._sleeps
        self._llm: Any = None
        try:
            self._llm = _engine(
                model=resolve_source(source),
                revision=revision,
                dtype=_computing_dtype(policy, on_gpu),
                seed=seed,
                max_model_len=max_tokens,
                max_num_seqs=MAX_ROWS,
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
            self._sleep()
        # vLLM asserts what it needs of its surroundings, such as an allocator without segments that expand.
        except (AssertionError, ImportError, OSError, RuntimeError, ValueError) as failure:
            self.close()
            raise RunError(f"vLLM could not start: {failure}. Set the sampler to `torch` instead.") from failure

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
            return self._sample(requests, params, on_progress, should_stop, watcher)
        finally:
            self._sleep()

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
        finally:
            if waiting:
                engine.abort_request(list(waiting))
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
        call, adapter = next(self._calls), self._adapter()
        places: dict[str, tuple[int, int]] = {}
        for number, request in enumerate(requests):
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            for index in range(request.num_rollouts):
                name = f"{call}-{number}-{index}"
                places[name] = (number, index)
                self._llm.llm_engine.add_request(name, prompt, settings, lora_request=adapter)
        return places

    def sync(self) -> None:
        """Serve the policy's newest weights from now on. Raises RunError where the engine cannot take them."""
        self._version += 1
        if self._lora is not None:
            self._lora.save_pretrained(str(self._adapters / f"v{self._version}"), safe_serialization=True)
            shutil.rmtree(self._adapters / f"v{self._version - 2}", ignore_errors=True)
            return
        self._wake()
        try:
            model = self._llm.llm_engine.model_executor.driver_worker.model_runner.model
            model.load_weights(list(self._policy.base.state_dict().items()))
            self._llm.reset_prefix_cache()
        except (AttributeError, KeyError, RuntimeError, ValueError) as failure:
            # Some weights are new and some are old now; nothing that such an engine says may be trained on.
            self.close()
            raise RunError(
                f"vLLM could not take over the trained weights: {failure}. Train an adapter (model.method = lora) or "
                "set the sampler to `torch`, and resume from the last checkpoint."
            ) from failure
        self._sleep()

    def give_back(self) -> bool:
        """See `Sampler.give_back`. Nothing: what the engine keeps while the policy learns was set when it started."""
        return False

    def close(self) -> None:
        """Give back the engine's memory, its process group and the adapters' folder. May be called again."""
        shutil.rmtree(self._adapters, ignore_errors=True)
        llm, self._llm = self._llm, None
        if llm is None:
            return
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        # Names of vLLM's inside that may move; without them the memory comes back when this process ends.
        with contextlib.suppress(ImportError, AttributeError, AssertionError, RuntimeError):
            from vllm.distributed.parallel_state import destroy_distributed_environment, destroy_model_parallel

            destroy_model_parallel()
            destroy_distributed_environment()

    def _wake(self) -> None:
        if self._sleeps:
            # What the trainer's allocator holds unused is the engine's now.
            torch.cuda.empty_cache()
            self._llm.wake_up()

    def _sleep(self) -> None:
        """Level 1: weights wait in host memory. Level 2 would throw them away, adapters' base included."""
        if self._sleeps and self._llm is not None:
            self._llm.sleep(level=1)

    def _adapter(self) -> Any:
        """The request that selects the newest adapter; None before the first update, which is the base."""
        if self._lora is None or self._version == 0:
            return None
        from vllm.lora.request import LoRARequest

        name = f"v{self._version}"
        return LoRARequest(name, self._version, str(self._adapters / name))


def _engine(**options: Any) -> Any:
    # The engine's scheduler must run in this process, so that a pause or a cancel takes effect between its steps.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM

    return LLM(**options)


def _computing_dtype(policy: Policy, on_gpu: bool) -> str:
    """The number format that the trainer computes in. Weights that are all trained are float32, its products on a GPU
    are not."""
    if on_gpu and not isinstance(policy.model, PeftModel):
        return "bfloat16"
    return str(policy.base.dtype).removeprefix("torch.")


def _rollout(output: Any) -> Rollout:
    finish: Finish = "stop" if output.finish_reason == "stop" else "length"
    return Rollout(tuple(output.token_ids), tuple(float(value) for value in output.logprobs.logprobs), finish)


def _allowed_rank(rank: int) -> int:
    """The next rank that vLLM's kernels are built for."""
    return next((allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512) if rank <= allowed), rank)


def _fast_folder() -> str | None:
    """Shared memory where there is some; adapters are written every step."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a private folder is made inside
