"""The hostile corpus through extraction, keys and elections: no code runs, nothing hangs, memory stays bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ttrl_engine.hostile import CANARY, CORPUS
from tests.ttrl_engine.hostile_pass import MATH_LIMIT_S, RULES
from ttrl_engine.equivalence.reader import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
# Seconds of computing, so that a busy machine does not count; but for what is read in a child, those of the clock: a
# string stands in at most four answers, each may hold a part for the child, and the child may have to start anew.
MOST_S = {"math": 4 * (PATIENCE * MATH_LIMIT_S + 2.0)}
MOST_MIB = 400


def test_the_corpus_is_large_and_of_many_kinds():
    assert len(set(CORPUS)) == len(CORPUS) >= 220
    assert max(map(len, CORPUS)) >= 1_000_000


@pytest.mark.timeout(300)
def test_no_string_of_the_corpus_runs_code_hangs_or_fills_the_memory(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "tests.ttrl_engine.hostile_pass"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    cost = json.loads(result.stdout)
    assert list(tmp_path.rglob(f"{CANARY}*")) == []
    assert len(cost["worst"]) == len(RULES) + 1
    assert [each for each in cost["worst"] if each[0] > MOST_S.get(each[1], 3.0)] == []
    assert cost["rss_mib"] < MOST_MIB, cost
