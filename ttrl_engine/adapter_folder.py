"""Where adapters lie that an inference engine reads: a folder that this process alone holds, gone when it is done."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ttrl_engine.errors import RunError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a private folder is made inside
PREFIX = "ttrl-adapters-"


class AdapterFolder:
    """In shared memory, as adapters are written every step, or, where that is small (64 MB in a container), among the
    system's temporary files. It is locked for as long as this process lives, so that the next run can tell one that a
    killed process left behind; a process id would not do, containers share this memory and number their own."""

    def __init__(self, num_bytes: int, num_ranks: int) -> None:
        """`num_bytes` is the size of one adapter; each of the ranks keeps one."""
        temporary = Path(tempfile.gettempdir())
        for place in (SHARED_MEMORY, temporary):
            _remove_left_behind(place)
        place = SHARED_MEMORY if _room(SHARED_MEMORY) > 4 * num_bytes * num_ranks else temporary
        # Under a name that nobody looks for until it is locked.
        folder = Path(tempfile.mkdtemp(prefix=f"new-{PREFIX}", dir=place))
        self._lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = folder.rename(folder.with_name(folder.name.removeprefix("new-")))

    def write(self, model: Any, name: str) -> Path:
        """Save the adapter of a peft model in place of the one before. Raises RunError where there is no room."""
        for old in self.path.iterdir():
            shutil.rmtree(old, ignore_errors=True)
        try:
            model.save_pretrained(str(self.path / name), safe_serialization=True)
        except (OSError, SafetensorError) as failure:
            # Not chained: it is no disk that is full, and no model that is damaged.
            full = getattr(failure, "errno", None) == errno.ENOSPC or "No space left" in str(failure)
            raise RunError(
                f"The adapter for vLLM could not be written to {self.path.parent}: "
                f"{'there is no room left' if full else failure}. Make room there (in a container start it with more, "
                "such as --shm-size 2g) or set the sampler to `torch`, and resume the run."
            ) from None
        return self.path / name

    def close(self) -> None:
        """Remove it. May be called again."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _room(place: Path) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


def _remove_left_behind(place: Path) -> None:
    """Remove the folders of processes that were killed before they could."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            # Another user's, or gone by now.
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            # Its owner lives.
            pass
        finally:
            os.close(held)
