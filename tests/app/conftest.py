"""A furnished data folder and the real server over it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from app.server import build_app
from tests.app.scripted import furnish
from worker.settings import Settings
from worker.store import Store, open_store


@dataclass(frozen=True)
class Studio:
    """A running web process, its store, and the ids of the runs in it."""

    url: str
    store: Store
    runs: dict[str, int]


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Runs of every kind: finished, failed, without references, hardly learning, running, queued."""
    folder = tmp_path_factory.mktemp("furnished")
    store = open_store(folder)
    runs = furnish(store)
    with serving(folder) as url:
        yield Studio(url, store, runs)


@pytest.fixture
def empty_studio(tmp_path: Path) -> Iterator[Studio]:
    """Nothing in it yet: what a new visitor meets."""
    store = open_store(tmp_path)
    with serving(tmp_path) as url:
        yield Studio(url, store, {})


class serving:  # noqa: N801 (used like a function)
    """The web process in a thread, on a free port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        app = build_app(Settings(data_dir=folder, port=self.port))
        config = uvicorn.Config(app, "127.0.0.1", self.port, log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < deadline, "the web process did not start"
            time.sleep(0.05)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)
