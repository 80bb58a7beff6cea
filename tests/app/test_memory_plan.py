"""The memory of a run against a machine, and how the new-run page shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import memory_plan
from app.choices import Choices
from app.config_form import form_fields, form_values
from app.memory_plan import Machine, machine_for, plan_memory
from app.pages.new_run_memory import PARTS, memory_html, memory_words, picked_remedy
from app.pages.new_run_review import Start, review, summary_html
from app.services import Services
from ttrl_engine.bundled import model_path
from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.memory import GIB, ModelShape, estimate, read_shape
from ttrl_engine.models import ModelCheck, check_model
from worker import health
from worker.health import Gpu
from worker.settings import Settings

# Qwen2.5-Math-1.5B.
BILLIONS = ModelShape(1536, 28, 12, 2, 128, 8960, 151_936, tied=True, context=4096)
TINY = read_shape(model_path("abacus-1m"))
NAMES = [setting.name for setting in form_fields()]


def gpu(index: int, gib: int) -> Gpu:
    return Gpu(index, f"Card {index}", f"GPU-{index}aaaa", gib * GIB, GIB, 0)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "gpus", lambda: [gpu(0, 80), gpu(1, 24)])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_cards")
def test_a_run_must_fit_the_smallest_gpu_it_may_get(monkeypatch: pytest.MonkeyPatch):
    assert machine_for(RunConfig(), Settings()).name == "Card 1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine_for(RunConfig(), Settings()) == Machine("cuda", "Card 0", 80 * GIB, 79 * GIB)
    on_cpu = RunConfig().with_changes(**{"hardware.device": "cpu"})
    assert machine_for(on_cpu, Settings()).device == "cpu"


def test_without_a_gpu_auto_is_main_memory_and_cuda_compares_with_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "gpus", list)
    assert machine_for(RunConfig(), Settings()).device == "cpu"
    wanted = RunConfig().with_changes(**{"hardware.device": "cuda"})
    machine = machine_for(wanted, Settings())
    assert (machine.device, machine.total) == ("cuda", None)
    plan = plan_memory(BILLIONS, wanted, machine)
    assert plan.fit is None
    assert "no GPU is seen" in memory_words(plan)
    assert "this machine shows none" in memory_html(plan, None, "a/b")


def test_a_container_counts_for_the_machine(tmp_path: Path):
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert health.ram([tmp_path / "absent", limit]) == health.Ram(1_048_576, 1_048_576)
    limit.write_text("max\n")
    assert health.ram([limit]).total == health.ram([]).total > GIB


@pytest.mark.parametrize(("share", "fit"), [(0.5, "fits"), (0.84, "fits"), (0.95, "tight"), (1.01, "too large")])
def test_the_verdict_allows_for_the_error_of_the_estimate(share: float, fit: str):
    needed = estimate(TINY, RunConfig(), "cpu").total
    total = int(needed / share)
    assert plan_memory(TINY, RunConfig(), Machine("cpu", "main memory", total, total)).fit == fit


def test_vllm_is_counted_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    card = Machine("cuda", "Card", 80 * GIB, 80 * GIB)
    counted = []
    for installed in (None, object()):
        monkeypatch.setattr(memory_plan, "find_spec", lambda _name, found=installed: found)
        parts = plan_memory(BILLIONS, RunConfig(), card).estimate.parts
        counted.append(sum(part.bytes for part in parts if part.name == "vllm weights"))
    assert counted == [0, 2 * BILLIONS.parameters]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("changes", [{}, {"model.method": "full", "train.kl_coef": 0.1}, {"hardware.sampler": "vllm"}])
def test_every_part_has_words_and_every_remedy_gives_a_valid_config(preset, device, changes):
    config = PRESETS[preset].config().with_changes(**changes)
    plan = plan_memory(BILLIONS, config, Machine(device, "Card", GIB, GIB))
    assert {part.name for part in plan.estimate.parts} <= set(PARTS)
    assert plan.fit == "too large"
    assert plan.remedies
    for remedy in plan.remedies:
        changed = plan.estimate.config.with_changes(**remedy.changes)
        assert estimate(BILLIONS, changed, device, plan.estimate.gpu).total < plan.estimate.total
        assert remedy.title in memory_html(plan, None, "a/b")


@pytest.mark.parametrize(("gib", "words"), [(141, "of it."), (48, "gives it back for every update"), (4, "")])
def test_what_vllm_gets_of_the_gpu_is_said(gib: int, words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_plan, "find_spec", lambda _name: object())
    plan = plan_memory(BILLIONS, RunConfig(), Machine("cuda", "Card", gib * GIB, gib * GIB))
    said = memory_html(plan, None, "a/b")
    if words:
        assert plan.estimate.split is not None
        assert "vLLM takes" in said
        assert words in said
    else:
        # The run takes the torch sampler then, and so does the plan.
        assert plan.estimate.config.hardware.sampler == "torch"
        assert "vLLM" not in said
    asked = RunConfig().with_changes(**{"hardware.sampler": "vllm"})
    refused = plan_memory(BILLIONS, asked, Machine("cuda", "Card", 4 * GIB, 4 * GIB))
    assert "vLLM alone would take" in memory_html(refused, None, "a/b")
    assert refused.fit == "too large"


def test_only_a_remedy_that_is_offered_can_be_picked():
    plan = plan_memory(BILLIONS, RunConfig(), Machine("cpu", "main memory", 8 * GIB, GIB))
    [first, *_] = plan.remedies
    assert picked_remedy(plan, f"remedy:{first.title}") == first
    assert picked_remedy(plan, "remedy:train.learning_rate=1") is None
    assert picked_remedy(plan, first.title) is None
    assert picked_remedy(None, f"remedy:{first.title}") is None


def test_what_is_not_known_is_said_and_why():
    assert "looked up on the hub" in memory_html(None, None, "Qwen/Qwen3-0.6B")
    assert "Choose a model" in memory_html(None, None, "")
    odd = check_model("bundled:abacus-1m", (), False)
    assert "does not give all of its sizes" in memory_html(None, odd, "bundled:abacus-1m")
    assert "not known" in memory_words(None)


def test_the_form_is_judged_with_the_memory_of_its_model(tmp_path: Path):
    choices = Choices(Services.open(Settings(data_dir=tmp_path)))
    config = PRESETS["quick-look"].config()
    start = Start("“Quick look”", config)
    values = dict(zip(NAMES, form_values(config, NAMES), strict=True))
    known = review(choices, values, start)
    assert known.memory is not None
    assert known.memory.estimate.shape == TINY
    assert "fits" in summary_html(choices, known, start)
    unknown = review(choices, values | {"model.source": "Qwen/Qwen3-0.6B"}, start)
    assert unknown.memory is None
    assert unknown.plan is not None
    assert unknown.plan.disk_bytes is None
    assert "not known before the model is looked up" in summary_html(choices, unknown, start)


def test_what_the_hub_said_of_a_model_is_kept_but_not_that_it_was_out_of_reach(tmp_path: Path):
    choices, name = Choices(Services.open(Settings(data_dir=tmp_path))), "Qwen/Qwen3-0.6B"
    long_ago = -1e6
    for verdict, kept in (
        (ModelCheck(name, True, "", shape=BILLIONS), True),
        (ModelCheck(name, False, "offline"), False),
    ):
        choices._checks[(name, None)] = (long_ago, verdict)
        assert (choices.known_check(name, None) is not None) == kept
