"""The memory of a run against what this machine has, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from ttrl_engine.config import RunConfig
from ttrl_engine.gpu_split import COMFORTABLE
from ttrl_engine.memory import Device, Estimate, ModelShape, Remedy, estimate, remedies
from worker import health
from worker.settings import Settings

Fit = Literal["fits", "tight", "too large"]


@dataclass(frozen=True)
class Machine:
    """Where the run would compute. `total` and `free` are bytes, None where a GPU is asked for and none is seen."""

    device: Device
    name: str
    total: int | None
    free: int | None


@dataclass(frozen=True)
class MemoryPlan:
    """The estimate, how it compares with the machine (None: nothing to compare with) and what would lower it."""

    estimate: Estimate
    machine: Machine
    fit: Fit | None
    remedies: tuple[Remedy, ...]


def machine_for(config: RunConfig, settings: Settings) -> Machine:
    """What the config's device means here. Of several GPUs the smallest: a run may get any of them."""
    visible = [slot for slot in health.gpu_slots(settings) if slot is not None]
    if config.hardware.device != "cpu" and visible:
        # A driver names a GPU by index or by the whole or the start of its id.
        found = [gpu for gpu in health.gpus() if any(v == str(gpu.index) or gpu.uuid.startswith(v) for v in visible)]
        if found:
            smallest = min(found, key=lambda gpu: gpu.memory_total)
            free = smallest.memory_total - smallest.memory_used
            return Machine("cuda", smallest.name, smallest.memory_total, free)
    if config.hardware.device == "cuda":
        return Machine("cuda", "GPU", None, None)
    ram = health.ram()
    return Machine("cpu", "main memory", ram.total, ram.free)


def plan_memory(shape: ModelShape, config: RunConfig, machine: Machine) -> MemoryPlan:
    """Judge the memory of a run; what would lower it is measured against a comfortable share of the machine's."""
    if machine.device == "cuda" and config.hardware.sampler == "auto" and find_spec("vllm") is None:
        config = config.with_changes(**{"hardware.sampler": "torch"})
    found = estimate(shape, config, machine.device, machine.total)
    if found.split is not None and not found.split.fits and config.hardware.sampler == "auto":
        # As the run itself will find out.
        found = estimate(shape, config.with_changes(**{"hardware.sampler": "torch"}), machine.device, machine.total)
    if machine.total is None:
        return MemoryPlan(found, machine, None, ())
    comfortable = int(COMFORTABLE * machine.total)
    fit: Fit = "fits" if found.total <= comfortable else "tight" if found.total <= machine.total else "too large"
    return MemoryPlan(found, machine, fit, tuple(remedies(found, comfortable)))
