"""Processes of jobs, seen from outside: whether one is still there, whether it is ours, and how it is ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from pathlib import Path

import psutil

from ttrl_engine.launch import signal_when_parent_ends


def has_exited(pid: int) -> bool:
    """Whether our child has ended. It is not reaped: as long as it is not, nobody else can get its number."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def is_ours(pid: int, job_id: int, attempt: int, data_dir: Path) -> bool:
    """Whether the process with this number, which may long be another's, computes this attempt of this job.

    A zombie does not count: it has no command line any more and computes nothing.
    """
    try:
        words = psutil.Process(pid).cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    wanted = {("--job", str(job_id)), ("--attempt", str(attempt)), ("--data-dir", str(data_dir))}
    return wanted <= set(itertools.pairwise(words))


def ask_to_end(pid: int) -> None:
    """SIGTERM to the process itself, not to its helpers: it needs them to save."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def kill_group(pgid: int) -> None:
    """SIGKILL to everything in the group, helpers included."""
    if pgid <= 1 or pgid == os.getpgrp():
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def kill_leftovers(pgid: int, before_at: float) -> None:
    """Kill helpers that outlived the leader of their group.

    Only what started before `before_at`, the job's last sign of life: whatever is younger has inherited the number.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == pgid and process.pid != pgid and process.create_time() < before_at:
                process.kill()


def end_with_parent(parent_pid: int, number: signal.Signals = signal.SIGTERM) -> bool:
    """Called by a child first thing: get this signal when the parent dies. False if the parent is already gone.

    Linux only; elsewhere the child looks at its parent from time to time. It is SIGTERM, so that it can still save; a
    process that torchrun has started gets SIGKILL: its group is its own, and its parent dies only by force.
    """
    signal_when_parent_ends(number)
    return os.getppid() == parent_pid


def offer_for_memory() -> None:
    """Called by a child: if the machine runs out of memory, Linux ends it and not the worker or the pages."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
