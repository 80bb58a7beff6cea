"""What 40 open tabs cost a run that is being trained: `python -m benchmarks.tabs`.

One run of the bundled model through the real worker, on one thread; its rate is so small that every step is the same
work. 40 tabs on the pages of that run are `benchmarks.tab`: HTTP clients that make the requests which Chromium makes,
at the same times. They stand for browsers on other machines, yet run on this one and take their CPU from it. Blocks
of steps with and without them alternate within the one run, and the first step of each block is not counted.

Measured per step: wall seconds, and CPU seconds of the process that trains. The CPU seconds do not count the time in
which other programs had the core, so they are the figure to trust on a shared machine; wall seconds on a quiet one. The
bar is a ratio of the medians within 3 %. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.pause import wait_for, working
from benchmarks.tab import Tab
from benchmarks.web import serving
from ttrl_engine.config import PRESETS, RunConfig
from worker.jobs import JobDesk
from worker.states import JobState
from worker.store import Store, open_store

LIMIT = 0.03
POLL_S = 0.05
# Most people watch the run; some have it open elsewhere.
PATHS = ("/run?id={run}",) * 6 + ("/", "/queue", "/runs?ids={run}", "/run?id={run}&tab=spot")


@dataclass(frozen=True)
class Step:
    """One step of the run: how long it took, and what the training process used."""

    wall_s: float
    cpu_s: float


@dataclass
class Visitors:
    """Tabs that tick while they are awake, one thread each."""

    url: str
    run_id: int
    awake: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    ticks: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, count: int) -> None:
        """Open the tabs, one after the other, and let them sleep."""
        tabs = [Tab(self.url, PATHS[i % len(PATHS)].format(run=self.run_id)) for i in range(count)]
        for tab in tabs:
            tab.open()
        self.threads = [threading.Thread(target=self._visit, args=(tab, i), daemon=True) for i, tab in enumerate(tabs)]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Close every tab."""
        self.closing.set()
        self.awake.set()
        for thread in self.threads:
            thread.join()

    def _visit(self, tab: Tab, place: int) -> None:
        # People do not open their tabs in step.
        time.sleep(0.05 * place)
        next_s = time.monotonic()
        while not self.closing.is_set():
            self.awake.wait()
            next_s = max(next_s + (tab.interval_s or 10.0), time.monotonic())
            if self.closing.wait(next_s - time.monotonic()):
                break
            if tab.interval_s is None or not self.awake.is_set():
                continue
            try:
                self.ticks.append(tab.tick())
            except (OSError, RuntimeError) as error:
                self.errors.append(str(error))
                break
        tab.close()


def job() -> RunConfig:
    """The demo job without evaluations, checkpoints and learning: every step is the same work."""
    changes = {
        "train.epochs": 1000,
        "train.learning_rate": 1e-9,
        "evaluate.every_steps": 0,
        "data.benchmarks": (),
        "checkpoint.every_steps": 1000,
        "hardware.threads": 1,
        "safeguards.action": "note",
    }
    return PRESETS["quick-look"].config().with_changes(**changes)


@contextmanager
def training(data_dir: Path) -> Iterator[tuple[JobDesk, int]]:
    """The run at work, its model loaded and its base scored."""
    desk = JobDesk(open_store(data_dir))
    with working(data_dir):
        run_id = desk.submit_run(job(), "tabs")
        wait_for(desk.store, run_id, lambda run: run.step >= 2 and run.state is JobState.RUNNING)
        yield desk, run_id
        last = desk.store.run(run_id)
        assert last is not None
        desk.cancel(last.job_id)
        wait_for(desk.store, run_id, lambda run: run.state is JobState.STOPPED)


def steps(store: Store, run_id: int, count: int) -> list[Step]:
    """The next `count` whole steps. The one under way is not among them."""
    marks: list[tuple[float, float]] = []
    last = _step(store, run_id)
    trainer = _trainer(store, run_id)
    while len(marks) <= count:
        time.sleep(POLL_S)
        now = _step(store, run_id)
        if now == last:
            continue
        used = trainer.cpu_times()
        marks.append((time.monotonic(), used.user + used.system))
        last = now
    return [Step(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(marks)]


def _step(store: Store, run_id: int) -> int:
    return int(store.rows("SELECT step FROM runs WHERE id = ?", (run_id,))[0]["step"])


def _trainer(store: Store, run_id: int) -> psutil.Process:
    run = store.run(run_id)
    assert run is not None
    assert run.job.pid is not None
    return psutil.Process(run.job.pid)


def measure(data_dir: Path, tabs: int, blocks: int, per_block: int) -> dict[str, object]:
    """Alternate blocks without and with tabs; returns the figures."""
    with training(data_dir) as (desk, run_id), serving(data_dir) as (url, web_pid):
        visitors, web, own = Visitors(url, run_id), psutil.Process(web_pid), psutil.Process()
        visitors.open(tabs)
        found: dict[int, list[Step]] = {0: [], tabs: []}
        used = {"web": 0.0, "visitors": 0.0}
        for block in range(2 * blocks):
            count = tabs if block % 2 else 0
            before, start = [_cpu(each) for each in (web, own)], time.monotonic()
            visitors.awake.set() if count else visitors.awake.clear()
            taken = steps(desk.store, run_id, per_block)
            found[count] += taken
            if count:
                seconds = time.monotonic() - start
                for name, then, process in zip(used, before, (web, own), strict=True):
                    used[name] += (_cpu(process) - then) / seconds / blocks
            print(line(f"block {block + 1}, {count} tabs", taken), flush=True)
        visitors.close()
    if visitors.errors:
        raise RuntimeError(f"{len(visitors.errors)} of {tabs} tabs failed: {visitors.errors[0]}")
    return summary(found[0], found[tabs], tabs, used, visitors.ticks)


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def line(name: str, taken: Sequence[Step]) -> str:
    """Medians of some steps in one line."""
    wall, cpu = (statistics.median(values) for values in ([s.wall_s for s in taken], [s.cpu_s for s in taken]))
    return f"{name:<20}{wall:>8.3f} s wall{cpu:>8.3f} s CPU per step{3600 / wall:>8.0f} steps/h"


def summary(
    alone: Sequence[Step], watched: Sequence[Step], tabs: int, used: dict[str, float], ticks: Sequence[float]
) -> dict[str, object]:
    """Ratios of the medians, the load of both sides, and how long a tick took."""
    print(line("without tabs", alone))
    print(line(f"with {tabs} tabs", watched))
    slower = {
        name: statistics.median(getattr(step, name) for step in watched)
        / statistics.median(getattr(step, name) for step in alone)
        - 1.0
        for name in ("cpu_s", "wall_s")
    }
    return {
        "tabs": tabs,
        "steps": [len(alone), len(watched)],
        "cpu_slower": round(slower["cpu_s"], 4),
        "wall_slower": round(slower["wall_s"], 4),
        "web_cores": round(used["web"], 3),
        "visitor_cores": round(used["visitors"], 3),
        "ticks": len(ticks),
        "tick_median_s": round(statistics.median(ticks), 3) if ticks else None,
    }


def main() -> int:
    """Measure and print; 1 where training is slower by more than the bar, in CPU seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabs", description=__doc__)
    parser.add_argument("--tabs", type=int, default=40)
    parser.add_argument("--blocks", type=int, default=4, help="blocks with and as many without tabs")
    parser.add_argument("--steps", type=int, default=6, help="steps counted per block")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ttrl-tabs-") as folder:
        found = measure(Path(folder), arguments.tabs, arguments.blocks, arguments.steps)
    print(json.dumps(found))
    return 0 if float(str(found["cpu_slower"])) <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
