"""The web process of an installation, started for a benchmark."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY_S = 90.0


@contextmanager
def serving(data_dir: Path) -> Iterator[tuple[str, int]]:
    """`python -m app` over the data folder, on a free port; gives its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    given = {"TTRL_STUDIO_DATA_DIR": str(data_dir), "TTRL_STUDIO_PORT": str(port)}
    with (data_dir / "web.log").open("wb") as log:
        web = subprocess.Popen(
            [sys.executable, "-m", "app"], env=os.environ | given, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, web, data_dir / "web.log")
        yield url, web.pid
    finally:
        web.send_signal(signal.SIGTERM)
        try:
            web.wait(30)
        except subprocess.TimeoutExpired:
            web.kill()
            web.wait()


def _wait(url: str, web: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s:
        if web.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:  # noqa: S310 -- our own address
                if answer.status == http.client.OK:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"The web process did not start:\n{log.read_text(errors='replace')[-3000:]}")
