"""Waiting for something that another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Return once `holds()` is true; fail, naming `what`, when it does not become so in time."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, f"waited {timeout_s} s in vain for: {what}"
        time.sleep(0.03)
