from __future__ import annotations

import pytest

from app.plan import make_plan, split_sizes, trained_parameters
from ttrl_engine.bundled import model_path
from ttrl_engine.config import RunConfig
from ttrl_engine.memory import read_shape
from ttrl_engine.problems import Problem, ProblemSet, split

SHAPE = read_shape(model_path("abacus-1m"))


@pytest.mark.parametrize(
    ("num", "share", "most"), [(96, 0.25, None), (30, 0.0, None), (10, 0.05, None), (100, 0.3, 20)]
)
def test_split_sizes_are_those_of_the_engine(num: int, share: float, most: int | None):
    problems = ProblemSet("p", "math", tuple(Problem(str(i), f"p {i}") for i in range(num)), {})
    parts = split(problems, share, most, 0)
    assert split_sizes(num, share, most) == (len(parts.adapt), len(parts.held_out))


def test_the_last_short_batch_counts_fewer_rollouts():
    config = RunConfig().with_changes(**{"data.held_out_share": 0.0, "train.epochs": 2, "train.problems_per_step": 8})
    plan = make_plan(config, 20)
    assert (plan.steps, plan.rollouts_per_step, plan.total_rollouts) == (6, 512, 2 * 20 * 64)


def test_a_step_limit_ends_within_an_epoch():
    config = RunConfig().with_changes(**{"data.held_out_share": 0.0, "train.max_steps": 3})
    assert make_plan(config, 20).total_rollouts == 20 * 64
    assert make_plan(config, 100).total_rollouts == 3 * 8 * 64


def test_time_and_disk_are_unknown_until_something_is_known():
    plan = make_plan(RunConfig(), 40)
    assert (plan.seconds_low, plan.seconds_high, plan.disk_bytes) == (None, None, None)
    known = make_plan(RunConfig(), 40, shape=SHAPE, rollouts_per_s=(10.0, 20.0))
    assert known.seconds_low == known.total_rollouts / 20
    assert known.disk_bytes is not None


def test_lora_learns_few_of_the_weights_and_full_all():
    full = trained_parameters(RunConfig().with_changes(**{"model.method": "full"}), SHAPE)
    assert full == SHAPE.parameters
    assert trained_parameters(RunConfig(), SHAPE) < full
