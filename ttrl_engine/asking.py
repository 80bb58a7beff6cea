"""How the two models of a comparison are asked. Importing this module does not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ttrl_engine.config import RunConfig


@dataclass(frozen=True)
class Asking:
    """`weights` is the folder of the adapted policy (a run's `policy`, or a checkpoint), `config` that of its run.
    Each problem gets `num_samples` answers from each model, of random streams that depend on `seed` and the problem
    alone."""

    weights: Path
    config: RunConfig
    num_samples: int
    temperature: float
    max_new_tokens: int
    seed: int
