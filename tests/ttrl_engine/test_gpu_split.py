"""What an inference engine gets of a GPU beside the trainer, and when it must sleep."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ttrl_engine import trainer, vllm_sampler
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import RunError
from ttrl_engine.gpu_split import COMFORTABLE, Split, split_gpu
from ttrl_engine.memory import GIB, PROCESS, ModelShape, estimate
from ttrl_engine.ranks import ALONE, Ranks
from ttrl_engine.sampler import SampleRequest, SamplingParams, StopRequested
from ttrl_engine.torch_sampler import TorchSampler
from ttrl_engine.vllm_sampler import GPU_SHARE, VllmSampler, split_of_gpu

QWEN: dict[str, Any] = {"model_type": "qwen2", "vocab_size": 151_936, "max_position_embeddings": 4096}
SIZES: dict[str, dict[str, Any]] = {
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7B": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEYS = {"0.5B": 2, "1.5B": 2, "7B": 4}


def config_of(name: str) -> dict[str, Any]:
    return {**QWEN, **SIZES[name], "num_key_value_heads": KEYS[name], "tie_word_embeddings": name != "7B"}


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_config(config_of(name))


@pytest.mark.parametrize(
    ("name", "gib", "method", "sleeps"),
    [
        ("0.5B", 24, "lora", True),
        ("0.5B", 80, "lora", False),
        ("1.5B", 48, "lora", True),
        ("1.5B", 141, "lora", False),
        ("1.5B", 141, "full", False),
        ("1.5B", 80, "full", True),
        ("7B", 80, "lora", True),
        ("7B", 141, "full", True),
    ],
)
def test_the_engine_sleeps_where_both_do_not_fit_at_once_and_only_there(
    name: str, gib: int, method: str, sleeps: bool
) -> None:
    config, gpu = RunConfig().with_changes(**{"model.method": method}), gib * GIB
    found = estimate(shape_of(name), config, "cuda", gpu)
    assert found.split is not None
    assert (found.split.sleeps, found.split.fits) == (sleeps, True)
    of_engine = ("vllm weights", "vllm fixed", "key-value cache", "sampling")
    resident, updating = (
        sum(part.bytes for part in found.parts if part.name not in of_engine and part.when == when)
        for when in ("always", "updating")
    )
    peak = resident + updating
    at_once = resident if sleeps else peak
    everything = estimate(shape_of(name), config, "cuda")
    engine = {part.name: part.bytes for part in everything.parts}
    whole = sum(engine[part] for part in of_engine)
    # No more than it could ever use; the cache that the torch sampler would keep takes nothing from it.
    assert found.split.engine == min(int(COMFORTABLE * gpu) - at_once, whole)
    if not sleeps:
        assert found.total <= COMFORTABLE * gpu
        assert found.total == peak + found.split.engine
    else:
        assert COMFORTABLE * gpu - peak < whole, "there was room for both"


@pytest.mark.parametrize(("name", "gib"), [("7B", 16), ("1.5B", 8), ("0.5B", 4)])
def test_what_cannot_start_is_told_with_what_it_needs(name: str, gib: int) -> None:
    split = estimate(shape_of(name), RunConfig(), "cuda", gib * GIB).split
    assert split is not None
    assert not split.fits
    weights = 2 * shape_of(name).parameters
    assert weights + 3 * GIB < split.engine < weights + 6 * GIB


def test_shorter_answers_or_smaller_batches_let_both_stay_awake() -> None:
    shape, gpu = shape_of("1.5B"), 80 * GIB
    awake = {"train.tokens_per_batch": 4_096, "vote.max_new_tokens": 1_024}
    for changes, sleeps in (({}, True), (awake, False)):
        split = estimate(shape, RunConfig().with_changes(**changes), "cuda", gpu).split
        assert split is not None
        assert split.sleeps == sleeps


@pytest.mark.parametrize("gpu", range(10, 130, 7))
def test_a_larger_gpu_never_makes_it_worse(gpu: int) -> None:
    small, large = (split_gpu(size, 10, 40, 8, 30, 1) for size in (gpu, gpu + 7))
    assert (large.fits, not large.sleeps) >= (small.fits, not small.sleeps)
    if small.fits and small.sleeps == large.sleeps:
        assert large.engine >= small.engine


def test_without_a_gpu_there_is_nothing_to_divide() -> None:
    assert estimate(shape_of("1.5B"), RunConfig(), "cpu", 64 * GIB).split is None
    assert estimate(shape_of("1.5B"), RunConfig(), "cuda").split is None
    assert split_of_gpu(_policy("cpu"), RunConfig()) is None


def test_what_other_programs_hold_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    total, mine, theirs = 141 * GIB, 4 * GIB, 30 * GIB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: mine)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (total - mine - theirs - PROCESS["cuda"], total))
    expected = estimate(shape_of("1.5B"), RunConfig(), "cuda", total - theirs).split
    assert split_of_gpu(_policy("cuda"), RunConfig()) == expected
    assert split_of_gpu(_policy("cuda", {"model_type": "unheard-of"}), RunConfig()) is None


class Engine:
    """Records what it is asked for, in the order in which it is."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        core = SimpleNamespace(shutdown=lambda: log.append("shutdown"))
        self.llm_engine = SimpleNamespace(engine_core=core, abort_request=lambda _: None)

    def sleep(self, level: int) -> None:
        self.log.append(f"sleep {level}")

    def wake_up(self) -> None:
        self.log.append("wake up")


def test_a_sleeping_engine_wakes_to_sample_once_the_trainer_has_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    log, options = _start(monkeypatch, Split(35 * GIB, True, True))
    assert options["enable_sleep_mode"]
    assert options["gpu_memory_utilization"] == pytest.approx(0.35)
    assert log == ["sleep 1", "empty cache", "wake up", "sample", "sleep 1", "shutdown"]


def test_an_engine_with_room_of_its_own_never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    log, options = _start(monkeypatch, Split(40 * GIB, False, True))
    assert not options["enable_sleep_mode"]
    assert options["gpu_memory_utilization"] == pytest.approx(0.4)
    assert log == ["sample", "shutdown"]
    assert _start(monkeypatch, None)[1]["gpu_memory_utilization"] == GPU_SHARE


@pytest.mark.parametrize("wanted", ["auto", "vllm"])
def test_where_vllm_cannot_start_a_run_takes_torch_or_says_why_not(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    run = trainer._Run.__new__(trainer._Run)
    run.config, run.policy = RunConfig().with_changes(**{"hardware.sampler": wanted}), _policy("cuda")
    run.ranks = ALONE
    run.emit = lambda event: notes.append(event.message)  # type: ignore[attr-defined]
    monkeypatch.setattr(trainer, "vllm_installed", lambda: True)
    monkeypatch.setattr(trainer, "cache_budget", lambda _device: GIB)
    monkeypatch.setattr(trainer, "split_of_gpu", lambda _policy, _config: Split(9 * GIB, True, False))
    if wanted == "vllm":
        with pytest.raises(RunError, match=r"vLLM needs 9\.0 GiB.*Set the sampler to `torch`"):
            run._make_sampler()
        return
    assert isinstance(run._make_sampler(), TorchSampler)
    assert "so the torch sampler is used" in notes[0]


def test_ranks_take_one_sampler_where_only_one_of_them_has_too_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [value, Split(9 * GIB, True, False)]

    run = trainer._Run.__new__(trainer._Run)
    run.config, run.policy, run.ranks = RunConfig(), _policy("cuda"), Two(0, 2)
    run.emit = lambda _event: None
    monkeypatch.setattr(trainer, "vllm_installed", lambda: True)
    monkeypatch.setattr(trainer, "cache_budget", lambda _device: GIB)
    monkeypatch.setattr(trainer, "split_of_gpu", lambda _policy, _config: Split(35 * GIB, False, True))
    assert isinstance(run._make_sampler(), TorchSampler)


def test_an_engine_that_refuses_to_sleep_is_told_and_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Engine, level: int) -> None:
        raise AssertionError(f"no sleep of level {level} with segments that expand")

    monkeypatch.setattr(Engine, "sleep", refuse)
    with pytest.raises(RunError, match=r"vLLM could not start: no sleep of level 1.*Set the sampler to `torch`"):
        _start(monkeypatch, Split(35 * GIB, True, True))


def _policy(device: str, config: dict[str, Any] | None = None) -> Any:
    known = SimpleNamespace(to_dict=lambda: config_of("1.5B") if config is None else config)
    base = SimpleNamespace(config=known, dtype=torch.bfloat16)
    return SimpleNamespace(device=torch.device(device), base=base, model=base, lora_rank=0)


def _start(monkeypatch: pytest.MonkeyPatch, split: Split | None) -> tuple[list[str], dict[str, Any]]:
    """Start a sampler on a GPU of 100 GiB that is not there, have it sample, and close it."""
    log: list[str] = []
    options: dict[str, Any] = {}

    def engine(**given: Any) -> Engine:
        options.update(given)
        return Engine(log)

    def sampled(*_: object) -> None:
        log.append("sample")
        raise StopRequested

    monkeypatch.setattr(vllm_sampler, "vllm_installed", lambda: True)
    monkeypatch.setattr(vllm_sampler, "_engine", engine)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("empty cache"))
    gpu = SimpleNamespace(total_memory=100 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: gpu)
    monkeypatch.setattr(VllmSampler, "_sample", sampled)
    sampler = VllmSampler(_policy("cuda"), "bundled:abacus-1m", None, 64, 0, split=split)
    with pytest.raises(StopRequested):
        sampler.sample([SampleRequest((1,), 1, 0)], SamplingParams(1.0, 1.0, 4, ()), lambda *_: None, lambda: False)
    sampler.close()
    return log, options
