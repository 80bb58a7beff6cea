"""The sampler on vLLM, in this process: token ids in, token ids and log-probabilities out, nothing detokenised.

vLLM is an extra (`pip install 'ttrl-studio[gpu]'`); this module imports it only when a sampler is made. After each
update the adapter is written to a new folder under a new name: vLLM's prefix cache is keyed by adapter, so a name used
twice would serve keys and values of the weights before.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel

from ttrl_engine.errors import RunError
from ttrl_engine.models import resolve_source
from ttrl_engine.policy import Policy
from ttrl_engine.sampler import OnProgress, Rollout, SampleRequest, SamplingParams, ShouldStop, StopRequested

# Of a GPU's memory; the rest is the trainer's.
GPU_SHARE = 0.45
MAX_ROWS = 512


def vllm_installed() -> bool:
    """Whether vLLM can be imported, without importing it (which takes many seconds)."""
    return importlib.util.find_spec("vllm") is not None


class VllmSampler:
    """Samples with vLLM's continuous batching. Adapters follow each `sync`; full weights are copied in place.

    Random numbers come from the engine's own stream: seeds per request would cost a Python loop per token. A resumed
    run therefore draws other rollouts than one never stopped.
    """

    name = "vllm"

    def __init__(self, policy: Policy, source: str, revision: str | None, max_tokens: int, seed: int) -> None:
        """`max_tokens` bounds prompt and answer together. Raises RunError where vLLM is missing or does not start."""
        if not vllm_installed():
            raise RunError(
                "The config asks for the vLLM sampler, but vLLM is not installed. Install it with "
                "`pip install 'ttrl-studio[gpu]'`, or set the sampler to `torch`."
            )
        # The engine's scheduler must run in this process, so that a pause or a cancel takes effect between its steps.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm import LLM

        self._policy = policy
        self._lora = policy.model if isinstance(policy.model, PeftModel) else None
        self._version = 0
        self._adapters = Path(tempfile.mkdtemp(prefix="ttrl-adapters-", dir=_fast_folder()))
        options: dict[str, Any] = {}
        if self._lora is not None:
            rank = policy.lora_rank
            options = {"enable_lora": True, "max_loras": 1, "max_lora_rank": _allowed_rank(rank)}
        on_gpu = policy.device.type == "cuda"
        try:
            self._llm = LLM(
                model=resolve_source(source),
                revision=revision,
                dtype=str(policy.base.dtype).removeprefix("torch."),
                seed=seed,
                max_model_len=max_tokens,
                max_num_seqs=MAX_ROWS,
                gpu_memory_utilization=GPU_SHARE,
                enforce_eager=not on_gpu,
                # A model's own generation settings must not leak into the vote.
                generation_config="vllm",
                # Of the distribution that tokens are drawn from, which is what the trainer compares with.
                logprobs_mode="processed_logprobs",
                skip_tokenizer_init=True,
                disable_log_stats=True,
                **options,
            )
        except (RuntimeError, ValueError) as failure:
            shutil.rmtree(self._adapters, ignore_errors=True)
            raise RunError(f"vLLM could not start: {failure}. Set the sampler to `torch` instead.") from failure

    def sample(
        self,
        requests: Sequence[SampleRequest],
        params: SamplingParams,
        on_progress: OnProgress,
        should_stop: ShouldStop,
    ) -> list[list[Rollout]]:
        """See `Sampler.sample`. Progress counts finished rollouts."""
        from vllm import SamplingParams as VllmParams
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        settings = VllmParams(
            temperature=params.temperature,
            top_p=params.top_p,
            max_tokens=params.max_new_tokens,
            stop_token_ids=list(params.stop_ids),
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        places: dict[str, tuple[int, int]] = {}
        for index, request in enumerate(requests):
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            for number in range(request.num_rollouts):
                name = f"{index}-{number}"
                places[name] = (index, number)
                engine.add_request(name, prompt, settings, lora_request=self._adapter())
        found: dict[tuple[int, int], Rollout] = {}
        while len(found) < len(places):
            if should_stop():
                engine.abort_request([name for name, place in places.items() if place not in found])
                raise StopRequested
            for output in engine.step():
                if output.finished:
                    found[places[output.request_id]] = _rollout(output.outputs[0])
            on_progress(len(found), len(places))
        return [[found[index, number] for number in range(r.num_rollouts)] for index, r in enumerate(requests)]

    def sync(self) -> None:
        """Serve the policy's newest weights from now on."""
        self._version += 1
        if self._lora is not None:
            self._lora.save_pretrained(str(self._adapters / f"v{self._version}"), safe_serialization=True)
            shutil.rmtree(self._adapters / f"v{self._version - 2}", ignore_errors=True)
            return
        model = self._llm.llm_engine.model_executor.driver_worker.model_runner.model
        model.load_weights(list(self._policy.base.state_dict().items()))
        self._llm.reset_prefix_cache()

    def close(self) -> None:
        """Give back the engine's memory and the adapters' folder."""
        import gc

        shutil.rmtree(self._adapters, ignore_errors=True)
        del self._llm
        gc.collect()

    def _adapter(self) -> Any:
        """The request that selects the newest adapter; None before the first update, which is the base."""
        if self._lora is None or self._version == 0:
            return None
        from vllm.lora.request import LoRARequest

        name = f"v{self._version}"
        return LoRARequest(name, self._version, str(self._adapters / name))


def _rollout(output: Any) -> Rollout:
    finish: Literal["stop", "length"] = "stop" if output.finish_reason == "stop" else "length"
    return Rollout(tuple(output.token_ids), tuple(float(value) for value in output.logprobs.logprobs), finish)


def _allowed_rank(rank: int) -> int:
    """The next rank that vLLM's kernels are built for."""
    return next((allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512) if rank <= allowed), rank)


def _fast_folder() -> str | None:
    """Shared memory where there is some; adapters are written every step."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a private folder is made inside
