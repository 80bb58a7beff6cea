"""vLLM's engine in this process: starting it, handing it weights, clearing it away. What depends on vLLM's inside is
here; it is imported only when an engine is started."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

_log = logging.getLogger(__name__)


def vllm_installed() -> bool:
    """Whether vLLM can be imported, without importing it (which takes many seconds)."""
    return importlib.util.find_spec("vllm") is not None


def start_engine(rank: int, **options: Any) -> Any:
    """A `vllm.LLM` of these options, for one of the ranks of a run. Raises whatever vLLM does."""
    # The engine's scheduler must run in this process, so that a pause or a cancel takes effect between its steps.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # Lines on standard output are events.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    from vllm import LLM, envs

    if rank > 0:
        # Every engine takes itself for the only one. What two of them compile must not go into the same files.
        os.environ["VLLM_CACHE_ROOT"] = str(Path(envs.VLLM_CACHE_ROOT) / f"rank-{rank}")
    return LLM(**options)


def seeds_are_free(llm: Any) -> bool:
    """Whether a seed per request costs nothing: the model runner that a GPU gets draws all rows in one kernel, the
    older one, which a CPU gets, would go through the seeded rows one by one, at every token."""
    return bool(getattr(llm.llm_engine.vllm_config, "use_v2_model_runner", False))


def load_weights(llm: Any, weights: Mapping[str, Tensor]) -> None:
    """Put weights (names and shapes as in the model's checkpoint) into the running engine, and forget what it computed
    by the old ones. Raises whatever the model's loader does, and ValueError where weights stay as they were."""
    llm.collective_rpc(_load, args=(weights,))
    if not llm.reset_prefix_cache():
        raise ValueError("its cache of prompts is still in use")


def _load(worker: Any, weights: Mapping[str, Tensor]) -> None:
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    model = worker.model_runner.get_model()
    expected = {name for name, _ in model.named_parameters()}
    # As when the engine started: layouts that kernels need (experts, a CPU's packed matrices) are made again, in the
    # storage that captured graphs point to. The model's loader alone would leave them out.
    with set_current_vllm_config(worker.vllm_config):
        initialize_layerwise_reload(model)
        loaded = model.load_weights(iter(weights.items()))
        finalize_layerwise_reload(model, worker.model_config)
    # Loaders pass over names that they do not know.
    missing = sorted(expected - loaded) if loaded is not None else []
    if missing:
        raise ValueError(f"{len(missing)} of its {len(expected)} tensors get no weights, such as {missing[0]}")


def shut_down(llm: Any) -> None:
    """End an engine. Never raises: what comes after it in a run matters more."""
    try:
        llm.llm_engine.engine_core.shutdown()
    # One that sleeps gives memory back which it does not hold, and the driver may object.
    except Exception:  # noqa: BLE001 (logged)
        _log.warning("vLLM did not shut down in order. Its memory comes back when this process ends.", exc_info=True)


def clear_away(failure: BaseException | None = None) -> None:
    """Give back what an engine that nobody refers to any more has left, or one that ended in `failure` as it started:
    its groups, and the memory that its allocators keep. Never raises."""
    while failure is not None:
        # The variables of its frames hold the model.
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__ or failure.__context__
    try:
        from vllm.device_allocator.cumem import CuMemAllocator
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        # vLLM hides from the collector what it made as it started.
        gc.unfreeze()
        gc.collect()
        if CuMemAllocator.instance is not None:
            CuMemAllocator.instance.release_pools()
        cleanup_dist_env_and_memory()
    # Names inside vLLM may move; without them the memory comes back when this process ends.
    except Exception:  # noqa: BLE001 (logged)
        _log.warning("What vLLM left behind could not be cleared away.", exc_info=True)


def allowed_rank(rank: int) -> int:
    """The next rank of an adapter that vLLM's kernels are built for."""
    return next((allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512) if rank <= allowed), rank)


def free_main_memory() -> int | None:
    """Bytes that the machine, and the container that this process is in, have left; None where the system does not
    say."""
    left = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        left += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        left.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    # No such file, or a group without a limit.
    except (OSError, ValueError):
        pass
    return min(left, default=None)
