"""What `make bench-engine` prints follows from what its two sides report."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import toy
from benchmarks.children import Sides
from benchmarks.engine_side import run_config
from benchmarks.engine_vs_trl import WORKLOADS, Measured, describe, job_of, summary
from benchmarks.exchange import Job


def steps(seconds: list[float], overhead: float) -> list[dict[str, float]]:
    return [{"cpu_s": value, "overhead_share": overhead, "mean_length": 22.0} for value in seconds]


def test_the_last_line_has_every_workload_and_the_largest_overhead():
    found = {
        name: Measured(steps([9.0, 10.0, 50.0], 0.0), steps([1.0, 2.0, 2.0], 0.001 * index), "cpu_s")
        for index, name in enumerate(WORKLOADS, start=1)
    }
    assert json.loads(json.dumps(summary(found))) == {
        "trl_over_ours": {
            "train64": 5.0,
            "vote64_train32": 5.0,
            "lora_train64": 5.0,
            "lora_vote64_train32": 5.0,
            "fixed32_train64": 5.0,
            "fixed32_vote64_train32": 5.0,
        },
        "overhead_share": 0.006,
    }
    assert describe("train64", found["train64"]).split()[:5] == ["train64", "10.00", "2.00", "5.00", "4.5"]


def test_a_ratio_just_under_a_bar_is_not_rounded_up_to_it():
    assert Measured(steps([1.999], 0.0), steps([1.0], 0.0), "cpu_s").ratio == 1.99


@pytest.mark.parametrize("name", WORKLOADS)
def test_our_run_does_what_trl_is_asked_to_do(name, tmp_path):
    job = job_of(WORKLOADS[name], tmp_path, "cpu", 5)
    config = run_config(job, toy.NUM_PROBLEMS)
    assert (config.vote.num_votes, config.vote.num_trained) == (64, WORKLOADS[name].num_trained)
    assert config.vote.max_new_tokens == job.max_new_tokens == (32 if "fixed" in name else 128)
    assert (config.model.method == "lora") == ("lora" in name)
    assert (config.train.advantage, config.train.kl_coef, config.train.updates_per_step) == ("mean", 0.0, 1)
    assert (config.train.learning_rate, config.train.schedule) == (job.learning_rate, "constant")


def test_our_side_reports_each_step_it_is_asked_for(tmp_path):
    shape = toy.Shape(32, 64, 1, 2, 2, 200, trained=False)
    toy.save_model(tmp_path / "ended", shape, True, 0, torch.device("cpu"))
    toy.save_problems(tmp_path / "problems.json", 0)
    job = replace(job_of(WORKLOADS["train64"], tmp_path, "cpu", 5), num_votes=4, num_trained=4, max_new_tokens=16)
    with Sides(tmp_path).start_ours(job) as child:
        assert child.wait() == {"ready": True}
        taken = [child.step(), child.step()]
    assert all(step["cpu_s"] > 0.0 and 1.0 <= step["mean_length"] <= 16.0 for step in taken)
    assert all(0.0 <= step["overhead_share"] < 1.0 for step in taken)


def test_a_side_that_dies_is_reported_with_its_log(tmp_path):
    broken = tmp_path / "python"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such module')\n", encoding="utf-8")
    broken.chmod(0o755)
    job = Job("m", "p", "cpu", 4, 4, 0, 8, 1e-5, 4, 0, 1)
    with pytest.raises(RuntimeError, match="no such module"), Sides(broken).start_trl(job) as child:
        child.wait()


def test_a_job_survives_the_command_line():
    job = Job("a model's folder", "p.json", "cpu", 64, 32, 8, 128, 1e-5, 64, 0, 7)
    assert Job.from_json(job.to_json()) == job
