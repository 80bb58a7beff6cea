"""The stand-in for a browser tab speaks with the real pages as a tab does."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tab import Tab
from tests.app.conftest import serving
from tests.app.scripted import Player, Script, problem_set
from worker.states import JobState
from worker.store import open_store


def test_a_tab_opens_ticks_and_obeys_the_timer_of_its_page(tmp_path: Path):
    store = open_store(tmp_path)
    problems = problem_set("sums", references=True)
    ended = Player(store, Script("Ended", problems, total_steps=5, steps=5, ends=JobState.FINISHED)).play()
    under_way = Player(store, Script("Under way", problems, total_steps=9, steps=5, ends=None)).play()
    with serving(tmp_path) as url:
        intervals = {}
        for path in (f"/run?id={ended}", f"/run?id={under_way}", "/run?id=99", "/problem-sets"):
            tab = Tab(url, path)
            assert tab.open() > 0.0
            assert not tab.has_timer or tab.tick() > 0.0
            intervals[path.rpartition("=")[2]] = tab.interval_s
            tab.close()
    assert intervals == {str(ended): 10.0, str(under_way): 2.0, "99": None, "/problem-sets": None}
