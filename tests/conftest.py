"""What every test may need: where Chromium is, and which marked tests this machine can run."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = "no browser: install chromium, set $CHROMIUM, or run `playwright install chromium`"

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Readings of answers are cached per person; tests must neither use nor change what the person who runs them has.
os.environ["XDG_CACHE_HOME"] = _cache = tempfile.mkdtemp(prefix="ttrl-tests-cache-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)


def find_chromium() -> str | None:
    """The browser to drive: $CHROMIUM, an installed one, then Playwright's own. None where there is none."""
    asked = os.environ.get("CHROMIUM")
    if asked:
        return shutil.which(asked)
    for name in CHROMIUM_NAMES:
        found = shutil.which(name)
        if found:
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    mac = Path.home() / "Library" / "Caches" / "ms-playwright"
    patterns = ("chromium-*/chrome-linux*/chrome", "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium")
    own = [path for folder in (cache, mac) if folder.is_dir() for pattern in patterns for path in folder.glob(pattern)]
    return str(max(own)) if own else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name, with the reason, what this machine cannot run."""
    reasons = {"e2e": _no_browser, "gpu": _no_gpu, "vllm": _no_vllm}
    for mark, look in reasons.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = look() if marked else None
        if reason:
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """How pytest-playwright starts the browser. A container's root user has no sandbox, and its /dev/shm is small.

    It can look up no name: a page that needs another machine than this one fails.
    """
    return {
        "executable_path": find_chromium(),
        "headless": True,
        "args": [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ],
    }


def _no_browser() -> str | None:
    return None if find_chromium() else NO_BROWSER


def _no_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA GPU on this machine"


def _no_vllm() -> str | None:
    return None if importlib.util.find_spec("vllm") else "vLLM is not installed: make EXTRAS=gpu test"
