"""What the machine offers and what ails it, for `doctor` and the settings page. Never changes anything."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from worker.settings import Settings
from worker.store.runs import installed_versions

# Where a container's limit stands, with control groups of version 2 and 1.
_RAM_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "glusterfs", "ceph", "lustre")


@dataclass(frozen=True)
class Disk:
    """Space of the disk that holds a folder."""

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver tells it; memory in bytes, utilisation in percent (None if not told)."""

    index: int
    name: str
    uuid: str
    memory_total: int
    memory_used: int
    utilisation: int | None


@dataclass(frozen=True)
class Ram:
    """Main memory that this process may use, in bytes."""

    total: int
    free: int


@dataclass(frozen=True)
class Check:
    """One thing looked at: its state, what was seen, and what to do if it is not well."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    hint: str = ""


def disk(folder: Path) -> Disk:
    """Free and total space of the disk of a folder, or of its nearest parent that exists."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    return Disk(usage.free, usage.total)


def ram(limits: Sequence[Path] = _RAM_LIMITS) -> Ram:
    """The memory of the machine, or of the container where that is less."""
    memory = psutil.virtual_memory()
    total = int(memory.total)
    for file in limits:
        try:
            total = min(total, int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # not there, or "max": no limit
    return Ram(total, min(total, int(memory.available)))


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs of the machine; none where there is no driver. The library is loaded only here."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 (any failure of a driver that need not be there means: no GPU)
        return []
    try:
        return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def gpu_slots(settings: Settings) -> tuple[str | None, ...]:
    """One entry per slot: the GPU it computes on, as CUDA_VISIBLE_DEVICES takes it, or None for the CPU.

    A CUDA_VISIBLE_DEVICES of the worker itself is kept to; an empty one hides every GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = [part.strip() for part in visible.split(",") if part.strip() and part.strip() != "-1"]
    else:
        found = [gpu.uuid for gpu in gpus()]
    num_slots = settings.slots or max(1, len(found))
    return tuple(found[slot % len(found)] if found else None for slot in range(num_slots))


def versions() -> dict[str, str]:
    """What runs here: Python, SQLite, the system, and the packages that matter."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(terse=True),
        **installed_versions(),
    }


def sqlite_warning(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str | None:
    """A sentence if this SQLite has the WAL-reset bug (https://sqlite.org/wal.html), which is very rare but corrupts.

    Fixed in 3.51.3 and later, and in the backports 3.50.7 and 3.44.6.
    """
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    if fixed or version < (3, 7):
        return None
    return f"SQLite {'.'.join(map(str, version))} has a rare fault of its write-ahead log that 3.51.3 has mended."


def filesystem(folder: Path) -> str | None:
    """The type of the file system that holds a folder, where the system tells."""
    folder = folder.resolve()
    best: tuple[int, str] | None = None
    for part in psutil.disk_partitions(all=True):
        mount = Path(part.mountpoint)
        if (mount == folder or mount in folder.parents) and (best is None or len(part.mountpoint) >= best[0]):
            best = (len(part.mountpoint), part.fstype)
    return None if best is None else best[1]


def checks(settings: Settings) -> list[Check]:
    """Everything looked at, the data folder first."""
    return [_check_folder(settings), _check_disk(settings), _check_filesystem(settings), _check_sqlite(), _check_gpu()]


def _check_folder(settings: Settings) -> Check:
    folder = settings.data_dir
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    if os.access(there, os.W_OK | os.X_OK):
        return Check("Data folder", "ok", f"{folder} can be written.")
    return Check("Data folder", "fail", f"{folder} cannot be written.", "Choose another with --data-dir.")


def _check_disk(settings: Settings) -> Check:
    space = disk(settings.data_dir)
    message = f"{space.free_bytes / 2**30:.1f} GiB of {space.total_bytes / 2**30:.1f} GiB are free."
    if space.free_bytes < settings.min_free_bytes:
        return Check("Disk", "fail", message, "No job is started before space is freed on the disk of the data folder.")
    if space.free_bytes < 4 * settings.min_free_bytes:
        return Check("Disk", "warn", message, "Checkpoints may soon fill it. Free some space.")
    return Check("Disk", "ok", message)


def _check_filesystem(settings: Settings) -> Check:
    kind = filesystem(settings.data_dir)
    if kind is not None and kind.lower().startswith(_NETWORK_FILESYSTEMS):
        hint = "SQLite's write-ahead log does not work over a network. Choose a data folder on a local disk."
        return Check("File system", "fail", f"The data folder lies on a network file system ({kind}).", hint)
    return Check("File system", "ok", f"The data folder lies on {kind or 'a file system of unknown type'}.")


def _check_sqlite() -> Check:
    warning = sqlite_warning()
    if warning is None:
        return Check("SQLite", "ok", f"Version {sqlite3.sqlite_version}.")
    return Check("SQLite", "warn", warning, "Take a Python with a newer SQLite when you can, and keep backups.")


def _check_gpu() -> Check:
    found = gpus()
    if not found:
        return Check("GPU", "ok", "No NVIDIA GPU was found: jobs compute on the CPU.")
    names = ", ".join(f"{gpu.name} ({gpu.memory_total / 2**30:.0f} GiB)" for gpu in found)
    return Check("GPU", "ok", f"{names}.")


def _gpu(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        utilisation = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:
        utilisation = None
    name, uuid = (_plain(value) for value in (pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)))
    return Gpu(index, name, uuid, int(memory.total), int(memory.used), utilisation)


def _plain(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
