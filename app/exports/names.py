"""What a run's files are called outside: made of numbers and of names that say nothing about this machine."""

from __future__ import annotations

from pathlib import PurePath

from ttrl_engine.config import RunConfig
from ttrl_engine.models import BUNDLED_PREFIX, is_hub_name
from worker.rows import RunRow


def adapter_name(run: RunRow) -> str:
    """The folder inside the archive of trained weights."""
    return f"run-{run.id}-{'adapter' if run.config.model.method == 'lora' else 'weights'}"


def merged_name(run: RunRow) -> str:
    """The folder inside the archive of the merged model."""
    return f"run-{run.id}-merged"


def hub_name(source: str) -> str | None:
    """The base model's name on the hub; None where it comes from a folder or is bundled."""
    return source if is_hub_name(source) else None


def public_source(source: str) -> str:
    """The model's name without the folders of this machine."""
    return source if hub_name(source) or source.startswith(BUNDLED_PREFIX) else PurePath(source).name


def public_config(config: RunConfig) -> RunConfig:
    """The config without paths of this machine."""
    source, problems = public_source(config.model.source), config.data.problems
    if not problems.startswith((BUNDLED_PREFIX, "set:")):
        problems = PurePath(problems).name
    return config.with_changes(**{"model.source": source, "data.problems": problems})
