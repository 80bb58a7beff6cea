"""One worker per data folder, held by a file lock that dies with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from ttrl_engine.errors import StudioError
from worker.folders import WORKER_LOCK


class WorkerLock:
    """Held from entering to leaving. Raises StudioError on entering if another worker holds it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / WORKER_LOCK
        self._file: IO[str] | None = None

    def __enter__(self) -> WorkerLock:
        self._path.touch(mode=0o600)
        held = self._path.open("r+", encoding="ascii")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = held.read(20).strip() or "unknown"
            held.close()
            raise StudioError(
                f"Another worker (process {other}) already serves {self._path.parent}. Stop it first, or choose "
                "another data folder."
            ) from None
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
        self._file = held
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
