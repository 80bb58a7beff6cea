"""The worker of a data folder: consumer, supervisor and reconciler, from start to clean stop."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence

from worker import health
from worker.lock import WorkerLock
from worker.notify import Notifier
from worker.queue import Doorbell
from worker.reconciler import Reconciler
from worker.settings import Settings
from worker.store import open_store
from worker.supervisor import CHILD, Supervisor

_HEALTH_CHECK_S = 10.0
_log = logging.getLogger("worker")


def serve(settings: Settings, child: Sequence[str] = CHILD, on_ready: Callable[[], None] = lambda: None) -> None:
    """Compute the jobs of the data folder until SIGTERM or SIGINT; a second one does not wait for jobs to save.

    Must be called in the main thread. Raises StudioError if another worker serves the folder.
    """
    store = open_store(settings.data_dir)
    with WorkerLock(store.data_dir):
        for check in health.checks(settings):
            if check.status != "ok":
                _log.warning("%s: %s %s", check.name, check.message, check.hint)
        gpus = health.gpu_slots(settings)
        # Unlike a process id, never the name of an earlier worker.
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        supervisor = Supervisor(store, settings, name, gpus, child)
        doorbell = Doorbell(store.data_dir, supervisor.serve)
        reconciler = Reconciler(store, settings, supervisor, doorbell, gpus)
        consumer = doorbell.consumer(len(gpus))
        notifier = Notifier(store)
        stop = _stop_on_signals(supervisor)
        reconciler.start()
        consumer.start()
        notifier.start()
        _log.info("worker %s serves %s with %s slot(s)", name, store.data_dir, len(gpus))
        on_ready()
        checked_s = time.monotonic()
        while not stop.wait(0.2):
            if time.monotonic() - checked_s > _HEALTH_CHECK_S:
                checked_s = time.monotonic()
                consumer.check_worker_health()
        _log.info("stopping: jobs save and go back to the queue")
        supervisor.stopping.set()
        consumer.stop(graceful=True)
        reconciler.stop()
        notifier.stop()
        doorbell.close()
        _log.info("stopped")


def _stop_on_signals(supervisor: Supervisor) -> threading.Event:
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            supervisor.hurry.set()
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
