"""What the operator decides, from the environment (TTRL_STUDIO_…) or the command line; never from a page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """One installation. Each field is also an environment variable: TTRL_STUDIO_PORT, TTRL_STUDIO_DATA_DIR, …"""

    model_config = SettingsConfigDict(env_prefix="TTRL_STUDIO_", frozen=True, extra="ignore", validate_default=True)

    data_dir: Path = Field(Path("data"), description="Folder of everything stored: databases, runs, uploads.")
    host: str = Field("127.0.0.1", description="Address the web process listens on.")
    port: int = Field(7860, ge=0, le=65535, description="Port the web process listens on; 0 takes a free one.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1", "localhost"), description="Host names the web process answers to, separated by commas."
    )
    model_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders below which models may be picked, separated as in PATH."
    )
    hub_allowed: bool = Field(True, description="Whether models may be fetched from the Hugging Face hub.")
    trust_remote_code: bool = Field(False, description="Whether code that ships with a model may run.")
    max_upload_bytes: int = Field(64 * 2**20, ge=1024, description="Largest problem file taken.")
    grace_s: float = Field(30.0, ge=0.1, description="Seconds a job gets to save when told to stop; then it is killed.")
    heartbeat_s: float = Field(2.0, gt=0.0, description="Seconds between the signs of life of a running job.")
    stale_s: float = Field(
        30.0, gt=0.0, description="Seconds without a sign of life after which a job counts as orphaned."
    )
    reconcile_s: float = Field(2.0, gt=0.0, description="Seconds between two rounds of the reconciler.")
    max_crashes: int = Field(3, ge=1, description="Unexpected ends without a new step after which a job is given up.")
    time_limit_s: float | None = Field(None, gt=0.0, description="Longest a job may compute in one go; unset: any.")
    min_free_bytes: int = Field(256 * 2**20, ge=0, description="Least free disk a job is started with.")
    slots: int | None = Field(
        None, ge=1, le=64, description="Jobs at the same time; unset: one per GPU, or one on the CPU."
    )

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        return _split(value, os.pathsep)

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        return _split(value, ",")

    @field_validator("data_dir")
    @classmethod
    def _absolute_data_dir(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("model_roots")
    @classmethod
    def _absolute_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(root.expanduser().resolve() for root in value)


def _split(value: Any, separator: str) -> Any:
    """A list from a variable: JSON where it looks like it, else parts between separators."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return tuple(part.strip() for part in value.split(separator) if part.strip())
