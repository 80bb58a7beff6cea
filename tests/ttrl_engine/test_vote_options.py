"""Each option of the vote in a real run of the bundled model: it trains, and what it pays is what is stored."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.ttrl_engine.test_trainer import small_config, train
from ttrl_engine.events import ElectionHeld, Ending, StepFinished

SHORT = {"train.max_steps": 2, "evaluate.every_steps": 0, "evaluate.num_samples": 1, "data.held_out_share": 0.0}


def rows_of(folder: Path) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """(step, problem) -> the stored rollouts."""
    found = defaultdict(list)
    for step in (1, 2):
        with gzip.open(folder / "rollouts" / f"step-{step:06d}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                found[step, row["problem_id"]].append(row)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"vote.selection": "balanced"},
        {"vote.reward": "soft"},
        {"vote.reward": "random"},
        {"vote.min_consensus": 0.5, "vote.negative_share": 0.25},
    ],
    ids=["balanced", "soft", "random", "negatives"],
)
def test_a_run_trains_under_the_option(tmp_path: Path, options: dict[str, Any]) -> None:
    events = train(tmp_path, small_config(**SHORT, **options))
    assert events[-1].as_dict()["ending"] is Ending.COMPLETED
    steps = [event for event in events if isinstance(event, StepFinished)]
    assert len(steps) == 2
    assert any(step.metrics["grad_norm"] > 0 for step in steps)
    held = {(e.step, e.problem_id): e for e in events if isinstance(e, ElectionHeld)}
    stored = rows_of(tmp_path)
    assert stored.keys() == held.keys()
    for place, rows in stored.items():
        election = held[place]
        assert sum(row["trained"] for row in rows) == 4
        assert sum(row["reward"] for row in rows) / 8 == pytest.approx(election.reward_mean)
        if options.get("vote.reward") == "soft" and election.label is not None:
            shares = [0.0 if r["class_index"] is None else election.classes[r["class_index"]].count / 8 for r in rows]
            assert [row["reward"] for row in rows] == shares
        if "vote.negative_share" in options and election.abstained == "low consensus":
            assert min(row["reward"] for row in rows) == -1
        if options.get("vote.selection") == "balanced" and election.label is not None:
            winners = sum(row["class_index"] == 0 and row["trained"] for row in rows)
            assert winners >= min(2, election.classes[0].count)
