"""How busy the GPUs of a job were during each step, read from their driver beside the work. Without a GPU: nothing."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence

from ttrl_engine.events import Emit, Event, StepFinished
from worker.health import Gpu, gpus

INTERVAL_S = 2.0


class GpuWatch:
    """Reads every `INTERVAL_S` in a thread of its own. Use as a context manager; without a GPU no thread is started.

    Metrics of a step: "gpu.busy", the mean share of time in which a kernel ran, and "gpu.memory", the greatest share
    of memory in use by anybody. Both over all GPUs that the job may use; one that the driver does not tell is left out.
    """

    def __init__(self, read: Callable[[], Sequence[Gpu]] = gpus, interval_s: float = INTERVAL_S) -> None:
        self._read, self._interval_s = read, interval_s
        # Of the whole job: one of several processes sees only its own GPU from the moment that it begins to compute.
        self._devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._busy: list[float] = []
        self._memory: list[float] = []
        self._thread: threading.Thread | None = None

    def __enter__(self) -> GpuWatch:
        if self.look():
            self._thread = threading.Thread(target=self._loop, name="gpu watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> bool:
        """Read once; whether there was a GPU to read."""
        found = visible(self._read(), self._devices)
        with self._lock:
            self._busy += [gpu.utilisation / 100 for gpu in found if gpu.utilisation is not None]
            self._memory += [gpu.memory_used / gpu.memory_total for gpu in found if gpu.memory_total > 0]
        return bool(found)

    def take(self) -> dict[str, float]:
        """The metrics since the last call; a name whose value is unknown is left out."""
        with self._lock:
            busy, memory, self._busy, self._memory = self._busy, self._memory, [], []
        found = {"gpu.busy": sum(busy) / len(busy)} if busy else {}
        return found | ({"gpu.memory": max(memory)} if memory else {})

    def beside(self, emit: Emit) -> Emit:
        """`emit`, with the metrics of the GPUs added to those of every step."""

        def told(event: Event) -> None:
            if self._thread is not None and isinstance(event, StepFinished):
                # A step shorter than the interval is read at its end.
                if not self._busy:
                    self.look()
                event = dataclasses.replace(event, metrics={**event.metrics, **self.take()})
            emit(event)

        return told

    def _loop(self) -> None:
        while not self._closing.wait(self._interval_s):
            self.look()


def visible(found: Sequence[Gpu], devices: str | None) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES allows (indices or UUIDs, which may be cut short); all where it is not set."""
    if devices is None:
        return list(found)
    named = [name.strip() for name in devices.split(",") if name.strip()]
    return [gpu for gpu in found if any(name == str(gpu.index) or gpu.uuid.startswith(name) for name in named)]
