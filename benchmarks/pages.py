"""How long the server takes for each page over a large run: `python -m benchmarks.pages`.

The data are those of `benchmarks.large_run`, once finished and once running. Measured per page, from the client on the
same machine: opening it (the page and every handler that runs then, to the last result), and one tick of its timer
after the running run has taken a step, so that what can be redrawn is. Medians; the bar is one second. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.large_run import NUM_STEPS, LargeRun
from benchmarks.tab import Tab
from benchmarks.web import serving
from worker.recorder import Recorder
from worker.store import open_store
from worker.store.holding import Claim

LIMIT_S = 1.0

PAGES = {
    "Overview": "/",
    "New run": "/new",
    "New run, a clone": "/new?clone={finished}",
    "Queue": "/queue",
    "Runs": "/runs",
    "Runs, two overlaid": "/runs?ids={finished},{running}",
    "Compare": "/compare?run={finished}",
    "Problem sets": "/problem-sets",
    "Problem set": "/problem-sets?id={set}",
    "Settings": "/settings",
    "Run, finished": "/run?id={finished}",
    "Run, running": "/run?id={running}",
    "Run, one problem": "/run?id={running}&problem={problem}",
}


@dataclass(frozen=True)
class Timing:
    """Seconds of every repetition; no `tick` where the page has no timer."""

    page: str
    open: list[float]
    tick: list[float]

    @property
    def worst(self) -> float:
        """The larger median."""
        return max(statistics.median(each) for each in (self.open, self.tick) if each)


def measure(data_dir: Path, repeats: int, only: str) -> list[Timing]:
    """Build the data, start the web process, time every page."""
    store = open_store(data_dir)
    began = time.monotonic()
    finished, running = LargeRun(store, "Finished", 0), LargeRun(store, "Running", 1)
    finished.play(NUM_STEPS, ends=True)
    claim = running.play(NUM_STEPS, ends=False)
    store.report_worker("benchmark", 1, time.time(), 1, ())
    print(f"{NUM_STEPS:,} steps written twice in {time.monotonic() - began:.0f} s", flush=True)
    places = {
        "finished": finished.run_id,
        "running": running.run_id,
        "set": finished.store.run(finished.run_id).set_id,  # type: ignore[union-attr]  # made above
        "problem": running.parts.adapt[-1].id,
    }
    with serving(data_dir) as (url, _):
        return [
            timed(url, name, path.format(**places), running, claim, repeats)
            for name, path in PAGES.items()
            if only.lower() in name.lower()
        ]


def timed(url: str, name: str, path: str, running: LargeRun, claim: Claim, repeats: int) -> Timing:
    """Open the page in so many tabs, one after the other, each with a tick after a step of the run."""
    opened, ticked = [], []
    for repeat in range(repeats + 1):
        tab = Tab(url, path)
        seconds = tab.open()
        if repeat:  # the first fills caches that live as long as the process
            opened.append(seconds)
        if tab.has_timer:
            with Recorder(running.store, claim, running.run_id) as recorder:
                running.step(recorder, _next_step(running))
            running.store.beat(claim)
            seconds = tab.tick()
            if repeat:
                ticked.append(seconds)
        tab.close()
    timing = Timing(name, opened, ticked)
    print(line(timing), flush=True)
    return timing


def _next_step(running: LargeRun) -> int:
    run = running.store.run(running.run_id)
    assert run is not None
    return run.step + 1


def line(timing: Timing) -> str:
    """One line of the table."""
    parts = [f"{timing.page:<22}"]
    for seconds in (timing.open, timing.tick):
        text = f"{statistics.median(seconds):>9.3f}{max(seconds):>9.3f}" if seconds else f"{'-':>9}{'-':>9}"
        parts.append(text)
    return "".join(parts) + ("" if timing.worst < LIMIT_S else "   above the bar")


def main() -> int:
    """Measure and print; 1 where a page is above the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", default="", help="only pages whose name contains this")
    arguments = parser.parse_args()
    print(f"seconds{'':<15}{'open':>9}{'worst':>9}{'tick':>9}{'worst':>9}")
    with tempfile.TemporaryDirectory(prefix="ttrl-pages-") as folder:
        timings = measure(Path(folder), arguments.repeats, arguments.only)
    found = {
        each.page: {
            "open_s": round(statistics.median(each.open), 3),
            "tick_s": round(statistics.median(each.tick), 3) if each.tick else None,
        }
        for each in timings
    }
    print(json.dumps(found))
    return 0 if all(each.worst < LIMIT_S for each in timings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
