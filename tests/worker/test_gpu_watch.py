"""What is told of GPUs: read at the driver's boundary, absent without one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ttrl_engine.events import Noted, StepFinished
from worker.gpu_watch import GpuWatch, visible
from worker.health import Gpu


def gpu(index: int, used: int, busy: int | None) -> Gpu:
    return Gpu(index, "A GPU", f"GPU-{index}{index}ab-cd", 100, used, busy)


def step(number: int) -> StepFinished:
    return StepFinished(number, 9, {"consensus": 0.5}, {})


def test_a_step_tells_the_mean_load_and_the_greatest_memory_of_its_own_readings(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    readings = iter([[gpu(0, 20, 40)], [gpu(0, 70, 80)], [gpu(0, 30, 100)]])
    told: list[Any] = []
    with GpuWatch(lambda: next(readings), interval_s=60.0) as watch:
        emit = watch.beside(told.append)
        watch.look()
        emit(step(1))
        emit(step(2))
        emit(Noted(2, "info", "kept as it is"))
    assert told[0].metrics == {"consensus": 0.5, "gpu.busy": pytest.approx(0.6), "gpu.memory": 0.7}
    assert told[1].metrics == {"consensus": 0.5, "gpu.busy": 1.0, "gpu.memory": 0.3}
    assert told[2] == Noted(2, "info", "kept as it is")


def test_it_watches_the_gpus_of_the_whole_job_also_when_this_process_has_taken_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    told: list[Any] = []
    with GpuWatch(lambda: [gpu(0, 20, 40), gpu(1, 70, 80), gpu(2, 90, 100)], interval_s=60.0) as watch:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        watch.take()
        watch.beside(told.append)(step(1))
    assert told[0].metrics == {"consensus": 0.5, "gpu.busy": pytest.approx(0.6), "gpu.memory": 0.7}


def test_without_a_gpu_nothing_is_told_and_no_thread_runs():
    told: list[Any] = []
    with GpuWatch(list, interval_s=0.01) as watch:
        assert not any(thread.name == "gpu watch" for thread in threading.enumerate())
        watch.beside(told.append)(step(1))
    assert told == [step(1)]


def test_a_load_that_the_driver_does_not_tell_is_left_out(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    told: list[Any] = []
    with GpuWatch(lambda: [gpu(0, 50, None)], interval_s=60.0) as watch:
        watch.beside(told.append)(step(1))
    assert told[0].metrics == {"consensus": 0.5, "gpu.memory": 0.5}


def test_only_the_gpus_of_the_job_count():
    found = [gpu(0, 10, 10), gpu(1, 90, 90)]
    assert visible(found, None) == found
    assert visible(found, "1") == [found[1]]
    assert visible(found, "GPU-00ab") == [found[0]]
    assert visible(found, "") == []
