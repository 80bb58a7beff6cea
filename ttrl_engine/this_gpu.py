"""What a run needs of the GPU that this process has."""

from __future__ import annotations

import torch

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError
from ttrl_engine.memory import PROCESS, Estimate, ModelShape, estimate
from ttrl_engine.policy import Policy


def expected_use(policy: Policy, config: RunConfig) -> Estimate | None:
    """The estimate over the GPU's memory, what other programs hold left out; None without a GPU, or where the model's
    config does not give its sizes."""
    if policy.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(policy.device)
    others = max(0, total - free - torch.cuda.memory_reserved(policy.device) - PROCESS["cuda"])
    try:
        shape = ModelShape.from_config(policy.base.config.to_dict())
    except ModelError:
        return None
    return estimate(shape, config, "cuda", total - others)
