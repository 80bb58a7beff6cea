"""Makes true again what a crash has made untrue: jobs without a worker, doorbells that were lost."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

from worker import processes
from worker.queue import Doorbell
from worker.rows import JobRow
from worker.settings import Settings
from worker.settlement import Cause, settle
from worker.store import Store
from worker.store.holding import Claim
from worker.supervisor import Supervisor

_log = logging.getLogger(__name__)


class Reconciler:
    """One round at the start and one every few seconds; every round may find nothing to do."""

    def __init__(
        self, store: Store, settings: Settings, supervisor: Supervisor, doorbell: Doorbell, gpus: Sequence[str | None]
    ) -> None:
        self._store, self._settings, self._supervisor, self._doorbell = store, settings, supervisor, doorbell
        self._gpus = tuple(gpus)
        self._started_at = time.time()
        self._kill_at_s: dict[Claim, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reconciler", daemon=True)

    def start(self) -> None:
        """Do the first round now, the others in a thread."""
        self.round()
        self._thread.start()

    def stop(self) -> None:
        """End the rounds and say that the worker has left."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._report(up=False)

    def round(self) -> None:
        """Sign of life, orphans, doorbells."""
        self._report(up=True)
        for job in self._store.reclaimable(self._supervisor.name, self._settings.stale_s):
            if not self._supervisor.holds(Claim(job.id, job.attempt)):
                self._reclaim(job)
        self._ring()

    def _loop(self) -> None:
        while not self._stopping.wait(self._settings.reconcile_s):
            try:
                self.round()
            except Exception:  # noqa: BLE001 (logged)
                # A full disk or a busy database must not end the rounds: the next one finds the same work.
                _log.exception("a round of the reconciler failed")

    def _report(self, up: bool) -> None:
        gpus = [gpu for gpu in self._gpus if gpu is not None]
        self._store.report_worker(self._supervisor.name, os.getpid(), self._started_at, len(self._gpus), gpus, up)

    def _reclaim(self, job: JobRow) -> None:
        """Take a job back from a worker that is gone, once no process of it is left that could still write or compute.

        A process that outlived its worker is already saving (it gets SIGTERM when its parent dies): it has the grace
        period for that, over several rounds, so that the others need not wait.
        """
        claim = Claim(job.id, job.attempt)
        if job.pid is not None and processes.is_ours(job.pid, job.id, job.attempt, self._store.data_dir):
            now_s = time.monotonic()
            if claim not in self._kill_at_s:
                _log.warning("job %s outlived its worker as process %s and is asked to end", job.id, job.pid)
                self._kill_at_s[claim] = now_s + self._settings.grace_s
                processes.ask_to_end(job.pid)
            elif now_s > self._kill_at_s[claim]:
                processes.kill_group(job.pid)
            return
        if job.pgid is not None and job.heartbeat_at is not None:
            processes.kill_leftovers(job.pgid, job.heartbeat_at)
        self._kill_at_s.pop(claim, None)
        most = self._settings.max_crashes
        state = self._store.let_go(claim, lambda job, step: settle(job, Cause.WORKER_LOST, None, step, "", most))
        _log.warning("job %s had lost its worker and is now %s", job.id, state)

    def _ring(self) -> None:
        """One ring for every job that could start now, if none is still to be answered."""
        if self._store.queue_held() or self._doorbell.num_rung() > 0:
            return
        self._doorbell.ring(min(len(self._store.queue()), self._supervisor.num_free()))
