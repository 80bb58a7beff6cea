"""One child process per job: started in a session of its own, watched, and ended when it is asked to end."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

import worker
from worker import processes
from worker.failures import classify, failure, is_disk_full
from worker.folders import comparison_folder, export_folder, preflight_folder, run_folder
from worker.reserve import Reserve
from worker.rows import JobRow
from worker.settings import Settings
from worker.settlement import Cause, Verdict, settle
from worker.states import UNDISTURBED, Intent, JobState
from worker.store import Store
from worker.store.holding import Claim, FencedError
from worker.store.run_files import tail

TICK_S = 0.1
# Reading one row costs next to nothing, and a person waits for it.
LISTEN_S = 0.1
GATHER_S = 0.5

Decide: TypeAlias = Callable[[JobRow, int], Verdict]

CHILD = (sys.executable, "-m", "worker.child")

_log = logging.getLogger(__name__)


class Supervisor:
    """Holds the jobs of this worker. `gpus` has one entry per slot: the GPU of the slot, or None for the CPU."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        name: str,
        gpus: Sequence[str | None] = (None,),
        child: Sequence[str] = CHILD,
    ) -> None:
        self._store, self._settings, self._child = store, settings, tuple(child)
        self.name = name
        self.stopping = threading.Event()
        self.hurry = threading.Event()
        self._slots: SimpleQueue[str | None] = SimpleQueue()
        self._num_gpus = len(set(gpus) - {None})
        # Held while a job waits for its GPUs: two that each had some of them would wait for ever.
        self._claiming = threading.Lock()
        for gpu in gpus:
            self._slots.put(gpu)
        self._held: set[Claim] = set()
        self._reserve = Reserve(store.data_dir)

    def serve(self) -> None:
        """Answer the doorbell: compute what waits, head first, until nothing waits or the worker stops."""
        while not self.stopping.is_set():
            slots: list[str | None] = []
            claim: Claim | None = None
            try:
                with self._claiming:
                    slots.append(self._slots.get())
                    claim = None if self.stopping.is_set() else self._store.claim_next(self.name, slots[0])
                    if claim is None:
                        return
                    self._held.add(claim)
                    ready = self._gather_gpus(claim, slots)
                if ready:
                    self._see_through(claim, slots)
            finally:
                if claim is not None:
                    self._held.discard(claim)
                for slot in slots:
                    self._slots.put(slot)

    def num_free(self) -> int:
        """Slots without a job."""
        return self._slots.qsize()

    def holds(self, claim: Claim) -> bool:
        """Whether a thread of this supervisor looks after the job."""
        return claim in self._held

    def _gather_gpus(self, claim: Claim, slots: list[str | None]) -> bool:
        """Take the slots of the other GPUs that the job asks for as jobs end; False where it is let go instead."""
        wanted = 1 if slots[0] is None else self._gpus_of(self._store.job(claim.job_id))
        if wanted > self._num_gpus > 0:
            reason = f"The run asks for {wanted} GPUs and this worker has {self._num_gpus}. Clone it with fewer."
            self._let_go(claim, lambda _job, _step: Verdict(JobState.FAILED, reason, failure("no_gpu", reason)))
            return False
        while len(set(slots)) < wanted:
            with contextlib.suppress(Empty):
                slots.append(self._slots.get(timeout=GATHER_S))
            cause = Cause.WORKER_STOPS if self.stopping.is_set() else Cause.ASKED
            if cause is Cause.WORKER_STOPS or self._store.beat(claim) not in UNDISTURBED:
                self._let_go(claim, lambda job, step, why=cause: settle(job, why, None, step, "", 1))  # type: ignore[misc]
                return False
        return True

    def _gpus_of(self, job: JobRow) -> int:
        run = self._store.run(job.subject_id) if job.kind == "run" else None
        return 1 if run is None or run.config.hardware.device == "cpu" else run.config.hardware.gpus

    def _see_through(self, claim: Claim, slots: Sequence[str | None]) -> None:
        # Given back on a full disk: laid in again once there is room.
        self._reserve.keep()
        job = self._store.job(claim.job_id)
        folder = job_folder(self._store.data_dir, job)
        try:
            process = self._start(claim, folder, slots)
        except OSError as error:
            _log.exception("job %s could not be started", claim.job_id)
            found = classify(error)
            self._let_go(claim, lambda _job, _step: Verdict(JobState.FAILED, found.message, found))
            return
        _log.info("job %s attempt %s: process %s", claim.job_id, claim.attempt, process.pid)
        cause = self._watch(process.pid, claim)
        # Helpers first, while the leader is not reaped and the group's number is surely still ours.
        processes.kill_group(process.pid)
        exit_code = process.wait()
        log_tail = tail(folder / "log.txt", 60)
        most = self._settings.max_crashes
        state = self._let_go(claim, lambda job, step: settle(job, cause, exit_code, step, log_tail, most))
        _log.info("job %s attempt %s: exit code %s, %s", claim.job_id, claim.attempt, exit_code, state or "not ours")

    def _start(self, claim: Claim, folder: Path, slots: Sequence[str | None]) -> subprocess.Popen[bytes]:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments = {
            "--data-dir": str(self._store.data_dir),
            "--job": str(claim.job_id),
            "--attempt": str(claim.attempt),
            "--parent": str(os.getpid()),
        }
        words = [word for pair in arguments.items() for word in pair]
        # A file, never a pipe: a pipe fills up or breaks when the worker is gone, and takes the run with it.
        with open(folder / "log.txt", "ab", opener=_private) as log:
            return subprocess.Popen(
                [*self._child, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment(slots),
            )

    def _environment(self, slots: Sequence[str | None]) -> dict[str, str]:
        gpus = ",".join(dict.fromkeys(slot for slot in slots if slot is not None))
        root = str(Path(worker.__file__).resolve().parents[1])
        paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **({"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}),
            **({} if self._settings.hub_allowed else {"HF_HUB_OFFLINE": "1"}),
        }

    def _watch(self, pid: int, claim: Claim) -> Cause:
        """Give signs of life until the process has ended, and bring it to its end in stages when one is asked for."""
        cause = Cause.ITSELF
        began_s = time.monotonic()
        kill_at_s: float | None = None
        ear = _Ear(self._store, claim, pid, self._settings.heartbeat_s)
        while not processes.has_exited(pid):
            # Not an event's wait: it would return at once, again and again, while the worker stops.
            time.sleep(TICK_S)
            now_s = time.monotonic()
            wanted = ear.hear(now_s)
            if kill_at_s is None:
                limit_s = self._settings.time_limit_s
                if wanted not in UNDISTURBED:
                    cause = Cause.ASKED
                elif self.stopping.is_set():
                    cause = Cause.WORKER_STOPS
                elif limit_s is not None and now_s - began_s > limit_s:
                    cause = Cause.TIME_LIMIT
                else:
                    continue
                _log.info("job %s is asked to end (%s)", claim.job_id, cause)
                processes.ask_to_end(pid)
                kill_at_s = now_s + self._settings.grace_s
            elif now_s > kill_at_s or self.hurry.is_set():
                _log.warning("job %s did not end within %s s and is killed", claim.job_id, self._settings.grace_s)
                processes.kill_group(pid)
                kill_at_s = now_s + 5.0
        return cause

    def _let_go(self, claim: Claim, decide: Decide) -> JobState | None:
        """Write down how it ended, however long it takes until that can be written."""
        while True:
            try:
                return self._store.let_go(claim, decide)
            except sqlite3.Error as error:
                _log.exception("the end of job %s cannot be written yet", claim.job_id)
                if is_disk_full(error):
                    self._reserve.release()
                if self.hurry.is_set():
                    return None
                time.sleep(1.0)


class _Ear:
    """Listens for what the person wants; gives a sign of life now and then, and passes on the number of the process."""

    def __init__(self, store: Store, claim: Claim, pid: int, heartbeat_s: float) -> None:
        self._store, self._claim, self._pid, self._heartbeat_s = store, claim, pid, heartbeat_s
        self._beat_at_s = self._listen_at_s = float("-inf")
        self._is_noted = False
        self._wanted: Intent | None = Intent.RUN

    def hear(self, now_s: float) -> Intent | None:
        """The newest word; None once the job is no longer ours. A database that is busy or full changes nothing."""
        if now_s < self._listen_at_s:
            return self._wanted
        self._listen_at_s = now_s + min(LISTEN_S, self._heartbeat_s)
        try:
            if not self._is_noted:
                self._store.note_process(self._claim, self._pid)
                self._is_noted = True
            if now_s >= self._beat_at_s:
                self._wanted = self._store.beat(self._claim)
                self._beat_at_s = now_s + self._heartbeat_s
            else:
                self._wanted = self._store.listen(self._claim)
        except FencedError:
            self._wanted = None
        except sqlite3.Error as error:
            _log.warning("job %s: no sign of life could be written: %s", self._claim.job_id, error)
        return self._wanted


def job_folder(data_dir: Path, job: JobRow) -> Path:
    """The folder of the run, the comparison, the export or the check that the job computes."""
    folders = {
        "run": run_folder,
        "compare": comparison_folder,
        "export": export_folder,
        "preflight": preflight_folder,
    }
    return folders[job.kind](data_dir, job.subject_id)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
