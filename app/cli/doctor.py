"""`ttrl-studio doctor`: what is installed and what this machine offers, each with the next step where one is needed.

Must run where half of the packages are missing, so it imports them only to look at them.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warning", "missing"]

ESSENTIAL = (
    "torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "pydantic", "pydantic-settings", "huey",
    "sqlite-utils", "fastapi", "gradio", "uvicorn", "typer", "rich",
)  # fmt: skip
UPLOAD_FORMATS = {"openpyxl": "XLSX", "pyarrow": "Parquet"}
LEAST_PYTHON = (3, 11)
LEAST_SQLITE = (3, 37)


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` means that TTRL Studio cannot work without it."""

    name: str
    status: Status
    detail: str

    def as_dict(self) -> dict[str, str]:
        """Plain data for `--json`."""
        return asdict(self)


def examine(data_dir: Path) -> list[Finding]:
    """Look at everything, change nothing. Never raises: a look that fails is a finding itself."""
    looks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Python", _python),
        ("Packages", _packages),
        ("Machine", _machine),
        ("Health", lambda: _health(data_dir)),
        ("CUDA", _cuda),
        ("Bundled model", _bundled_models),
        ("Hub cache", _hub_cache),
    ]
    findings: list[Finding] = []
    for name, look in looks:
        try:
            findings += look()
        except Exception as failure:  # noqa: BLE001 -- the doctor's job is to report what is broken, whatever it is
            findings.append(Finding(name, "missing", f"could not be examined: {type(failure).__name__}: {failure}"))
    return findings


def _python() -> list[Finding]:
    python: Status = "ok" if sys.version_info >= LEAST_PYTHON else "missing"
    findings = [Finding("Python", python, f"{platform.python_version()} at {sys.executable}")]
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        findings.append(Finding("SQLite", "missing", f"{sqlite3.sqlite_version} has no STRICT tables; 3.37 is needed"))
    return findings


def _packages() -> list[Finding]:
    again = "not installed; run make again, or pip install --constraint constraints.txt ."
    findings = [_package(name, "missing", again) for name in ESSENTIAL]
    for name, kind in UPLOAD_FORMATS.items():
        findings.append(_package(name, "warning", f"not installed; {kind} files cannot be uploaded"))
    findings.append(
        _package("vllm", "ok", "not installed; answers are sampled by torch (for a GPU: make EXTRAS=gpu demo)")
    )
    return findings


def _package(name: str, status_without: Status, detail_without: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, status_without, detail_without)


def _machine() -> list[Finding]:
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    detail = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:,.1f} GiB memory"
    return [Finding("Machine", "ok", detail)]


def _health(data_dir: Path) -> list[Finding]:
    from worker import health
    from worker.settings import Settings

    statuses: dict[str, Status] = {"ok": "ok", "warn": "warning", "fail": "missing"}
    return [
        Finding(check.name, statuses[check.status], f"{check.message} {check.hint}".strip())
        for check in health.checks(Settings(data_dir=data_dir))
    ]


def _cuda() -> list[Finding]:
    from worker import health

    if not health.gpus():
        return []
    import torch

    if torch.cuda.is_available():
        return [Finding("CUDA", "ok", f"torch {torch.__version__} can use the GPU")]
    version = torch.__version__.partition("+")[0]
    advice = "Install the CUDA build: make clean, then make demo; or pip install --force-reinstall"
    return [Finding("CUDA", "warning", f"torch {torch.__version__} cannot use the GPU. {advice} torch=={version}")]


def _bundled_models() -> list[Finding]:
    from ttrl_engine.bundled import MODELS, model_path

    findings = []
    for name in MODELS:
        there = any(model_path(name).glob("*.safetensors"))
        detail = "in place" if there else "its weights are missing; run make model"
        findings.append(Finding(f"bundled:{name}", "ok" if there else "missing", detail))
    return findings


def _hub_cache() -> list[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    count = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    offline = " (HF_HUB_OFFLINE is set: nothing is fetched)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
    return [Finding("Hub cache", "ok", f"{folder}, {count} models{offline}")]
