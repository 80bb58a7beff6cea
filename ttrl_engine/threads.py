"""CPU threads: how many, and how they wait for each other. Importing this module does not load torch."""

from __future__ import annotations

import os


def default_threads() -> int:
    """All cores but one (at least one): the web page, the browser and the system want to run too."""
    return max(1, (os.cpu_count() or 1) - 1)


def wait_politely() -> None:
    """Let idle threads sleep instead of spin. Call it before torch is loaded; later it has no effect.

    Threads that spin at a barrier while another program holds the core of the thread they wait for slow a small model
    down several times over.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
